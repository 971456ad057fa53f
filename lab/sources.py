"""The user's files -> documents: plain text, JSON lines, Parquet; plain, .gz or .zst.

A source is a file, a folder (all files below it of a known kind) or a pattern. Files are cut into
pieces that several processes can read: a stretch of the lines of a file, some of its row groups,
some small files. A piece is read as a stream, so that no file has to fit in memory. A document is
its bytes, in UTF-8, and a number for each label that is kept of it.
"""

import glob
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from lab.errors import Refused
from lab.labels import label, shown
from lab.parting import LARGEST_DOCUMENT, cut_at_lines, has_mark, parted_by_marks
from lab.spec import SCORE

PIECE_BYTES = 2**24  # of a source, that one process reads
READ_BYTES = 2**20

LINES, PARQUET, TEXTS, PARTED, HUB = "lines", "parquet", "texts", "parted", "hub"
_LINES = {".jsonl", ".ndjson", ".json"}
_TEXTS = {".txt", ".text", ".md"}
_PACKED = {".gz", ".zst"}
KNOWN = ".txt, .md, .jsonl, .ndjson, .json, .parquet, and .gz or .zst behind them"

Document = tuple[bytes, tuple[float, ...]]


@dataclass(frozen=True)
class Columns:
    """Where the text of a record is, and which labels are kept of it: (name, column) each."""

    text: str = "text"
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in (names := [name for name, _ in self.labels]):
            if not SCORE.fullmatch(name) or name == "tokens":
                raise Refused(f"label {name!r}: small letters, digits, - and _ only, not 'tokens'")
            if names.count(name) > 1:
                raise Refused(f"label {name!r}: is named twice")

    @property
    def label_columns(self) -> tuple[str, ...]:
        return tuple(column for _, column in self.labels)


LABELS_UNTOLD = ("score", "date")  # kept where nobody says which, if the first record has them


@dataclass(frozen=True)
class Piece:
    """Part of a source: bytes, row groups or rows first..last of a file, or some files whole."""

    form: str
    paths: tuple[str, ...]
    size: int  # bytes of the source, for who waits
    first: int = 0
    last: int = 0
    about: dict[str, str] = field(default_factory=dict)  # of a data set of `lab.hub`


def find_files(sources: list[str]) -> list[Path]:
    """The files that sources name, in their order, those of a folder by name. Raises Refused."""
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            below = (one for one in path.rglob("*") if one.is_file())
            files = sorted(one for one in below if _known(one) and not _hidden(one, path))
            if not files:
                raise Refused(f"no text in the folder {source}: looked for {KNOWN}")
        elif path.exists() or not glob.has_magic(source):
            files = [path]
        else:
            files = sorted(one for one in map(Path, glob.glob(source, recursive=True)))
            files = [one for one in files if one.is_file()]
            if not files:
                raise Refused(f"no file is called {source}")
        found += files
    for path in found:
        _told(path, partial(_touch, path))
    return found


def _touch(path: Path) -> None:
    with path.open("rb"):
        pass


def form_of(path: Path) -> str:
    """LINES, PARQUET or TEXTS, by the name: what has no known ending is text."""
    kind = _kind(path)
    return LINES if kind in _LINES else PARQUET if kind == ".parquet" else TEXTS


def _kind(path: Path) -> str:
    endings = [one.lower() for one in path.suffixes[-2:]]
    if endings and endings[-1] in _PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _known(path: Path) -> bool:
    return _kind(path) in _LINES | _TEXTS | {".parquet"}


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _packed(path: str) -> bool:
    return Path(path).suffix.lower() in _PACKED


def described(files: list[Path]) -> str:
    """What the files are, for people: `2 JSON lines files, 1 Parquet file`."""
    counts = Counter(_SHOWN[form_of(path)] for path in files)
    return ", ".join(f"{n} {kind} file{'s' if n > 1 else ''}" for kind, n in counts.items())


_SHOWN = {TEXTS: "plain text", LINES: "JSON lines", PARQUET: "Parquet"}


