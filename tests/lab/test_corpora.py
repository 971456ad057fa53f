"""Documents are split before windows are cut, and a store is what it was when it was written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lab import corpora, placing, texts
from lab.corpora import open_corpus, split_documents, write_store
from lab.errors import Failed, Refused
from lab.texts import Text
from tests.lab.building import corpus_of

DOCUMENTS = [b"document %d says " % k + bytes([65 + k % 26]) * (40 + k) for k in range(60)]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return tmp_path / "corpora"


def prepare(home: Path, name: str, documents: list[bytes] = DOCUMENTS) -> corpora.Corpus:
    write_store(home / name, name, Text(documents, "a test"))
    return open_corpus(name)


def documents_in(tokens: corpora.Tokens) -> set[bytes]:
    return set(tokens.tobytes().removesuffix(b"\0").split(b"\0"))


# Splitting -----------------------------------------------------------------------------------


def test_every_document_is_on_one_side() -> None:
    train, validation, duplicates = split_documents(DOCUMENTS)
    assert sorted(train + validation) == sorted(DOCUMENTS)
    assert not set(train) & set(validation)
    assert duplicates == 0
    held = sum(map(len, validation)) / sum(map(len, DOCUMENTS))
    assert 0.05 <= held < 0.05 + max(map(len, DOCUMENTS)) / sum(map(len, DOCUMENTS))


def test_the_side_does_not_depend_on_the_order_of_documents() -> None:
    _, validation, _ = split_documents(DOCUMENTS)
    _, backwards, _ = split_documents(DOCUMENTS[::-1])
    assert set(validation) == set(backwards)


def test_duplicates_are_dropped_before_the_split() -> None:
    train, validation, duplicates = split_documents(DOCUMENTS + DOCUMENTS[:7])
    assert duplicates == 7
    assert (train, validation) == split_documents(DOCUMENTS)[:2]


def test_two_documents_make_a_side_each_and_one_is_refused(own_home: Path) -> None:
    train, validation, _ = split_documents([b"one", b"two"])
    assert (len(train), len(validation)) == (1, 1)
    with pytest.raises(Refused, match="'small': needs at least two documents"):
        prepare(own_home, "small", [b"one", b"one"])
    assert not own_home.exists()


def test_no_validation_text_is_trained_on(own_home: Path) -> None:
    (store,) = prepare(own_home, "mine").parts
    train, validation = documents_in(store.train), documents_in(store.validation)
    assert train | validation == set(DOCUMENTS)
    assert not train & validation


# Stores --------------------------------------------------------------------------------------


def test_a_store_says_what_it_holds(own_home: Path) -> None:
    (store,) = prepare(own_home, "mine", DOCUMENTS + DOCUMENTS[:3]).parts
    assert (store.documents, store.duplicates, store.vocabulary) == (60, 3, 256)
    text = sum(map(len, documents_in(store.validation)))
    assert store.bytes_per_token == text / len(store.validation)
    assert len(store.train) + len(store.validation) == sum(map(len, DOCUMENTS)) + 60


def test_the_digest_is_that_of_the_text(own_home: Path) -> None:
    digest = prepare(own_home, "one").digest
    assert prepare(own_home, "two").digest == digest
    changed = [DOCUMENTS[0] + b"!", *DOCUMENTS[1:]]
    assert prepare(own_home, "three", changed).digest != digest
    assert prepare(own_home, "four", DOCUMENTS[::-1]).digest != digest  # another order of tokens


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_flipped_byte_is_found_by_verify(own_home: Path, side: str) -> None:
    prepare(own_home, "mine")
    open_corpus("mine", verify=True)
    path = own_home / "mine" / f"{side}.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Failed, match="is not what was written: remove that folder"):
        open_corpus("mine", verify=True)


@pytest.mark.parametrize("description", ["", "[]", "{}", '{"format":1}', "[1", '{"format":2}'])
def test_a_description_that_is_none_is_said_in_one_line(own_home: Path, description: str) -> None:
    prepare(own_home, "mine")
    (own_home / "mine" / "corpus.json").write_text(description)
    with pytest.raises((Failed, Refused), match=r"corpus in .*mine") as said:
        open_corpus("mine")
    assert "\n" not in str(said.value)


def test_a_store_without_tokens_is_said(own_home: Path) -> None:
    prepare(own_home, "mine")
    (own_home / "mine" / "train.bin").unlink()
    with pytest.raises(Failed, match="cannot be read"):
        open_corpus("mine")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(placing.os, "replace"), (Path, "write_bytes"), (placing.tempfile, "mkdtemp")],
)
def test_a_full_disk_leaves_nothing_behind(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(Failed, match="No space left on device"):
            prepare(own_home, "mine")
    assert not own_home.exists()


def test_who_comes_second_keeps_the_store_of_the_first(own_home: Path) -> None:
    digest = prepare(own_home, "mine").digest
    assert prepare(own_home, "mine", DOCUMENTS[:9]).digest == digest
    assert [path.name for path in own_home.iterdir()] == ["mine"]


def test_a_try_without_a_description_is_made_again(own_home: Path) -> None:
    (own_home / "mine").mkdir(parents=True)
    (own_home / "mine" / "train.bin").write_bytes(b"half")
    assert prepare(own_home, "mine").parts[0].documents == 60


# Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../mine", "mine/..", "", "Mine", "mine+", ".mine", "mine\n", "-x"]
)
def test_what_is_no_name_is_refused_with_the_known_ones(own_home: Path, name: str) -> None:
    prepare(own_home, "mine")
    with pytest.raises(
        Refused,
        match=r"unknown corpus .*; known: prose, docs, code, .*, mine(; did you mean 'mine'\?)?$",
    ):
        open_corpus(name)


def test_a_built_in_text_is_made_once(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    text = Text(DOCUMENTS, "a test", entropy_rate_nats=1.5)
    monkeypatch.setitem(texts.BUILT_IN, "code", lambda: made.append(1) or text)
    first, second = open_corpus("code"), open_corpus("code")
    assert first.digest == second.digest
    assert first.parts[0].entropy_rate_nats == 1.5
    assert made == [1]
    assert [path.name.partition("@")[0] for path in own_home.iterdir()] == ["code"]


@pytest.mark.parametrize("terminal", [True, False])
def test_making_a_built_in_text_is_said_once_on_a_terminal(
    terminal: bool,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(texts.BUILT_IN, "code", lambda: Text(DOCUMENTS, "a test"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    open_corpus("code")
    open_corpus("code")
    assert capsys.readouterr().err == "lab: making the corpus code, once\n" * terminal


def test_what_a_killed_process_was_making_is_no_corpus(own_home: Path) -> None:
    prepare(own_home, "mine")
    (own_home / "mine").rename(own_home / ".making-x")
    assert corpora.known_names() == list(texts.BUILT_IN)


# Windows and unions --------------------------------------------------------------------------


def test_a_union_is_the_same_in_either_order(own_home: Path) -> None:
    one, two = prepare(own_home, "one"), prepare(own_home, "two", DOCUMENTS[:20])
    forth, back = open_corpus("one+two"), open_corpus("two+one")
    assert forth.digest == back.digest
    assert forth.digest not in (one.digest, two.digest)
    assert forth.train_tokens == one.train_tokens + two.train_tokens
    windows = np.arange(forth.train_windows(16))
    assert np.array_equal(forth.read_windows(windows, 16), back.read_windows(windows, 16))
    assert open_corpus("one+one").digest == one.digest


def test_windows_of_a_union_are_those_of_its_parts() -> None:
    numbers = np.arange(300, dtype=np.uint16)
    one = corpus_of("one", numbers[:40], numbers[50:71])  # no token behind a fourth window
    two = corpus_of("two", numbers[100:121], numbers[200:231])
    both = corpora.Corpus("one+two", one.parts + two.parts)
    assert [corpus.train_windows(10) for corpus in (one, two, both)] == [3, 2, 5]
    windows = both.read_windows(np.array([4, 0, 3, 2]), 10)
    assert windows.dtype == np.int32
    assert windows.tolist() == [list(range(s, s + 11)) for s in (110, 0, 100, 20)]
    places = both.window_places(np.array([4, 0, 3, 2]), 10)
    joined = np.concatenate([part.train for part in both.parts])
    assert joined[places].tolist() == windows[:, 0].tolist()
    held_out = both.validation_windows(3, 10)
    assert held_out[:, 0].tolist() == [50, 200, 220]
    assert both.bytes_per_token == 1.0


def test_bytes_per_token_weighs_parts_by_their_text() -> None:
    tokens = np.arange(41, dtype=np.uint16)
    one = corpus_of("one", tokens, tokens[:10], bytes_per_token=1.0)
    two = corpus_of("two", tokens, tokens[:30], bytes_per_token=4.0)
    assert corpora.Corpus("one+two", one.parts + two.parts).bytes_per_token == 3.25


@pytest.mark.parametrize("count", [1, 2, 7, 99, 100])
def test_validation_windows_are_distinct_and_spread_over_the_text(count: int) -> None:
    tokens = np.arange(801, dtype=np.uint16)
    starts = corpus_of("one", tokens, tokens).validation_windows(count, 8)[:, 0] // 8
    assert len(set(starts.tolist())) == count
    assert starts[0] == 0
    assert count == 1 or starts[-1] == 99
    gaps = np.diff(starts)
    assert count < 3 or gaps.max() - gaps.min() <= 1


def test_too_few_validation_windows_are_refused() -> None:
    tokens = np.arange(801, dtype=np.uint16)
    with pytest.raises(Refused, match="'one' has 100 validation windows of 8 tokens, not 101"):
        corpus_of("one", tokens, tokens).validation_windows(101, 8)


def test_the_description_is_canonical_json(own_home: Path) -> None:
    prepare(own_home, "mine")
    text = (own_home / "mine" / "corpus.json").read_text()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
