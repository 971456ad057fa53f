"""A store is the same whatever made it: one process or two, killed before or not, bytes or ids."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import prepare, sources
from lab.corpora import TokenStore, known_names, open_corpus, split_documents, write_store
from lab.errors import Failed, Refused
from lab.placing import MAKING
from lab.prepare import Recipe
from lab.scores import document_scores, document_tokens
from lab.sources import Columns
from lab.texts import Text
from tests.lab.building import few

ROOT = Path(__file__).parents[2]
RECORDS = [
    {"text": f"record {k} says " + f"word{k % 7} " * (9 + k % 11), "score": k, "kind": "x"}
    for k in range(200)
]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "corpora"


def lines(path: Path, records: list[Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def several(folder: Path, records: list[Any]) -> list[str]:
    """The records in five files: a piece each, for processes to share."""
    return [lines(folder / f"{k}.jsonl", records[k * 60 : (k + 1) * 60]) for k in range(5)]


def small_pieces(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sources, "PIECE_BYTES", 2000)
    patch.setattr(prepare, "CHUNK_BYTES", 700)


def prepared(name: str, *files: str, processes: int = 1, **more: Any) -> TokenStore:
    fields: dict[str, Any] = {"columns": Columns(), "labels_told": False} | more
    assert prepare.prepare(name, Recipe(files, **fields), processes)
    return open_corpus(name, verify=True).parts[0]


def documents(store: TokenStore) -> list[bytes]:
    ends = document_tokens(store).cumsum()
    cut = np.split(np.asarray(store.train), ends[:-1])
    return [one.tobytes().removesuffix(b"\0") for one in cut]


def files_of(store: TokenStore) -> dict[str, bytes]:
    assert store.folder is not None
    return {
        path.relative_to(store.folder).as_posix(): path.read_bytes()
        for path in sorted(store.folder.rglob("*"))
        if path.is_file() and path.name != "corpus.json"
    }


# What is made --------------------------------------------------------------------------------


def test_a_store_holds_what_the_plain_way_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    small_pieces(monkeypatch)
    twice = [*RECORDS, *RECORDS[:9], {"text": " \n", "score": 0}]
    store = prepared("mine", lines(tmp_path / "a.jsonl", twice))
    texts = [one["text"].encode() for one in twice if one["text"].strip()]
    write_store(own_home / "plain", "plain", Text(texts, "a test"))
    (plain,) = open_corpus("plain").parts
    assert store.digest == plain.digest
    assert store.bytes_per_token == plain.bytes_per_token
    assert (store.documents, store.duplicates) == (200, 9)
    assert document_tokens(store).tolist() == document_tokens(plain).tolist()
    scores = {one["text"].encode(): one["score"] for one in RECORDS}
    assert document_scores(store, "score").tolist() == [scores[one] for one in documents(store)]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_two_processes_write_the_bytes_of_one(tmp_path: Path, tokenizer: str) -> None:
    if tokenizer != "bytes":
        pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    files = several(tmp_path, [*RECORDS, *RECORDS[:50]])
    one = prepared("one", *files, tokenizer=tokenizer)
    two = prepared("two", *files, tokenizer=tokenizer, processes=2)
    assert one.digest == two.digest
    assert files_of(one) == files_of(two)
    assert one.duplicates == two.duplicates == 50


@few
@given(st.lists(st.text("ab \n", min_size=1, max_size=6), min_size=4, max_size=30))
def test_no_document_is_on_both_sides_and_none_is_there_twice(
    tmp_path_factory: pytest.TempPathFactory, written: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    name = lines(folder / "a.jsonl", [{"text": text} for text in written])
    wanted = {text.encode() for text in written if text.strip()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(folder / "home"))
        patch.setattr(sources, "PIECE_BYTES", 40)
        patch.setattr(prepare, "CHUNK_BYTES", 9)
        if len(wanted) < 2:
            with pytest.raises(Refused, match=r"no text in|needs at least two documents"):
                prepared("mine", name)
            assert not (folder / "home" / "corpora").exists()
            return
        store = prepared("mine", name)
        train = documents(store)
        held_out = store.validation.tobytes().removesuffix(b"\0").split(b"\0")
    assert sorted(train + held_out) == sorted(wanted)
    assert (set(train), set(held_out)) == tuple(map(set, split_documents(sorted(wanted))[:2]))
    assert store.duplicates == sum(bool(text.strip()) for text in written) - len(wanted)


def test_labels_are_those_that_were_told(tmp_path: Path) -> None:
    name = lines(tmp_path / "a.jsonl", [{**one, "date": "2020-01-02"} for one in RECORDS])
    found = sorted(os.listdir(_labels(prepared("all", name))))
    assert found == ["date.npy", "score.npy", "tokens.npy"]
    kept = prepared("some", name, columns=Columns(labels=(("rank", "score"),)), labels_told=True)
    assert sorted(os.listdir(_labels(kept))) == ["rank.npy", "tokens.npy"]


def _labels(store: TokenStore) -> Path:
    assert store.folder is not None
    return store.folder / "documents"


# Again, and killed ---------------------------------------------------------------------------


def test_the_same_again_is_done_at_once_and_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = lines(tmp_path / "a.jsonl", RECORDS)
    store = prepared("mine", name)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_spool", lambda *_: pytest.fail("was read again"))
        assert not prepare.prepare("mine", Recipe((name,), Columns(), labels_told=False))
    with pytest.raises(Refused, match="'mine' is there already, prepared from something else"):
        prepared("mine", name, columns=Columns("kind"))
    lines(tmp_path / "a.jsonl", RECORDS[:100])
    with pytest.raises(Refused, match="'mine' is there already"):
        prepared("mine", name)
    assert open_corpus("mine").digest == store.digest


KILLED = """
import sys
from pathlib import Path
from lab import prepare
from lab.sources import Columns

