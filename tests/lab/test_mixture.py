"""The order of the data: exact shares, nested prefixes, any step at once, whole epochs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.identity import WEIGHT_ONE, Path
from lab.mixture import Stream, diffuse, diffused_counts, window_order
from lab.spec import Phase, hold
from tests.lab.building import BATCH, TINY, counting_corpus, few, phase, run_of, shares

CONTEXT = TINY.context
CORPORA = {name: counting_corpus(name, size) for name, size in (("a", 40), ("b", 60), ("c", 40))}
DIGESTS = {name: corpus.digest for name, corpus in CORPORA.items()}
BY_DIGEST = {corpus.digest: corpus for corpus in CORPORA.values()}

weights = st.lists(st.integers(1, WEIGHT_ONE), min_size=1, max_size=4).map(
    lambda parts: tuple(max(1, round(part * WEIGHT_ONE / sum(parts))) for part in parts)
)


def stream(*phases: Phase, seed: int = 0) -> Stream:
    return Stream(Path(run_of(*phases, seed=seed), DIGESTS), BY_DIGEST)


def read(one: Stream, step: int, steps: int) -> list[tuple[str, int]]:
    """(corpus, window) of every window of some steps, in order."""
    digests, which, window = one.window_indices(step, steps)
    names = {digest: name for name, digest in DIGESTS.items()}
    pairs = zip(which.ravel().tolist(), window.ravel().tolist(), strict=True)
    return [(names[digests[k]], index) for k, index in pairs]


def of(windows: list[tuple[str, int]], name: str) -> list[int]:
    return [index for corpus, index in windows if corpus == name]


# Error diffusion -----------------------------------------------------------------------------


@few
@given(weights)
def test_the_share_is_exact_at_every_prefix(parts: tuple[int, ...]) -> None:
    # Every division of the rest adds at most half a window: two corpora are exact to half a window,
    # three to one.
    which, _ = diffuse(0, 600, parts)
    n = np.arange(1, 601)
    for k, part in enumerate(parts):
        error = np.cumsum(which == k) - n * (part / sum(parts))
        divisions = min(k + 1, len(parts) - 1)
        assert np.abs(error).max() <= divisions / 2 + 1e-6


@few
@given(weights, st.integers(0, 500), st.integers(0, 200))
def test_any_stretch_is_the_same_as_in_the_whole(
    parts: tuple[int, ...], first: int, count: int
) -> None:
    whole = diffuse(0, first + count, parts)
    for part, full in zip(diffuse(first, count, parts), whole, strict=True):
        assert part.tolist() == full[first:].tolist()


@few
@given(weights, st.integers(0, 700))
def test_counts_are_those_of_the_windows(parts: tuple[int, ...], windows: int) -> None:
    which, ordinal = diffuse(0, windows, parts)
    counts = diffused_counts(windows, parts)
    assert counts == np.bincount(which, minlength=len(parts)).tolist()
    for k, count in enumerate(counts):
        assert ordinal[which == k].tolist() == list(range(count))


def test_counts_stay_exact_far_out() -> None:
    parts = (round(0.3 * WEIGHT_ONE), WEIGHT_ONE - round(0.3 * WEIGHT_ONE))
    far = 2**30
    before, after = diffused_counts(far, parts), diffused_counts(far + 100, parts)
    which, ordinal = diffuse(far, 100, parts)
    assert [after[k] - before[k] for k in (0, 1)] == np.bincount(which).tolist()
    assert [ordinal[which == k][0] for k in (0, 1)] == before


@few
@given(st.integers(1, WEIGHT_ONE - 1), st.integers(1, WEIGHT_ONE - 1), st.integers(1, 500))
def test_windows_of_the_first_corpus_only_grow_with_its_weight(one: int, two: int, n: int) -> None:
    low, high = sorted((one, two))
    for count in range(n):
        few_, many = (diffused_counts(count, (w, WEIGHT_ONE - w))[0] for w in (low, high))
        assert few_ <= many


# Epochs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [1, 2, 7, 4095, 4096, 4097, 9000])  # blocks hold 4096
def test_every_epoch_is_a_permutation(windows: int) -> None:
    order = window_order(windows, 5, np.arange(3 * windows))
    epochs = order.reshape(3, windows)
    for epoch in epochs:
        assert np.sort(epoch).tolist() == list(range(windows))
    if windows > 2:
        assert epochs[0].tolist() != epochs[1].tolist() != epochs[2].tolist()


def test_neighbouring_seeds_share_no_epoch() -> None:
    epochs = [
        tuple(window_order(50, seed, np.arange(150))[50 * e : 50 * e + 50])
        for seed, e in itertools.product(range(6), range(3))
    ]
    assert len(set(epochs)) == 18


def test_places_may_be_asked_for_in_any_order() -> None:
    whole = window_order(5000, 1, np.arange(10_000))
    asked = np.array([9_999, 0, 4_096, 4_095, 5_000, 4_999, 0])
    assert window_order(5000, 1, asked).tolist() == whole[asked].tolist()


# Streams -------------------------------------------------------------------------------------

RATIO = shares(b=0.25, a=0.75)
CPT = (phase("trunk", 9, shares(a=1.0)), phase("cpt", 12, RATIO, hold()))
THREE = phase("p", 30, shares(c=0.2, a=0.5, b=0.3))


@few
@given(st.integers(0, 20), st.integers(0, 21))
def test_any_steps_at_once_are_those_of_the_sequence(step: int, steps: int) -> None:
    steps = min(steps, 21 - step)
    one = stream(*CPT)
    alone = [window for k in range(21) for window in read(one, k, 1)]
    assert read(one, step, steps) == alone[BATCH * step : BATCH * (step + steps)]


@few
@given(st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_chunks_of_any_length_make_the_same_tokens(chunks: list[int]) -> None:
    one = stream(THREE)
    starts = np.cumsum([0, *chunks])
    starts = starts[starts <= 30]
    pieces = [one.tokens(int(s), int(e - s)) for s, e in itertools.pairwise(starts)]
    whole = one.tokens(0, int(starts[-1]))
    assert np.array_equal(np.concatenate([whole[:0], *pieces]), whole)


def test_tokens_are_those_of_the_windows() -> None:
    tokens = stream(*CPT).tokens(0, 21)
    assert tokens.shape == (21, BATCH, CONTEXT + 1)
    assert tokens.dtype == np.int32
    windows = [index for _, index in read(stream(*CPT), 0, 21)]
    assert (tokens[..., 0].ravel() // CONTEXT).tolist() == windows
    assert (np.diff(tokens, axis=-1) == 1).all()  # text in order, with the token behind the window


def test_cursors_go_on_across_phases_so_that_replay_is_unseen() -> None:
    one = stream(*CPT)
    trunk, replayed = of(read(one, 0, 9), "a"), of(read(one, 9, 12), "a")
    assert (len(trunk), len(replayed)) == (18, 18)
    both = trunk + replayed
    assert len(set(both)) == 36  # none twice: 40 windows make an epoch
    assert of(read(stream(phase("p", 18, shares(a=1.0))), 0, 18), "a") == both


def test_replay_behind_a_full_epoch_begins_the_next_one() -> None:
    long = stream(phase("trunk", 18, shares(a=1.0)), phase("cpt", 24, RATIO, hold()))
    seen = of(read(long, 0, 42), "a")
    assert sorted(seen[:40]) == list(range(40))
    assert len(seen) == len(seen[:40]) + len(set(seen[40:]))


def reread(*names: str, steps: int = 12) -> Phase:
    return phase("cpt", steps, RATIO, hold(), reread=names)


def test_literal_replay_reads_the_very_windows_of_the_trunk() -> None:
    trunk = phase("trunk", 9, shares(c=0.25, a=0.75))
    literal, unseen = (stream(trunk, reread(*names)) for names in (("a",), ()))
    before = read(literal, 0, 9)
    assert before == read(unseen, 0, 9)
    again, other = read(literal, 9, 12), read(unseen, 9, 12)
    seen = of(before, "a")
    assert of(again, "a")[: len(seen)] == seen
    assert not set(of(other, "a")) & set(seen)
    assert of(again, "a")[len(seen) :] == of(other, "a")[: len(of(again, "a")) - len(seen)]
    # which windows are replay's, and all others, are the same
    assert [name for name, _ in again] == [name for name, _ in other]
    assert of(again, "b") == of(other, "b")


@few
@given(st.integers(0, 29), st.integers(0, 30))
def test_literal_replay_is_the_same_wherever_it_is_begun_and_resumed(step: int, steps: int) -> None:
    one = stream(CPT[0], reread("a"), phase("tail", 9, shares(a=1.0), hold()))
    alone = [window for k in range(30) for window in read(one, k, 1)]
    steps = min(steps, 30 - step)
    assert read(one, step, steps) == alone[BATCH * step : BATCH * (step + steps)]
    assert read(stream(CPT[0], reread("a")), 0, 21) == alone[: BATCH * 21]


@pytest.mark.parametrize("steps", [4, 20])
def test_behind_literal_replay_unseen_text_goes_on(steps: int) -> None:
    one = stream(CPT[0], reread("a", steps=steps), phase("tail", 4, shares(a=1.0), hold()))
    seen = [*of(read(one, 0, 9), "a"), *of(read(one, 9, steps), "a")]
    assert (len(set(seen)) == 18) == (steps == 4)  # 20 steps read more than the trunk did
    tail = of(read(one, 9 + steps, 4), "a")
    assert not set(tail) & set(seen)
    read_twice = one.cursors(9 + steps)[DIGESTS["a"]]
    assert read_twice == len(seen)
    assert one.epochs(9 + steps)[DIGESTS["a"]] == len(seen) / 40


def test_branches_at_two_ratios_read_nested_prefixes() -> None:
    trunk = phase("trunk", 3, shares(a=1.0))
    found = [
        read(stream(trunk, phase("cpt", 16, shares(b=r, a=1 - r), hold())), 3, 16)
        for r in (0.125, 1 / 3, 0.5, 0.9)
    ]
    for low, high in itertools.pairwise(found):
        domain, more = of(low, "b"), of(high, "b")
        assert len(domain) < len(more)
        assert domain == more[: len(domain)]
        general, less = of(low, "a"), of(high, "a")
        assert less == general[: len(less)]


def test_weights_zero_and_one_are_legal() -> None:
    control = read(stream(phase("trunk", 5, shares(b=0.0, a=1.0))), 0, 5)
    assert control == read(stream(phase("trunk", 5, shares(a=1.0))), 0, 5)
    assert of(control, "b") == []
    cliff = read(stream(phase("trunk", 5, shares(b=1.0, a=0.0))), 0, 5)
    assert len(of(cliff, "b")) == 10


def test_three_corpora_get_their_shares_and_no_window_twice() -> None:
    found = read(stream(THREE), 0, 30)
    counts = {name: len(of(found, name)) for name in "abc"}
    assert counts == {"a": 30, "b": 18, "c": 12}
    assert len(set(found)) == 60


def test_cursors_and_epochs_are_what_was_read() -> None:
    one = stream(*CPT)
    for step in range(22):
        found = read(one, 0, step)
        cursors = {name: one.cursors(step)[DIGESTS[name]] for name in "ab"}
        assert cursors == {name: len(of(found, name)) for name in "ab"}
    assert one.epochs(21) == {DIGESTS["a"]: 36 / 40, DIGESTS["b"]: 6 / 60}


def test_a_seed_orders_each_corpus_its_own_way() -> None:
    whole = phase("p", 20, shares(a=1.0))
    orders = [tuple(of(read(stream(whole, seed=seed), 0, 20), "a")) for seed in range(3)]
    assert len(set(orders)) == 3
    both = read(stream(phase("p", 20, shares(a=0.5, c=0.5))), 0, 20)
    assert of(both, "a") != of(both, "c")  # though they are of one size
