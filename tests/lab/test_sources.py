"""What is read of files: documents, labels, pieces that join to the whole, mistakes."""

import datetime
import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import parting, sources
from lab.errors import Refused
from lab.labels import label
from lab.parting import cut_at_lines, has_mark, parted_by_marks
from lab.sources import Columns, Document, find_files, pieces
from tests.lab.building import few

RECORDS = [
    {"text": f"document {k} é\nsays {'x' * k}", "score": k / 4, "date": f"2021-03-{1 + k:02}"}
    for k in range(25)
]
LABELLED = Columns(labels=(("score", "score"), ("when", "date")))


def read(*paths: Path, columns: Columns = Columns()) -> list[Document]:  # noqa: B008  (frozen)
    return [
        one
        for piece in pieces(find_files([str(path) for path in paths]), columns)
        for one in sources.documents(piece, columns)
    ]


def write_lines(path: Path, records: list[Any]) -> Path:
    content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(content, "zstd", asbytes=True))
    else:
        path.write_bytes(content)
    return path


def texts(documents: list[Document]) -> list[bytes]:
    return [text for text, _ in documents]


# Plain text ----------------------------------------------------------------------------------


def one_file(folder: Path, content: bytes) -> list[bytes]:
    path = folder / "text.txt"
    path.write_bytes(content)
    return [text for text in texts(read(path)) if text.strip()]


def test_one_file_is_parted_by_form_feeds_or_two_blank_lines(tmp_path: Path) -> None:
    assert one_file(tmp_path, b"one\x0ctwo\x0c\x0cthree\n") == [b"one", b"two", b"three\n"]
    assert one_file(tmp_path, b"one\n\n\ntwo\n\nstill two\r\n\r\n \r\nthree") == [
        b"one",
        b"two\n\nstill two",
        b"three",
    ]


def test_one_file_without_marks_is_cut_at_line_ends(tmp_path: Path) -> None:
    content = b"".join(b"line %d of a long text\n" % k for k in range(1000))
    documents = one_file(tmp_path, content)
    assert len(documents) > 3
    assert b"".join(documents) == content
    assert all(document.endswith(b"\n") for document in documents)
    assert all(4096 <= len(document) < 4096 + 30 for document in documents[:-1])
    assert one_file(tmp_path, b"x" * 10_000) == [b"x" * 10_000]


def cut(text: bytes, places: list[int]) -> Iterator[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return (text[a:b] for a, b in itertools.pairwise(edges))


spaced = st.text("ab \t\r\n\f", max_size=60).map(str.encode)


@few
@given(spaced, st.lists(st.integers(0, 60)))
def test_parting_is_that_of_the_whole_text_wherever_blocks_are_cut(
    text: bytes, places: list[int]
) -> None:
    whole = re.split(rb"\f|\r?\n(?:[ \t]*\r?\n){2,}", text)
    assert list(parted_by_marks(cut(text, places))) == whole
    assert has_mark(cut(text, places)) == (len(whole) > 1)


@few
@given(spaced, st.lists(st.integers(0, 60)), st.integers(1, 9))
def test_cutting_is_that_of_the_whole_text_wherever_blocks_are_cut(
    text: bytes, places: list[int], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parting, "CUT_BYTES", size)
        found = list(cut_at_lines(cut(text, places)))
    assert found == re.findall(rb"(?s).{%d}[^\n]*\n?|.+\Z" % size, text)


def test_several_files_are_a_document_each_and_a_folder_is_its_files(tmp_path: Path) -> None:
    contents = {"a.txt": b"one\n\n\nstill one", "b/c.md": b"two", ".hidden.txt": b"no"}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "picture.png").write_bytes(b"\xff")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"three"))
    wanted = [b"one\n\n\nstill one", b"two", b"three"]
    assert texts(read(tmp_path)) == wanted
    assert texts(read(tmp_path / "?.*")) == [wanted[0], wanted[2]]


def test_a_packed_file_alone_is_parted_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ftwo"))
    (tmp_path / "a.txt.zst").write_bytes(pa.compress(b"one\ftwo", "zstd", asbytes=True))
    assert texts(read(tmp_path / "a.txt.gz")) == [b"one", b"two"]
    assert texts(read(tmp_path / "a.txt.zst")) == [b"one", b"two"]


# Records -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("size", [7, 64, 2**24])
def test_lines_are_read_once_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    monkeypatch.setattr(sources, "PIECE_BYTES", size)
    found = read(write_lines(tmp_path / name, RECORDS), columns=LABELLED)
    assert texts(found) == [one["text"].encode() for one in RECORDS]
    day = datetime.date(2021, 3, 1).toordinal() - datetime.date(1970, 1, 1).toordinal()
    assert [labels for _, labels in found] == [(k / 4, float(day + k)) for k in range(25)]


@few
@given(st.lists(st.text(max_size=9), max_size=9), st.integers(1, 80))
def test_any_text_comes_back_from_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, written: list[str], size: int
) -> None:
    path = write_lines(tmp_path_factory.mktemp("lines") / "a.jsonl", [{"text": t} for t in written])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE_BYTES", size)
        assert texts(read(path)) == [text.encode() for text in written]