def pieces(files: list[Path], columns: Columns) -> list[Piece]:
    """Files in pieces of about PIECE_BYTES, in order. Raises Refused on columns that are not there.

    What cannot be cut is one piece: a packed file, and plain text in one file, which is parted
    into documents.
    """
    out: list[Piece] = []
    texts: list[tuple[str, int]] = []

    def flush() -> None:
        if texts:
            names, sizes = zip(*texts, strict=True)
            out.append(Piece(TEXTS, names, sum(sizes)))
            texts.clear()

    for path in files:
        form, size = form_of(path), path.stat().st_size
        if form == TEXTS and columns.labels:
            name = columns.labels[0][1]
            raise Refused(
                f"column {name!r}: {path} is plain text, which has no columns "
                "(--keep '' keeps none)"
            )
        if form != TEXTS:
            flush()
        if form == TEXTS and len(files) == 1:
            out.append(Piece(PARTED, (str(path),), size))
        elif form == TEXTS:
            texts.append((str(path), size))
            if sum(size for _, size in texts) >= PIECE_BYTES:
                flush()
        elif form == PARQUET:
            out += _parquet_pieces(path, columns)
        elif _packed(str(path)):
            out.append(Piece(LINES, (str(path),), size, 0, -1))
        else:
            for first in range(0, size, PIECE_BYTES):
                last = min(size, first + PIECE_BYTES)
                out.append(Piece(LINES, (str(path),), last - first, first, last))
    flush()
    return out


def documents(piece: Piece, columns: Columns) -> Iterator[Document]:
    """What a piece holds, documents of white space alone included. Raises Refused."""
    if piece.form == PARQUET:
        yield from _parquet_documents(piece, columns)
    elif piece.form == LINES:
        yield from _line_documents(piece, columns)
    else:
        for path in piece.paths:
            for text in _text_documents(path, piece.form == PARTED):
                yield _sound(text, path), ()


def first_record_labels(files: list[Path]) -> tuple[tuple[str, str], ...]:
    """Of LABELS_UNTOLD those that the first record of the files has. Raises Refused."""
    for path in files:
        form = form_of(path)
        if form == PARQUET:
            return tuple((one, one) for one in LABELS_UNTOLD if one in _schema(path).names)
        if form == LINES:
            for record, _ in _records(str(path), 0, -1):
                return tuple((one, one) for one in LABELS_UNTOLD if one in record)
    return ()


# Plain text ----------------------------------------------------------------------------------


def _text_documents(path: str, parted: bool) -> Iterator[bytes]:
    """A file whole; or parted by form feeds or two blank lines, and where it has neither, at the
    first line end after every 4096 bytes."""
    if not parted:
        yield _held(_told(path, partial(_whole, path)), path)
    elif has_mark(_blocks(path)):
        for document in parted_by_marks(_blocks(path)):
            yield _held(document, path)
    else:
        for document in cut_at_lines(_blocks(path)):
            yield _held(document, path)


# JSON lines ----------------------------------------------------------------------------------


def _line_documents(piece: Piece, columns: Columns) -> Iterator[Document]:
    (path,) = piece.paths
    wanted = columns.label_columns
    for record, where in _records(path, piece.first, piece.last):
        text = record.get(columns.text)
        if columns.text not in record:
            raise Refused(_lacks(where(), columns.text, list(record)))
        if text is not None and not isinstance(text, str):
            raise Refused(f"{where()}: column {columns.text!r} holds {shown(text)}, not text")
        try:
            document = (text or "").encode()
        except UnicodeEncodeError:
            raise Refused(f"{where()}: the text is not Unicode (half of a surrogate)") from None
        for column in wanted:
            if column not in record:
                raise Refused(_lacks(where(), column, list(record)))
        yield document, tuple([label(record[one], one, where) for one in wanted])


def _records(
    path: str, first: int, last: int
) -> Iterator[tuple[dict[str, Any], Callable[[], str]]]:
    """(record, where it is) of the lines that begin in bytes first..last (-1: to the end)."""
    file = _told(path, lambda: _opened(path))
    with file:
        place = first
        if first:  # a line that began before belongs to the piece before
            file.seek(first - 1)
            place += len(_told(path, file.readline)) - 1
        while last < 0 or place < last:
            line = _told(path, lambda: file.readline(LARGEST_DOCUMENT + 1))
            if not line:
                return
            begun, place = place, place + len(line)

            def where(begun: int = begun) -> str:
                return f"{path}, line {_line_number(path, begun)}"

            if begun == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            _held(line, path)
            yield _record(line, where), where


