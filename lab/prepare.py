"""The user's text -> a token store, in bounded memory, by several processes.

1. Pieces of the sources are read at once; their documents are spooled in chunks, beside each
   chunk the keys, lengths and labels of its documents.
2. From keys and lengths follow sides and duplicates (`lab.splitting`); they are all that is held of
   the whole text: some 40 bytes a document.
3. Chunks are tokenised at once, and their tokens put one behind another in the order of the source.

So the store is the same whatever the processes and their pace. It is made in a private folder and
moved into place whole; a folder left by a killed process is removed by the next one.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lab import hub, sources, tokenizers
from lab.corpora import (
    DOCUMENTS,
    FORMAT,
    SIDES,
    TOKENS,
    VALIDATION_BYTES,
    known_names,
    refuse_name,
)
from lab.errors import Failed, Refused
from lab.home import home
from lab.placing import DESCRIPTION, MAKING, digest_of, placed
from lab.sources import Columns, Piece
from lab.spec import canonical
from lab.splitting import DUPLICATE, TRAIN, VALIDATION, key_of, keys_array, sides
from lab.tokenizers import Tokenizer

CHUNK_BYTES = 2**24  # of text that one process tokenises
_WORK, _ALIVE = "work", "alive"  # in the private folder: chunks, and the lock of who makes it
ABANDONED_SECONDS = 3600.0

Ints = NDArray[np.int64]
Told = Callable[[str, int, int], None]
_Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Recipe:
    """What a corpus is prepared from. `tokenizer` is as told: see `lab.tokenizers`."""

    sources: tuple[str, ...]
    columns: Columns
    tokenizer: str = "bytes"
    labels_told: bool = True  # else `score` and `date` are kept, where there are any
    split: str = "train"  # of a Hugging Face data set, and its configuration
    config: str = ""


class Chunk(NamedTuple):
    """Documents that were spooled together: the files `WORK/name.*`."""

    name: str
    documents: int
    size: int
    blank: int  # documents of white space alone before its end: dropped


def prepare(name: str, recipe: Recipe, processes: int = 1, told: Told = lambda *_: None) -> bool:
    """Make the corpus `name`; False if it is there already, from the same sources.

    `told(what, done, of)` hears how far it is, in bytes. Raises Refused, Failed.
    """
    if processes < 1:
        raise Refused(f"processes = {processes}: must be at least 1")
    if name not in known_names():
        refuse_name(name)
    found = _Sources(recipe)
    folder = home() / "corpora" / name
    if _same(folder, found.digest):
        return False
    refuse_name(name)
    _sweep(folder.parent)
    workers = min(processes, sum(-(-piece.size // sources.PIECE_BYTES) for piece in found.pieces))
    with placed(folder, name) as partial, FileLock(partial / _ALIVE), _pool(workers) as each:
        _Making(name, found, partial, each, told).make()
        (partial / _ALIVE).unlink()
    if not _same(folder, found.digest):
        raise Refused(f"corpus {name!r} is there already: another process has just prepared it")
    return True


def _same(folder: Path, recipe: str) -> bool:
    try:
        return bool(json.loads((folder / DESCRIPTION).read_text()).get("recipe") == recipe)
    except (OSError, ValueError, AttributeError):
        return False


class _Sources:
    """The pieces of a recipe, and what tells them from others."""

    def __init__(self, recipe: Recipe) -> None:
        self.tokenizer = tokenizers.read(recipe.tokenizer)
        far = [one for one in recipe.sources if one.startswith(hub.PREFIX)]
        if far and len(far) < len(recipe.sources):
            raise Refused(f"{far[0]}: files and Hugging Face data sets make a corpus each")
        if far:
            sets = [hub.HubSource(one, recipe.split, recipe.config) for one in far]
            self.columns = self._columns(recipe, sets[0].first_labels)
            self.pieces = [piece for one in sets for piece in one.pieces(self.columns)]
            self.source = "; ".join(one.source for one in sets)
            stamps = [one.stamp for one in sets]
        else:
            files = sources.find_files(list(recipe.sources))
            self.columns = self._columns(recipe, lambda: sources.first_record_labels(files))
            self.pieces = sources.pieces(files, self.columns)
            self.source = sources.described(files)
            known = [(str(one.resolve()), one.stat()) for one in files]
            stamps = [(name, about.st_size, about.st_mtime_ns) for name, about in known]
        made_from = [stamps, asdict(self.columns), self.tokenizer.recipe]
        self.digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]

    def _columns(self, recipe: Recipe, first: Callable[[], tuple[tuple[str, str], ...]]) -> Columns:
        labels = recipe.columns.labels if recipe.labels_told else first()
        return Columns(recipe.columns.text, labels)


class _Making:
    """One corpus in the making, in a private folder."""

    def __init__(self, name: str, found: _Sources, partial: Path, each: _Each, told: Told) -> None:
        self.name, self.found, self.partial, self.each, self.told = name, found, partial, each, told
        self.work = partial / _WORK

    def make(self) -> None:
        self.work.mkdir()
        chunks = self._read()
        side, lengths = self._sides(chunks)
        tokenizer = self.found.tokenizer.fitted(lambda: _texts(self.work, chunks))
        tokenizer.save(self.partial)
        hashes, tokens = self._tokenise(chunks, tokenizer)
        self._keep_labels(chunks, side)
        held_out = int(lengths[side == VALIDATION].sum())
        description = {
            "format": FORMAT,
            "name": self.name,
            "source": self.found.source,
            "tokenizer": tokenizer.name,
            "dtype": str(np.dtype(tokenizer.dtype)),
            "vocabulary": tokenizer.vocabulary,
            "documents": int((side != DUPLICATE).sum()),
            "duplicates": int((side == DUPLICATE).sum()),
            "blank": sum(chunk.blank for chunk in chunks),
            "bytes_per_token": held_out / tokens[VALIDATION],
            "entropy_rate_nats": None,
            "digest": digest_of(hashes, tokenizer.digest),
            "recipe": self.found.digest,
        }
        if tokenizer.digest:
            description["tokenizer_digest"] = tokenizer.digest
        shutil.rmtree(self.work)
        (self.partial / DESCRIPTION).write_text(canonical(description))

    # 1: documents ----------------------------------------------------------------------------

    def _read(self) -> list[Chunk]:
        pieces, columns = self.found.pieces, self.found.columns
        done, of = 0, sum(piece.size for piece in pieces)
        chunks: list[Chunk] = []
        tasks = [(piece, columns, self.work, k) for k, piece in enumerate(pieces)]
        for piece, made in zip(pieces, self.each(_spool, tasks), strict=True):
            chunks += made
            done += piece.size
            self.told("reading", done, of)
        chunks = [chunk for chunk in chunks if chunk.documents]
        if not chunks:
            raise Refused(f"no text in {self.found.source}")
        return chunks

    # 2: sides --------------------------------------------------------------------------------

    def _sides(self, chunks: list[Chunk]) -> tuple[NDArray[np.uint8], Ints]:
        lengths = _joined(self.work, chunks, "lengths", np.int64)
        keys = np.empty((len(lengths), 2), np.uint64)
        begun = 0
        for one in chunks:
            keys[begun : begun + one.documents] = keys_array(
                (self.work / f"{one.name}.keys").read_bytes()
            )
            begun += one.documents
        side = sides(keys, lengths)
        if not (side == VALIDATION).any():
            raise Refused(f"corpus {self.name!r}: needs at least two documents, to hold one out")
        for chunk, mine in zip(chunks, _by_chunk(chunks, side), strict=True):
            mine.tofile(self.work / f"{chunk.name}.sides")
        return side, lengths

    # 3: tokens -------------------------------------------------------------------------------

    def _tokenise(self, chunks: list[Chunk], tokenizer: Tokenizer) -> tuple[list[str], list[int]]:
        """Hashes of the two files of tokens, and how many tokens are in each."""
        done, of = 0, sum(chunk.size for chunk in chunks)
        hashes, tokens = [hashlib.sha256(), hashlib.sha256()], [0, 0]
        names = [f"{SIDES[TRAIN]}.bin", f"{SIDES[VALIDATION]}.bin"]
        counted = VALIDATION_BYTES if tokenizer.digest else None
        tasks = [(self.work, chunk, self.partial) for chunk in chunks]
        for chunk, _ in zip(chunks, self.each(_tokenised, tasks), strict=True):
            for side in (TRAIN, VALIDATION):
                text = (self.work / f"{chunk.name}.{SIDES[side]}").read_bytes()
                hashes[side].update(text)
                tokens[side] += len(text) // np.dtype(tokenizer.dtype).itemsize
                _append(self.partial / names[side], text)
                (self.work / f"{chunk.name}.{SIDES[side]}").unlink()
            if counted is not None:
                spans = self.work / f"{chunk.name}.spans"
                _append(self.partial / counted, spans.read_bytes())
                spans.unlink()
            done += chunk.size
            self.told("tokenising", done, of)
        return [one.hexdigest() for one in hashes], tokens

    def _keep_labels(self, chunks: list[Chunk], side: NDArray[np.uint8]) -> None:
        folder = self.partial / DOCUMENTS
        folder.mkdir()
        names = [name for name, _ in self.found.columns.labels]
        train = side == TRAIN
        columns = {TOKENS: _joined(self.work, chunks, "tokens", np.int64)}
        for k, name in enumerate(names):
            labels = [
                np.fromfile(self.work / f"{chunk.name}.labels").reshape(-1, len(names))[:, k]
                for chunk in chunks
            ]
            columns[name] = np.concatenate(labels)[train]
        for name, column in columns.items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)


# What a process does -------------------------------------------------------------------------


def _spool(task: tuple[Piece, Columns, Path, int]) -> list[Chunk]:
    """Write the documents of a piece into chunks."""
    piece, columns, work, number = task
    made: list[Chunk] = []
    held: list[bytes] = []
    labels: list[tuple[float, ...]] = []
    size = blank = 0

    def flush() -> None:
        nonlocal size, blank
        name = f"{number:07}-{len(made):05}"
        (work / f"{name}.text").write_bytes(b"".join(held))
        (work / f"{name}.keys").write_bytes(b"".join(map(key_of, held)))
        np.array([len(one) for one in held], np.int64).tofile(work / f"{name}.lengths")
        np.array(labels, np.float64).tofile(work / f"{name}.labels")
        made.append(Chunk(name, len(held), size, blank))
        held.clear()
        labels.clear()
        size = blank = 0

    read = hub.documents if piece.form == sources.HUB else sources.documents
    for document, of_it in read(piece, columns):
        if not document.strip():
            blank += 1
            continue
        held.append(document)
        labels.append(of_it)
        size += len(document)
        if size >= CHUNK_BYTES:
            flush()
    if held or blank:
        flush()
    return made


def _tokenised(task: tuple[Path, Chunk, Path]) -> None:
    """Tokenise a chunk: its tokens by side, and how many each document has."""
    work, chunk, folder = task
    tokenizer = _tokenizer(folder)
    of = dict(zip((TRAIN, VALIDATION), _documents_by_side(work, chunk), strict=True))
    tokens, counts = tokenizer.encode(of[TRAIN])
    tokens.tofile(work / f"{chunk.name}.{SIDES[TRAIN]}")
    counts.tofile(work / f"{chunk.name}.tokens")
    tokens, spans = tokenizer.encode_with_spans(of[VALIDATION])
    tokens.tofile(work / f"{chunk.name}.{SIDES[VALIDATION]}")
    spans.tofile(work / f"{chunk.name}.spans")
    (work / f"{chunk.name}.text").unlink()


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    return tokenizers.saved(folder)


def _documents_by_side(work: Path, chunk: Chunk) -> tuple[list[bytes], list[bytes]]:
    text = (work / f"{chunk.name}.text").read_bytes()
    ends = np.fromfile(work / f"{chunk.name}.lengths", np.int64).cumsum().tolist()
    side = np.fromfile(work / f"{chunk.name}.sides", np.uint8).tolist()
    of: dict[int, list[bytes]] = {TRAIN: [], VALIDATION: [], DUPLICATE: []}
    begun = 0
    for end, one in zip(ends, side, strict=True):
        of[one].append(text[begun:end])
        begun = end
    return of[TRAIN], of[VALIDATION]


def _texts(work: Path, chunks: list[Chunk]) -> Iterator[list[bytes]]:
    """Training documents, a chunk at a time: what a tokenizer may learn from."""
    for chunk in chunks:
        yield _documents_by_side(work, chunk)[0]


def _joined(work: Path, chunks: list[Chunk], ending: str, dtype: Any) -> Any:
    return np.concatenate([np.fromfile(work / f"{one.name}.{ending}", dtype) for one in chunks])


def _by_chunk(chunks: list[Chunk], values: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return np.split(values, np.cumsum([chunk.documents for chunk in chunks])[:-1])


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


# Processes -----------------------------------------------------------------------------------


@contextmanager
def _pool(processes: int) -> Iterator[_Each]:
    """What maps a function over tasks, in their order, in so many processes."""
    if processes == 1:
        yield map
        return
    # spawned: a fork of a process with threads (pyarrow's, a test's) may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin_worker)
    try:
        yield pool.map
    except BrokenProcessPool:
        raise Failed("a process that prepared text was killed: is memory short?") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to who started us, and end when that process ends, killed or not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process is one core
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _sweep(above: Path) -> None:
    """Remove what processes that were killed had begun."""
    for left in above.glob(f"{MAKING}*/{_ALIVE}") if above.is_dir() else ():
        try:
            if time.time() - left.stat().st_mtime < ABANDONED_SECONDS:
                continue  # it may be locked in a moment
            with FileLock(left, timeout=0):
                shutil.rmtree(left.parent, ignore_errors=True)
        except (OSError, Timeout):
            continue  # somebody is at it
