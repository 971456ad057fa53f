"""Scores of documents: how good a text says it is, or is by a measure of the text itself.

More is better. Given scores came with the text (`truth` of `lab.damage`; a user's own columns);
five are computed as people do, and kept beside the store:
    compression   bytes of a document over bytes of it after zlib: noise does not shrink
    perplexity    minus its logarithm, nats a byte, under a reference model (`lab.ngrams`) that was
                  counted on clean training text. No document is scored by a model that has seen it:
                  each half of the documents is scored by the counts of the other half.
    length        bytes of a document
    letters       share of its bytes that are letters, white space, or beyond ASCII
    symbols       minus `#` and ellipses a word (Rae et al., 2112.11446, appendix A.1)
A file holds one column, a value a training document in the order of the text:
    documents/tokens.npy   documents/NAME.npy (given)   documents/NAME.VERSION.npy (computed)
"""

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab import ngrams
from lab.corpora import DOCUMENTS, TOKENS, Corpus, TokenStore, open_corpus
from lab.damage import PREFIX
from lab.documents import training_documents
from lab.errors import Failed, Refused, meant

VERSION = 1  # of how scores are computed; raised by hand when that changes
REFERENCE_TOKENS = 2**23  # at most, of each half that the reference model is counted on

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def document_tokens(store: TokenStore) -> Ints:
    """Tokens of each training document, its separator included: [D]. Raises Refused, Failed."""
    if store.folder is None or not (store.folder / DOCUMENTS / f"{TOKENS}.npy").exists():
        raise Refused(
            f"corpus {store.name!r} was prepared before documents were told apart: remove "
            f"{store.folder} and prepare it again"
        )
    lengths = _read(store.folder / DOCUMENTS / f"{TOKENS}.npy").astype(np.int64)
    if lengths.sum() != len(store.train):
        raise Failed(f"documents in {store.folder} are not those of the text: remove that folder")
    return lengths


def score_names(store: TokenStore) -> list[str]:
    """Scores that can be had: given ones, then computed ones."""
    folder = store.folder / DOCUMENTS if store.folder is not None else None
    files = sorted(folder.glob("*.npy")) if folder is not None else []
    given = [file.stem for file in files if "." not in file.stem and file.stem != TOKENS]
    return [*given, *(name for name in COMPUTED if name not in given)]


def document_scores(store: TokenStore, name: str) -> Floats:
    """A score of each training document, [D]; computed and kept if it is not there yet.

    Raises Refused on an unknown score, Failed on what cannot be read or kept.
    """
    lengths = document_tokens(store)
    assert store.folder is not None
    names = score_names(store)
    if name not in names:
        hint = meant(name, names)
        raise Refused(
            f"corpus {store.name!r} has no score {name!r}; it has {', '.join(names)}{hint}"
        )
    file = store.folder / DOCUMENTS / f"{name}.npy"
    if not file.exists():
        file = file.with_name(f"{name}.{VERSION}.npy")
        if not file.exists():
            _keep(file, COMPUTED[name](store, lengths))
    values = _read(file).astype(np.float64)
    if values.shape != lengths.shape or not np.isfinite(values).all():
        raise Failed(f"{file} does not hold a finite score for each document: remove that file")
    return values


def score_digest(corpus: Corpus, name: str) -> str:
    """What an order by this score is made from: 32 hexadecimal digits. Raises Refused, Failed."""
    digest = hashlib.sha256()
    for part in corpus.parts:
        digest.update(document_tokens(part).astype("<i8").tobytes())
        digest.update(document_scores(part, name).astype("<f8").tobytes())
    return digest.hexdigest()[:32]