@pytest.mark.parametrize("size", [1, 2**24])
def test_row_groups_are_read_once_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sources, "PIECE_BYTES", size)
    moment = datetime.datetime(2021, 3, 1, 12, tzinfo=datetime.UTC)
    rows = [{**one, "date": moment + datetime.timedelta(k)} for k, one in enumerate(RECORDS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=4)
    assert len(pieces([tmp_path / "a.parquet"], LABELLED)) == (7 if size == 1 else 1)
    found = read(tmp_path / "a.parquet", columns=LABELLED)
    assert texts(found) == [one["text"].encode() for one in RECORDS]
    assert [labels for _, labels in found] == [(k / 4, 18687.5 + k) for k in range(25)]


def test_labels_that_nobody_told_are_those_of_the_first_record(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "a.jsonl", RECORDS)
    assert sources.first_record_labels([lines]) == (("score", "score"), ("date", "date"))
    pq.write_table(pa.table({"text": ["a"], "date": ["2020"]}), tmp_path / "a.parquet")
    assert sources.first_record_labels([tmp_path / "a.parquet"]) == (("date", "date"),)


@pytest.mark.parametrize(
    ("value", "number"),
    [(True, 1.0), (3, 3.0), ("2.5", 2.5), ("1970-01-03T06:00:00Z", 2.25), ("1970-01-02", 1.0),
     (datetime.date(1969, 12, 31), -1.0)],
)  # fmt: skip
def test_a_label_is_a_number(value: Any, number: float) -> None:
    assert label(value, "score", str) == number


@pytest.mark.parametrize("value", [None, "good", float("nan"), "inf", [1], {}, 10**400])
def test_what_is_no_number_is_no_label(value: Any) -> None:
    with pytest.raises(Refused, match=r"here: column 'score' holds .*: a label is a finite number"):
        label(value, "score", lambda: "here")


# Mistakes ------------------------------------------------------------------------------------

GOOD = b'{"text": "one", "score": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", GOOD * 2 + b"{text\n", "a.jsonl, line 3: not JSON"),
        ("a.jsonl", GOOD + b"[1]\n", "a.jsonl, line 2: not a JSON object"),
        ("a.jsonl", GOOD + b'{"text": "\xff"}\n', "a.jsonl, line 2: not UTF-8"),
        ("a.jsonl", b'{"body": "one"}\n', "line 1: no column 'text'; it has body"),
        ("a.jsonl", GOOD + b"\n" + b'{"text": "a"}\n', "line 3: no column 'score'; it has text"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: column 'text' holds 3, not text"),
        ("a.jsonl", b'{"text": "\\ud800", "score": 1}\n', "line 1: the text is not Unicode"),
        ("a.jsonl.gz", b"no gzip", "cannot read .*a.jsonl.gz: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(GOOD, mtime=0)[:-9],
            "cannot read .*a.jsonl.gz: Compressed file ended",
        ),
        ("a.jsonl.zst", b"no zstd", "cannot read .*a.jsonl.zst: "),
        ("a.parquet", b"PAR1", "cannot read .*a.parquet: "),
        ("a.parquet.gz", b"PAR1", "Parquet is packed within"),
        ("a.txt", b"good", "column 'score': .*a.txt is plain text, which has no columns"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=said) as refusal:
        read(tmp_path / name, columns=Columns(labels=(("score", "score"),)))
    assert "\n" not in str(refusal.value)


def test_a_mistake_in_a_later_piece_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PIECE_BYTES", 50)
    (tmp_path / "a.jsonl").write_bytes(GOOD * 9 + b"x\n")
    with pytest.raises(Refused, match="line 10: not JSON"):
        read(tmp_path / "a.jsonl")


def test_mistakes_in_columns_of_parquet_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["a"], "text": [1], "score": [None]}), path)
    with pytest.raises(Refused, match=r"a.parquet: no column 'words'; it has body, text, score"):
        read(path, columns=Columns("words"))
    with pytest.raises(Refused, match=r"a.parquet: column 'text' holds int64, not text"):
        read(path)
    with pytest.raises(Refused, match=r"a.parquet, row 1: column 'score' holds None"):
        read(path, columns=Columns("body", (("score", "score"),)))


def test_sources_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"cannot read .*none.txt: No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(Refused, match=r"no file is called .*\*.jsonl"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(Refused, match="no text in the folder"):
        read(tmp_path)


def test_plain_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(Refused, match=r"a.txt: not UTF-8: save it as UTF-8 first"):
        read(tmp_path / "a.txt")


def test_a_document_too_long_to_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parting, sources):
        monkeypatch.setattr(module, "LARGEST_DOCUMENT", 100)
    monkeypatch.setattr(sources, "READ_BYTES", 30)
    write_lines(tmp_path / "a.jsonl", [{"text": "x" * 200}])
    (tmp_path / "a.txt").write_bytes(b"x" * 200)
    (tmp_path / "b.txt").write_bytes(b"x\f" + b"x" * 200)
    for paths in (["a.jsonl"], ["a.txt"], ["b.txt"], ["a.txt", "b.txt"]):
        with pytest.raises(Refused, match="a document is longer than 100 bytes: part it"):
            read(*(tmp_path / one for one in paths))


@pytest.mark.parametrize("name", ["Score", "tokens", "a.b", ""])
def test_a_label_must_be_named_as_scores_are(name: str) -> None:
    with pytest.raises(Refused, match=r"label .*: small letters"):
        Columns(labels=((name, "score"),))
    with pytest.raises(Refused, match=r"label 'a': is named twice"):
        Columns(labels=(("a", "a"), ("a", "b")))
