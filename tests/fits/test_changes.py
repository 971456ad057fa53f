"""Sums over changes of rate: exact on short curves, within the promised bound on long ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fits.changes import NODES, Changes
from fits.rates import Curve, schedule

Floats = NDArray[np.float64]
PEAK = 3e-4
BOUND = 2e-8  # of the whole change of rate: what fits/changes.py promises

# C, beta, gamma of the multi-power law: the published, and others all over its bounds
KERNELS = [
    (2.066, 0.583, 0.641),
    (0.0015, 0.25, 1.38),
    (0.1, 0.05, 0.3),
    (50.0, 1.5, 0.9),
    (1e4, 0.2, 0.01),
    (1e-3, 8.0, 1.9),
    (1e6, 0.01, 2.0),
]


def every_128(rate: Floats) -> Floats:
    """As a log with a row every 128 steps gives it."""
    rows = np.append(0, np.arange(2160, len(rate) + 1, 128))
    return np.interp(np.arange(1, len(rate) + 1), rows, np.append(0.0, rate)[rows])


def decay(shape: str, end: float = 3e-5) -> Floats:
    return schedule("wsd", 24000, PEAK, warmup=2160, end=end, decay=4000, shape=shape)


def noisy(steps: int) -> Floats:
    """A rate that is nowhere smooth: no block may stand for its steps."""
    return PEAK * np.random.default_rng(5).uniform(0.2, 1.0, steps)


COSINE = schedule("cosine", 24000, PEAK, warmup=2160, end=3e-5)
LONG = {
    "cosine": COSINE,
    "cosine in single precision": COSINE.astype(np.float32).astype(np.float64),
    "cosine to 0, no warm-up": schedule("cosine", 24000, PEAK),
    "cosine, logged": every_128(COSINE),
    "linear": decay("linear"),
    "linear to 0": decay("linear", 0.0),
    "exponential": decay("exponential"),
    "1-sqrt": decay("1-sqrt"),
    "two-stage": schedule("two-stage", 24000, PEAK, warmup=2160, end=9e-5, decay=8000),
    "two cycles": np.concatenate([schedule("cosine", 9000, PEAK, warmup=500)] * 2),
    "noise": noisy(5000),
    "odd length": schedule("cosine", 9973, PEAK, warmup=111),
}


def multi_power(C: float, beta: float, gamma: float, log_rate: Floats, since: Floats) -> Floats:
    return np.asarray(1.0 - (1.0 + C * np.exp(-gamma * log_rate) * since) ** -beta)


def terms(changes: Changes, kernel: tuple[float, float, float]) -> Floats:
    return changes.signed * multi_power(*kernel, changes.log_rate, changes.from_step)


def by_steps(curve: Curve, t: int, kernel: tuple[float, float, float]) -> float:
    """The sum at step t over every step, no blocks."""
    log_rate = np.log(np.maximum(curve.rate[:t], 1e-100))
    since = curve.summed[t] - curve.summed[:t]
    return float((curve.change[:t] * multi_power(*kernel, log_rate, since)).sum())


@pytest.mark.parametrize("name", LONG)
def test_sums_by_blocks_are_within_the_bound_of_sums_by_steps(name: str) -> None:
    curve = Curve(name, LONG[name])
    whole = np.abs(curve.change).sum()
    top = len(curve.rate)
    steps = np.unique(np.append(np.linspace(1, top, 15), [top // 2 + 1, top - 1]).astype(np.int64))
    found = curve.history.at(steps)
    for kernel in KERNELS:
        exact = [by_steps(curve, int(t), kernel) for t in steps]
        np.testing.assert_allclose(found.sum(terms(found, kernel)), exact, atol=BOUND * whole)


@pytest.mark.parametrize("name", LONG)
def test_sums_of_falls_are_within_the_bound(name: str) -> None:
    curve = Curve(name, LONG[name])
    falls = np.maximum(curve.change, 0.0)
    steps = np.linspace(1, len(curve.rate), 9).astype(np.int64)
    found = curve.history.at(steps)
    for s, c4, gamma in [(0.5, 10.0, 0.3), (2.0, 1e5, 1.0), (0.1, 0.01, 8.0), (3.0, 1e3, 9.0)]:
        left = (1.0 + c4 * found.after_step) ** -gamma
        sums = found.sum(found.falls * np.exp(-s * found.log_time) * (1.0 - left))
        for got, t in zip(sums, steps, strict=True):
            since = curve.summed[t] - curve.summed[1 : t + 1]
            faded = curve.summed[1 : t + 1] ** -s
            exact = falls[:t] @ (faded * (1.0 - (1.0 + c4 * since) ** -gamma))
            assert got == pytest.approx(exact, abs=BOUND * float(falls[:t] @ faded) + 1e-300)


@pytest.mark.parametrize("name", ["cosine", "cosine in single precision"])
def test_a_smooth_decay_takes_few_terms(name: str) -> None:
    steps = np.arange(3000, 24001, 1000)
    smooth = Curve("", LONG[name]).history.at(steps)
    assert np.diff(smooth.first).max() < 600  # of 24000


def test_a_jump_takes_one_term() -> None:
    level = np.full(20000, PEAK)
    jump = Curve("", np.concatenate([level, level / 3])).history.at(np.array([100, 20001, 40000]))
    np.testing.assert_array_equal(jump.first, [0, 0, 1, 2])
    np.testing.assert_allclose(jump.signed, PEAK - PEAK / 3)
    np.testing.assert_allclose(jump.from_step, [PEAK / 3, 20000 * PEAK / 3])
    np.testing.assert_allclose(jump.after_step, [0.0, 19999 * PEAK / 3], atol=1e-12)


def test_a_curve_shorter_than_a_block_is_summed_step_by_step() -> None:
    rate = np.array([4.0, 2.0, 1.0])
    assert len(rate) < NODES
    found = Curve("", rate).history.at(np.array([1, 2, 3]))
    np.testing.assert_array_equal(found.first, [0, 0, 1, 3])
    np.testing.assert_array_equal(found.signed, [2.0, 2.0, 1.0])
    np.testing.assert_array_equal(found.from_step, [2.0, 3.0, 1.0])
    np.testing.assert_array_equal(found.after_step, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(np.exp(found.log_time), [6.0, 6.0, 7.0])


def test_terms_of_some_places_are_those_of_the_places_alone() -> None:
    history = Curve("", COSINE).history
    steps = np.array([3000, 9000, 15000, 21000])
    rows = np.array([2, 0, 0, 3])
    part, alone = history.at(steps)[rows], history.at(steps[rows])
    for name in ("first", "signed", "falls", "log_rate", "from_step", "after_step", "log_time"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))


def test_a_place_without_terms_sums_to_nothing() -> None:
    flat = Curve("", np.full(100, PEAK)).history.at(np.array([5, 50]))
    np.testing.assert_array_equal(flat.sum(np.zeros(0)), [0.0, 0.0])