def window_scores(corpus: Corpus, name: str, context: int) -> Floats:
    """A score of each training window: the mean over its tokens of their documents' scores."""
    found = []
    for part in corpus.parts:
        lengths = document_tokens(part)
        ends = np.concatenate([[0], lengths.cumsum()])
        summed = np.concatenate([[0.0], (lengths * document_scores(part, name)).cumsum()])
        edges = np.arange(max(0, len(part.train) - 1) // context + 1) * context
        found.append(np.diff(np.interp(edges, ends, summed)) / context)
    return np.concatenate(found)


# Computed ------------------------------------------------------------------------------------


def _compression(store: TokenStore, lengths: Ints) -> Floats:
    return _each(store, lengths, lambda text: len(text) / len(zlib.compress(text)))


def _perplexity(store: TokenStore, lengths: Ints) -> Floats:
    clean = store
    if store.name.startswith(PREFIX):
        (clean,) = open_corpus(store.name.removeprefix(PREFIX)).parts
        if len(clean.train) != len(store.train):
            raise Failed(f"corpus {clean.name!r} is not what {store.name!r} was made from")
    with _bytes_of(store, lengths) as (text, ends), _bytes_of(clean, lengths) as (clean_text, _):
        even = np.arange(len(lengths)) % 2 == 0
        out = np.empty(len(lengths))
        for mine in (even, ~even):
            counts = ngrams.count(clean_text, ends, ~mine, REFERENCE_TOKENS)
            out[mine] = -ngrams.mean_nats(counts, text, ends, mine)
    return out


def _length(store: TokenStore, lengths: Ints) -> Floats:
    return _each(store, lengths, lambda text: len(text.removesuffix(b"\0")))


def _letters(store: TokenStore, lengths: Ints) -> Floats:
    def share(text: bytes) -> float:
        text = text.removesuffix(b"\0")
        return 1 - len(text.translate(None, _LETTERS)) / max(len(text), 1)

    return _each(store, lengths, share)


def _symbols(store: TokenStore, lengths: Ints) -> Floats:
    def rate(text: bytes) -> float:
        found = text.count(b"#") + text.count(b"...") + text.count("…".encode())
        return -found / max(len(text.split()), 1)

    return _each(store, lengths, rate)


# Bytes that are no symbol: letters, white space, and parts of what is beyond ASCII.
_LETTERS = bytes(b for b in range(256) if b >= 0x80 or chr(b).isalpha() or chr(b).isspace())

COMPUTED: dict[str, Callable[[TokenStore, Ints], Floats]] = {
    "compression": _compression,
    "perplexity": _perplexity,
    "length": _length,
    "letters": _letters,
    "symbols": _symbols,
}


def _each(store: TokenStore, lengths: Ints, score: Callable[[bytes], float]) -> Floats:
    return np.array([score(text) for text in training_documents(store, lengths)], np.float64)


@contextmanager
def _bytes_of(store: TokenStore, lengths: Ints) -> Iterator[tuple[NDArray[np.uint8], Ints]]:
    """The training text as bytes [T], and where its documents end [D].

    Text that is kept as ids lies in a file meanwhile: it need not fit in memory.
    """
    if not store.tokenizer_digest:
        yield np.asarray(store.train, np.uint8), lengths.cumsum()
        return
    with tempfile.TemporaryFile(prefix=".making-", dir=store.folder) as file:
        sizes = [file.write(text or b" ") for text in training_documents(store, lengths)]
        file.flush()
        yield np.memmap(file, np.uint8, "r"), np.cumsum(sizes)


# Columns on disk -----------------------------------------------------------------------------


def _read(file: Path) -> NDArray[np.generic]:
    try:
        column: NDArray[np.generic] = np.load(file, mmap_mode="r", allow_pickle=False)
        if column.dtype.kind not in "fiu":
            raise ValueError(f"{column.dtype} is no number")
        return column
    except (OSError, ValueError, EOFError) as error:
        raise Failed(f"{file} cannot be read ({error}): remove that file") from None


def _keep(file: Path, column: Floats) -> None:
    """Write a column, moved into place whole: two processes that write it write the same."""
    try:
        handle, partial = tempfile.mkstemp(prefix=".making-", dir=file.parent)
        try:
            with open(handle, "wb") as out:
                np.save(out, column, allow_pickle=False)
            os.replace(partial, file)
        except OSError:
            os.unlink(partial)
            raise
    except OSError as error:
        raise Failed(f"cannot write {file}: {error.strerror}") from None
