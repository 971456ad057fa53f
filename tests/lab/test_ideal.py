"""The least loss that a window allows: against the entropy rate, by hand, and by another way."""

import math

import numpy as np
import pytest

from lab.corpora import open_corpus
from lab.errors import Refused
from lab.ideal import expected_least_losses, known_floor, least_losses
from lab.texts import markov_chain, zipf_lexicon


def windows(name: str, count: int, context: int) -> np.ndarray:
    return open_corpus(name).validation_windows(count, context)


def test_the_markov_chain_can_be_predicted_to_its_entropy_rate() -> None:
    found = least_losses("synthetic-markov", windows("synthetic-markov", 2000, 64))
    assert found.shape == (2000, 64)
    rate = markov_chain()[0].rate_nats
    assert rate == pytest.approx(2.3956, abs=5e-5)
    error = found.mean(axis=1).std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - rate) < 3 * error < 0.03
    assert expected_least_losses("synthetic-markov", 5) == pytest.approx(np.full(5, rate))


def test_far_into_a_window_words_can_be_predicted_to_their_entropy_rate() -> None:
    expected = expected_least_losses("synthetic-words", 400)
    rate = zipf_lexicon()[0].rate_nats
    assert rate == pytest.approx(0.9074, abs=5e-5)
    assert expected[200:].mean() == pytest.approx(rate, rel=1e-3)
    assert expected[0] > 2 * rate  # where the word began is not known
    assert np.all(np.diff(np.cumsum(expected) / np.arange(1, 401))[20:] < 0)


@pytest.mark.parametrize("context", [8, 64])
def test_what_a_window_allows_in_the_mean_is_what_windows_of_the_text_allow(context: int) -> None:
    found = least_losses("synthetic-words", windows("synthetic-words", 4000, context))
    expected = expected_least_losses("synthetic-words", context)
    error = found.mean(axis=1).std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - expected.mean()) < 3 * error < 0.05
    at_each = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * at_each)


def test_probabilities_of_all_next_bytes_sum_to_one() -> None:
    """By hand: every byte that may follow, each with the probability that its loss says."""
    row = windows("synthetic-words", 1, 12)[0]
    for length in (1, 2, 3, 8, 12):
        following = []
        for byte in [ord(" "), *range(ord("a"), ord("z") + 1)]:
            try:
                one = least_losses("synthetic-words", np.array([[*row[:length], byte]]))
            except Refused:
                continue  # no word goes on like this
            following.append(math.exp(-one[0, -1]))
        assert sum(following) == pytest.approx(1.0, abs=1e-12)


def test_the_floor_of_evaluated_windows_is_theirs_not_that_of_all_text() -> None:
    rate, least = known_floor("synthetic-words", 256, 64)
    assert rate == pytest.approx(0.9074, abs=5e-5)
    own = least_losses("synthetic-words", windows("synthetic-words", 256, 64)).mean()
    assert least == pytest.approx(own, rel=1e-12)
    assert abs(least - expected_least_losses("synthetic-words", 64).mean()) > 0.005


def test_other_texts_are_refused() -> None:
    with pytest.raises(Refused, match=r"^the least loss on 'prose' is not known; it is on synth"):
        least_losses("prose", np.zeros((1, 2), np.int32))
    with pytest.raises(Refused, match="'code' is not known"):
        expected_least_losses("code", 4)
    with pytest.raises(Refused, match=r"^not text of synthetic-words: no word has b'A'$"):
        least_losses("synthetic-words", np.array([[65, 65]]))
    with pytest.raises(Refused, match=r"^not text of synthetic-markov: a byte is none"):
        least_losses("synthetic-markov", np.array([[10, 65]]))
