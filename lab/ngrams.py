"""A small reference model: bytes counted with the few before them, mixed as Witten and Bell did.

p(c | h) = (n(h c) + T(h) p(c | h')) / (n(h) + T(h)), where h' is h without its oldest byte, n
counts and T(h) is how many bytes were seen behind h; below the empty context lies the uniform
distribution (Witten & Bell, 1991, method C). Contexts end at the start of a document.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = 4  # bytes counted together: three of context
BYTES = 256
_BLANK = BYTES  # what stands before a document
BLOCK = 2**21  # tokens looked at together

Codes = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """For each length of context: the codes that were seen, sorted, and how often.

    `pairs` are of a context and the byte behind it; `contexts` come with how many different bytes
    were seen behind them.
    """

    pairs: list[tuple[Codes, Codes]]
    contexts: list[tuple[Codes, Codes, Codes]]


def blocks(ends: Codes) -> Iterator[tuple[int, int]]:
    """Stretches of tokens of about BLOCK each, cut between documents that end at `ends` [D]."""
    first = 0
    for end in ends.tolist():
        if end - first >= BLOCK or end == ends[-1]:
            yield first, end
            first = end


def _coded(text: Bytes, first: int, last: int, ends: Codes) -> Iterator[tuple[Codes, Codes]]:
    """(code of its context, byte) of tokens first..last, for contexts of 0, 1, .. ORDER - 1 bytes.

    `first` begins a document.
    """
    places = np.arange(first, last)
    begun = np.concatenate([[0], ends])[np.searchsorted(ends, places, side="right")]
    byte = text[first:last].astype(np.int64)
    context = np.zeros(last - first, np.int64)
    yield context, byte
    for back in range(1, ORDER):
        before = np.full(last - first, _BLANK, np.int64)
        before[back:] = byte[:-back]
        before[places - back < begun] = _BLANK
        context = context + before * (BYTES + 1) ** (back - 1)
        yield context, byte


def count(text: Bytes, ends: Codes, documents: Chosen, at_most: int) -> Counts:
    """Count in the chosen `documents` [D] of a text [T], in the first `at_most` tokens of them."""
    gathered: list[list[Codes]] = [[] for _ in range(ORDER)]
    taken = 0
    for first, last in blocks(ends):
        if taken >= at_most:
            break
        mine = documents[np.searchsorted(ends, np.arange(first, last), side="right")]
        taken += int(mine.sum())
        for k, (context, byte) in enumerate(_coded(text, first, last, ends)):
            gathered[k].append((context * (BYTES + 1) + byte)[mine])
    pairs, contexts = [], []
    for parts in gathered:
        codes, times = np.unique(
            np.concatenate([np.zeros(0, np.int64), *parts]), return_counts=True
        )
        pairs.append((codes, times))
        heads, where, kinds = np.unique(
            codes // (BYTES + 1), return_inverse=True, return_counts=True
        )
        contexts.append((heads, np.bincount(where, times, len(heads)).astype(np.int64), kinds))
    return Counts(pairs, contexts)


def mean_nats(counts: Counts, text: Bytes, ends: Codes, documents: Chosen) -> NDArray[np.float64]:
    """Minus the mean logarithm of the probability of a document's tokens, of the chosen ones."""
    found = []
    for first, last in blocks(ends):
        which = np.searchsorted(ends, np.arange(first, last), side="right")
        mine = documents[which]
        chance = np.full(int(mine.sum()), 1 / BYTES)
        for k, (context, byte) in enumerate(_coded(text, first, last, ends)):
            context, byte = context[mine], byte[mine]
            codes, times = counts.pairs[k]
            heads, totals, kinds = counts.contexts[k]
            seen = _looked_up(codes, context * (BYTES + 1) + byte, times)
            total, kind = _looked_up(heads, context, totals), _looked_up(heads, context, kinds)
            mixed = (seen + kind * chance) / np.maximum(total + kind, 1)
            chance = np.where(total > 0, mixed, chance)
        _, of, lengths = np.unique(which[mine], return_inverse=True, return_counts=True)
        found.append(np.bincount(of, -np.log(chance), len(lengths)) / lengths)
    return np.concatenate(found)


def _looked_up(keys: Codes, asked: Codes, values: Codes) -> Codes:
    """Values of the asked keys; 0 of those that are not there."""
    if not len(keys):
        return np.zeros(len(asked), np.int64)
    where = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[where] == asked, values[where], 0)