def told(what, done, of):
    print(what, flush=True)
    if what == sys.argv[1]:
        sys.stdin.read()

if __name__ == "__main__":
    recipe = prepare.Recipe(tuple(sys.argv[3:]), Columns(), labels_told=False)
    prepare.prepare("mine", recipe, int(sys.argv[2]), told)
"""


@pytest.mark.parametrize(("what", "processes"), [("reading", 1), ("tokenising", 2)])
def test_what_a_killed_process_left_is_no_corpus_and_goes(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, what: str, processes: int
) -> None:
    files = several(tmp_path, RECORDS)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    one = subprocess.Popen(
        [sys.executable, str(script), what, str(processes), *files],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert one.stdout is not None
    while what not in (line := one.stdout.readline()):
        assert line, "it ended before it was killed"
    workers = _children(one.pid)
    assert len(workers) >= processes if processes > 1 else not workers
    one.send_signal(signal.SIGKILL)
    one.communicate()
    end = time.monotonic() + 20
    while (left := [pid for pid in workers if _lives(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left  # its workers end with it
    assert "mine" not in known_names()
    (begun,) = own_home.glob(f"{MAKING}*")
    prepared("other", *files)
    assert begun.exists()  # it is young: somebody may be at it
    monkeypatch.setattr(prepare, "ABANDONED_SECONDS", -1.0)
    prepared("mine", *files)
    assert sorted(path.name for path in own_home.iterdir()) == ["mine", "other"]


def _children(pid: int) -> list[int]:
    import psutil

    return [one.pid for one in psutil.Process(pid).children(recursive=True)]


def _lives(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_who_is_at_work_is_left_alone(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "ABANDONED_SECONDS", -1.0)
    first, second = (lines(tmp_path / f"{k}.jsonl", RECORDS[k:]) for k in (0, 50))
    made: list[TokenStore] = []

    def told(what: str, done: int, of: int) -> None:
        if not made:
            made.append(prepared("second", second))

    assert prepare.prepare("first", Recipe((first,), Columns(), labels_told=False), 1, told)
    assert open_corpus("first", verify=True).parts[0].documents == 200
    assert made[0].documents == 150


# Mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"name": "code"}, "corpus 'code' is built in"),
        ({"name": "../mine"}, "small letters, digits, - and _ only"),
        ({"name": "best-mine"}, "are made from corpora that are there"),
        ({"columns": Columns("words")}, "line 1: no column 'words'; it has text, score, kind"),
        ({"columns": Columns(labels=(("a", "age"),))}, "line 1: no column 'age'"),
        ({"columns": Columns(labels=(("kind", "kind"),))}, "holds 'x': a label is a finite number"),
        ({"tokenizer": "words"}, "tokenizer 'words': must be bytes"),
        ({"processes": 0}, "must be at least 1"),
        ({"files": ["none.jsonl"]}, "cannot read none.jsonl: No such file"),
        ({"files": ["BLANK"]}, "no text in 1 JSON lines file"),
        ({"files": ["ONE"]}, "'mine': needs at least two documents, to hold one out"),
        ({"files": ["hf:x/y", "FILE"]}, "files and Hugging Face data sets make a corpus each"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    tmp_path: Path, own_home: Path, told: dict[str, Any], said: str
) -> None:
    known = {
        "FILE": lines(tmp_path / "a.jsonl", RECORDS),
        "BLANK": lines(tmp_path / "blank.jsonl", [{"text": " "}]),
        "ONE": lines(tmp_path / "one.jsonl", [{"text": "one"}, {"text": "one"}]),
    }
    files = [known.get(one, one) for one in told.pop("files", ["FILE"])]
    fields = {"columns": Columns(), "tokenizer": "bytes"} | told
    name, processes = fields.pop("name", "mine"), fields.pop("processes", 1)
    with pytest.raises(Refused, match=said) as refusal:
        prepare.prepare(name, Recipe(tuple(files), **fields), processes)
    assert "\n" not in str(refusal.value)
    assert not own_home.exists()


def test_a_mistake_that_another_process_finds_is_the_same_line(
    tmp_path: Path, own_home: Path
) -> None:
    files = several(tmp_path, [*RECORDS, 3])
    with pytest.raises(Refused, match=r"3.jsonl, line 21: not a JSON object"):
        prepared("mine", *files, processes=2)
    assert not own_home.exists()


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    name = lines(tmp_path / "a.jsonl", RECORDS)
    monkeypatch.setattr(prepare, "_append", full)
    with pytest.raises(Failed, match=r"cannot write corpus 'mine' to .*: No space left on device"):
        prepared("mine", name)
    assert not own_home.exists()
