"""Levenberg-Marquardt in lanes: minima, bounds, lanes apart, nothing that raises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fits.engine.march import march

FREE = np.full(2, np.inf)


def rosenbrock(u: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(1 - x)^2 + 100 (y - x^2)^2 as two residuals."""
    x, y = u[:, 0], u[:, 1]
    r = np.stack([1 - x, 10 * (y - x * x)], 1)
    down = np.zeros((len(u), 2, 2))  # minus the residuals' slopes
    down[:, 0, 0] = 1.0
    down[:, 1, 0], down[:, 1, 1] = 20 * x, -10.0
    slope = 2 * np.einsum("sij,si->sj", down, r)
    return (r * r).sum(1), slope, 2 * np.einsum("sij,sik->sjk", down, down)


STARTS = np.array([[-1.2, 1.0], [3.0, -2.0], [0.0, 0.0], [1.0, 1.0]])


def test_every_lane_ends_at_the_minimum() -> None:
    ends, values = march(rosenbrock, STARTS, -FREE, FREE, 200, 1e-12)
    np.testing.assert_allclose(ends, 1.0, atol=1e-6)
    assert (values < 1e-12).all()


@pytest.mark.parametrize(
    ("low", "high"), [([-2, -2], [0.5, 2]), ([1.5, -9], [9, 9]), ([-9, -9], [9, 0.3])]
)
def test_bounds_hold_and_the_end_is_scipys(low: list[float], high: list[float]) -> None:
    ends, values = march(rosenbrock, STARTS, np.array(low), np.array(high), 400, 1e-14)
    assert (ends >= low).all()
    assert (ends <= high).all()
    inside = np.clip(STARTS[2], np.add(low, 1e-3), np.subtract(high, 1e-3))
    plain = optimize.least_squares(
        lambda u: [1 - u[0], 10 * (u[1] - u[0] ** 2)], inside, bounds=(low, high), xtol=1e-15
    )
    assert values.min() == pytest.approx(2 * plain.cost, rel=1e-6)


def test_lanes_are_the_same_alone_together_and_in_any_order() -> None:
    ends, values = march(rosenbrock, STARTS, -FREE, FREE, 9, 1e-12)
    for order in ([3, 1, 0, 2], [1], [2, 2]):
        again, again_values = march(rosenbrock, STARTS[order], -FREE, FREE, 9, 1e-12)
        np.testing.assert_array_equal(again, ends[order])
        np.testing.assert_array_equal(again_values, values[order])


def test_a_lane_without_a_value_stays_where_it_is() -> None:
    def half(u: np.ndarray, rows: Any) -> Any:
        value, slope, curve = rosenbrock(u, rows)
        return np.where(u[:, 0] < 0, np.inf, value), slope, curve

    ends, values = march(half, STARTS, -FREE, FREE, 200, 1e-12)
    np.testing.assert_array_equal(ends[0], STARTS[0])
    assert np.isinf(values[0])
    np.testing.assert_allclose(ends[1:], 1.0, atol=1e-6)


def test_nothing_searched_is_the_value_there() -> None:
    def flat(u: np.ndarray, rows: Any) -> Any:
        return np.arange(3.0)[rows], np.zeros((len(u), 0)), np.zeros((len(u), 0, 0))

    ends, values = march(flat, np.zeros((3, 0)), np.zeros(0), np.zeros(0), 9, 1e-9)
    assert ends.shape == (3, 0)
    np.testing.assert_array_equal(values, [0.0, 1.0, 2.0])


SIZES = st.sampled_from([0.0, 1e-320, 1e-200, 1e-8, 1.0, 1e8, 1e200, 1.7e308])


@settings(max_examples=100, deadline=None)
@given(st.lists(SIZES, min_size=6, max_size=6), st.integers(0, 99))
def test_no_curvature_however_wild_raises(sizes: list[float], seed: int) -> None:
    """One lane's singular matrix must not end the others."""
    random = np.random.default_rng(seed)

    def wild(u: np.ndarray, rows: Any) -> Any:
        slope = random.choice(sizes[:3], (len(u), 3)) * random.choice([-1, 1], (len(u), 3))
        down = random.choice(sizes[3:], (len(u), 3))
        curve = np.nan_to_num(down[:, :, None] * down[:, None, :])
        value = random.uniform(0, 1, len(u))
        return np.where(np.isfinite(u).all(1), value, np.inf), slope, curve

    with np.errstate(all="ignore"):
        ends, values = march(wild, np.zeros((4, 3)), -np.ones(3), np.ones(3), 20, 1e-10)
    assert np.isfinite(values).all()
    assert np.isfinite(ends).all()
