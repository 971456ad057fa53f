"""The least loss that a window allows on the synthetic texts, whose process is known.

A model sees `context` tokens and no more. On the Markov chain one byte tells all, so the least loss
is the entropy rate. On the words it is higher: a window begins somewhere within a word, and until
its first space nobody knows where. Position k of a window (1..L) is predicted from positions
0..k-1; position 0 is given.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.corpora import open_corpus
from lab.errors import Refused
from lab.texts import FIRST_LETTER, markov_chain, zipf_lexicon

Floats = NDArray[np.float64]
KNOWN = ("synthetic-markov", "synthetic-words")
SPACE = ord(" ")


def known_floor(name: str, windows: int, context: int) -> tuple[float, float]:
    """(entropy rate, least loss that the evaluated windows allow) of a text, nats per token.

    The windows are those of an evaluation of `windows` windows of `context` tokens. Raises Refused.
    """
    corpus = open_corpus(name)
    least = least_losses(name, corpus.validation_windows(windows, context))
    rate = corpus.parts[0].entropy_rate_nats
    assert rate is not None  # least_losses knows the process
    return rate, float(least.mean())


def least_losses(name: str, windows_WL1: NDArray[np.int32]) -> Floats:
    """-ln of the true probability of every token given those before it in its window.

    windows_WL1: [W, L + 1] bytes of the text `name`. Returns [W, L], nats. Raises Refused on a text
    whose process is not known, or that is not of it.
    """
    if name == "synthetic-markov":
        chain, _ = markov_chain()
        states = windows_WL1 - FIRST_LETTER
        if states.min() < 0 or states.max() >= len(chain.rows):
            raise Refused(f"not text of {name}: a byte is none of its letters")
        return -np.log(chain.rows[states[:, :-1], states[:, 1:]])
    _refuse_unknown(name)
    beginnings = _beginnings()
    return np.array([_along(bytes(row.tolist()), beginnings) for row in windows_WL1])


def expected_least_losses(name: str, context: int) -> Floats:
    """The mean of `least_losses` over all windows of `context` tokens, by position [L], nats."""
    if name == "synthetic-markov":
        return np.full(context, markov_chain()[0].rate_nats)
    _refuse_unknown(name)
    lexicon, _ = zipf_lexicon()
    beginnings = _beginnings()
    # up to the first space of a window, and from there on, a word after the other
    unknown, ended = _by_length(beginnings.of_ends, context + 1)
    known, lengths = _by_length(beginnings.of_words, context + 1)
    unknown, ended = unknown / lexicon.mean_length, ended / lexicon.mean_length
    begins = np.zeros(context + 1)  # chance that a word begins at a position
    for k in range(1, context + 1):
        begins[k] = ended[k] + sum(begins[k - n] * lengths[n] for n in range(1, k))
    return np.array(
        [unknown[k] + begins[: k + 1] @ known[: k + 1][::-1] for k in range(1, context + 1)]
    )


@dataclass(frozen=True)
class _Beginnings:
    """Probability mass of whatever begins with some bytes: of words, and of the ends of words.

    A window begins at any byte of any word alike: with an end of it, the word itself included.
    """

    of_words: Mapping[bytes, float]
    of_ends: Mapping[bytes, float]


@functools.cache
def _beginnings() -> _Beginnings:
    lexicon, _ = zipf_lexicon()
    of_words: dict[bytes, float] = defaultdict(float)
    of_ends: dict[bytes, float] = defaultdict(float)
    for word, weight in zip(lexicon.words, lexicon.weights.tolist(), strict=True):
        for stop in range(len(word) + 1):
            of_words[word[:stop]] += weight
            for start in range(len(word)):
                if start < stop or stop == 0:
                    of_ends[word[start:stop]] += weight
    return _Beginnings(dict(of_words), dict(of_ends))


def _along(window: bytes, beginnings: _Beginnings) -> list[float]:
    """-ln probability of each byte of a window but the first."""
    masses, begun = beginnings.of_ends, b""
    losses = []
    for byte in window:
        longer = begun + bytes([byte])
        if longer not in masses:
            raise Refused(f"not text of synthetic-words: no word has {longer!r}")
        losses.append(-float(np.log(masses[longer] / masses[begun])))
        begun = longer
        if byte == SPACE:
            masses, begun = beginnings.of_words, b""
    return losses[1:]


def _by_length(masses: Mapping[bytes, float], count: int) -> tuple[Floats, Floats]:
    """(mean -ln probability of the byte behind n bytes, mass that ends after n bytes) [count].

    Summed over all beginnings of n bytes without a space, each by its mass; not normalised.
    """
    losses, ends = np.zeros(count), np.zeros(count)
    for longer, mass in masses.items():
        n = len(longer)
        if n and n <= count:
            losses[n - 1] -= mass * np.log(mass / masses[longer[:-1]])
        if n and n < count and longer[-1] == SPACE:
            ends[n] += mass
    return losses, ends


def _refuse_unknown(name: str) -> None:
    if name not in KNOWN:
        raise Refused(f"the least loss on {name!r} is not known; it is on {', '.join(KNOWN)}")
