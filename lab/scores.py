"""Scores of documents: how good a text says it is, or is by a measure of the text itself.

More is better. Given scores came with the text (`truth` of `lab.damage`; a user's own columns);
two are computed as people do, and kept beside the store:
    compression   bytes of a document over bytes of it after zlib: noise does not shrink
    perplexity    minus its logarithm, nats a byte, under a reference model (`lab.ngrams`) that was
                  counted on clean training text. No document is scored by a model that has seen it:
                  each half of the documents is scored by the counts of the other half.
A file holds one column, a value a training document in the order of the text:
    documents/tokens.npy   documents/NAME.npy (given)   documents/NAME.VERSION.npy (computed)
"""

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab import ngrams
from lab.corpora import DOCUMENTS, TOKENS, Corpus, TokenStore, open_corpus
from lab.damage import PREFIX
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
    ends = lengths.cumsum()
    texts = (store.train[a:b].tobytes() for a, b in zip(ends - lengths, ends, strict=True))
    return np.array([len(text) / len(zlib.compress(text)) for text in texts])


def _perplexity(store: TokenStore, lengths: Ints) -> Floats:
    if store.train.dtype != np.uint8:
        raise Refused(f"corpus {store.name!r}: the score 'perplexity' is there for bytes only")
    clean = store
    if store.name.startswith(PREFIX):
        (clean,) = open_corpus(store.name.removeprefix(PREFIX)).parts
        if len(clean.train) != len(store.train):
            raise Failed(f"corpus {clean.name!r} is not what {store.name!r} was made from")
    text, clean_text = (np.asarray(one.train, np.uint8) for one in (store, clean))
    ends = lengths.cumsum()
    even = np.arange(len(lengths)) % 2 == 0
    out = np.empty(len(lengths))
    for mine in (even, ~even):
        counts = ngrams.count(clean_text, ends, ~mine, REFERENCE_TOKENS)
        out[mine] = -ngrams.mean_nats(counts, text, ends, mine)
    return out


COMPUTED: dict[str, Callable[[TokenStore, Ints], Floats]] = {
    "compression": _compression,
    "perplexity": _perplexity,
}


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