def _record(line: bytes, where: Callable[[], str]) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError:
        raise Refused(f"{where()}: not UTF-8") from None
    except (ValueError, RecursionError):
        raise Refused(f"{where()}: not JSON (one record a line)") from None
    if not isinstance(record, dict):
        raise Refused(f"{where()}: not a JSON object (one record a line)")
    return record


def _line_number(path: str, place: int) -> int:
    """Number, from 1, of the line that begins at a byte: asked only where something is wrong."""
    number, left = 1, place
    with _opened(path) as file:
        while left > 0 and (block := file.read(min(left, READ_BYTES))):
            number += block.count(b"\n")
            left -= len(block)
    return number


# Parquet -------------------------------------------------------------------------------------


def _schema(path: Path) -> Any:
    return _parquet(str(path)).schema_arrow


def _parquet(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if _packed(path):
        raise Refused(f"{path}: Parquet is packed within: give it unpacked")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise Refused(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def _parquet_pieces(path: Path, columns: Columns) -> list[Piece]:
    file = _parquet(str(path))
    refuse_schema(file.schema_arrow, columns, str(path))
    about = file.metadata
    out: list[Piece] = []
    first = size = 0
    for group in range(about.num_row_groups):
        size += about.row_group(group).total_byte_size
        if size >= PIECE_BYTES or group == about.num_row_groups - 1:
            out.append(Piece(PARQUET, (str(path),), size, first, group + 1))
            first, size = group + 1, 0
    return out


def refuse_schema(schema: Any, columns: Columns, where: str) -> None:
    """Raise Refused if an Arrow schema lacks a column, or its text is none."""
    import pyarrow as pa

    for column in (columns.text, *columns.label_columns):
        if column not in schema.names:
            raise Refused(_lacks(where, column, schema.names))
    kind = schema.field(columns.text).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise Refused(f"{where}: column {columns.text!r} holds {kind}, not text")


def _parquet_documents(piece: Piece, columns: Columns) -> Iterator[Document]:
    import pyarrow as pa

    (path,) = piece.paths
    file, groups = _parquet(path), list(range(piece.first, piece.last))
    row = 1 + sum(file.metadata.row_group(group).num_rows for group in range(piece.first))
    wanted = [columns.text, *dict.fromkeys(columns.label_columns)]
    try:
        for batch in file.iter_batches(256, groups, wanted):
            yield from rows(batch, columns, path, row)
            row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise Refused(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def rows(batch: Any, columns: Columns, path: str, first: int) -> Iterator[Document]:
    """Documents of an Arrow table or batch, whose first row has the number `first`."""
    labels = [(one, batch.column(one).to_pylist()) for one in columns.label_columns]
    for k, text in enumerate(batch.column(columns.text).to_pylist()):

        def where(row: int = first + k) -> str:
            return f"{path}, row {row}"

        yield (text or "").encode(), tuple([label(of[k], name, where) for name, of in labels])


# What is said of a document ------------------------------------------------------------------


def _lacks(where: str, column: str, known: list[str]) -> str:
    return f"{where}: no column {column!r}; it has {', '.join(known) or 'none'}"


def _sound(text: bytes, path: str) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Refused(f"{path}: not UTF-8: save it as UTF-8 first") from None
    return text


def _held(text: bytes, path: str) -> bytes:
    if len(text) > LARGEST_DOCUMENT:
        raise Refused(f"{path}: a document is longer than {LARGEST_DOCUMENT:,} bytes: part it")
    return text


# Files ---------------------------------------------------------------------------------------


def _opened(path: str) -> BinaryIO:
    """The content of a file, unpacked on the way."""
    ending = Path(path).suffix.lower()
    if ending == ".gz":
        return io.BufferedReader(gzip.open(path, "rb"), READ_BYTES)
    if ending == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(path, "zstd"), READ_BYTES)
    return open(path, "rb", READ_BYTES)


def _whole(path: str) -> bytes:
    with _opened(path) as file:
        return file.read(LARGEST_DOCUMENT + 1)


def _blocks(path: str) -> Iterator[bytes]:
    with _told(path, lambda: _opened(path)) as file:
        while block := _told(path, lambda: file.read(READ_BYTES)):
            yield block


def _told(path: Any, act: Callable[[], Any]) -> Any:
    """What `act` gives; what goes wrong with a file, in a line."""
    try:
        return act()
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise Refused(f"cannot read {path}: {said}") from None
