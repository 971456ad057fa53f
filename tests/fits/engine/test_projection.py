"""Variable projection: SciPy's bounded least squares, by every choice of what is at 0."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from fits.engine.lanes import Lanes
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.projection import eliminated, linear_start
from fits.engine.solve import solve, solve_lanes
from fits.form import Law, Parameter, Variable
from fits.laws import law

POINTS = 12
NAMES = ("a", "b", "c", "d")


def plane(lows: Mapping[str, float], bounds: Any = None) -> tuple[Problem, np.ndarray]:
    """y = a + b u + c v + d w on random columns, each parameter with its lower bound."""
    columns = np.random.default_rng(7).normal(size=(POINTS, 4))
    columns[:, 0] = 1.0

    def predict(p: Any, x: Any) -> Any:
        return sum(p[name] * x[name] for name in NAMES)

    law = Law(
        name="plane",
        title="",
        formula="",
        response=Variable("y", "1", "", positive=False),
        variables=tuple(Variable(name, "1", "", positive=False) for name in NAMES),
        parameters=tuple(Parameter(name, "", low=lows[name]) for name in NAMES),
        source="",
        predict=predict,
        linear=NAMES,
    )
    x = {name: columns[:, k] for k, name in enumerate(NAMES)}
    return Problem(law, x, np.zeros(POINTS), objective("squares"), bounds=bounds or {}), columns


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.integers(0, 10_000),
)
def test_it_is_the_bounded_least_squares_of_scipy(
    truth: list[float], positive: list[bool], seed: int
) -> None:
    positive[3] = positive[3] and not all(positive[:3])  # at most three are projected
    lows = {n: 0.0 if one else -np.inf for n, one in zip(NAMES, positive, strict=True)}
    problem, columns = plane(lows)
    y = columns @ np.array(truth) + np.random.default_rng(seed).normal(size=POINTS)
    found, basis = eliminated(problem, (), NAMES, np.zeros((1, 0)), Lanes(y[None]))
    low = np.array([lows[name] for name in NAMES])
    expected = optimize.lsq_linear(columns, y, (low, np.inf), method="bvls", tol=1e-14).x
    ours = np.array([found[name][0] for name in NAMES])
    assert (ours >= low).all()
    np.testing.assert_allclose(columns @ ours, columns @ expected, atol=1e-7)
    np.testing.assert_allclose(ours, expected, atol=1e-7)
    r = y - columns @ ours
    np.testing.assert_allclose(basis[0].T @ r, 0, atol=1e-10)


def test_all_positive_is_nnls_even_with_more_bounds_than_are_projected() -> None:
    problem, columns = plane(dict.fromkeys(NAMES, 0.0))
    assert problem.linear == ()  # four bounds: searched by their logarithms instead
    y = columns @ np.array([1.0, 0.5, -0.7, 0.2]) + 0.1
    found = solve(Problem(problem.law, problem.x, y, problem.objective))
    expected, missed = optimize.nnls(columns, y)
    assert found.objective == pytest.approx(missed**2, rel=1e-6)
    np.testing.assert_allclose([found.params[n] for n in NAMES], expected, atol=1e-5)


@pytest.mark.parametrize("ends", [(-0.2, 0.2), (0.0, 0.3), (0.4, np.inf), (-np.inf, 0.0)])
def test_a_linear_parameter_within_bounds_is_searched_there(ends: tuple[float, float]) -> None:
    bounds = {"b": ends}
    problem, columns = plane(dict.fromkeys(NAMES, -np.inf), bounds)
    assert problem.searched == ("b",)
    y = columns @ np.array([1.0, 0.5, -0.7, 0.2])
    low = np.array([-np.inf, ends[0], -np.inf, -np.inf])
    high = np.array([np.inf, ends[1], np.inf, np.inf])
    found = solve(Problem(problem.law, problem.x, y, problem.objective, bounds=bounds))
    expected = optimize.lsq_linear(columns, y, (low, high), method="bvls", tol=1e-14)
    assert found.objective == pytest.approx(2 * expected.cost, rel=1e-7, abs=1e-18)
    np.testing.assert_allclose([found.params[n] for n in NAMES], expected.x, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=POINTS, max_size=POINTS))
def test_weights_are_repeated_rows_and_0_is_none(weights: list[int]) -> None:
    problem, columns = plane({"a": -np.inf, "b": 0.0, "c": -np.inf, "d": 0.0})
    y = columns @ np.array([1.0, 0.5, -0.7, 0.2]) + np.sin(np.arange(POINTS))
    if np.count_nonzero(weights) < 4:
        return
    found, value = solve_lanes(problem, {}, Lanes(y[None], np.array([weights], float)), 1)
    rows = np.repeat(np.arange(POINTS), weights)
    again = solve(
        Problem(problem.law, {n: v[rows] for n, v in problem.x.items()}, y[rows], problem.objective)
    )
    assert value[0] == pytest.approx(again.objective, rel=1e-9, abs=1e-20)
    for name in NAMES:
        assert found[name][0] == pytest.approx(again.params[name], rel=1e-7, abs=1e-9)


def test_a_column_that_repeats_another_shares_its_part() -> None:
    problem, columns = plane(dict.fromkeys(NAMES, -np.inf))
    x = {**problem.x, "d": 2.0 * problem.x["c"]}
    y = columns[:, :3] @ np.array([1.0, 0.5, -0.7])
    again = Problem(problem.law, x, y, problem.objective)
    found, _ = eliminated(again, (), NAMES, np.zeros((1, 0)), Lanes(y[None]))
    # d = 2 c in columns scaled to one length: both take half
    assert [found[name][0] for name in NAMES] == pytest.approx([1.0, 0.5, -0.35, -0.175])


def test_starts_of_linear_parameters_lie_within_their_bounds_and_never_at_0() -> None:
    bounds = {"a": (0.0, np.inf), "b": (0.0, 0.1), "c": (1.0, 2.0), "d": (-2.0, -1.0)}
    problem, columns = plane(dict.fromkeys(NAMES, -np.inf), bounds)
    y = columns @ np.array([-1.0, 0.5, -0.7, 0.2])
    found = linear_start(problem, {}, Lanes(y[None]), 1)
    for name, (low, high) in bounds.items():
        assert low <= found[name][0] <= high
    assert found["a"][0] > 0
    assert found["b"][0] > 0


def test_columns_that_depend_on_each_other_still_give_the_best_prediction() -> None:
    # the two terms of one exponent are one column; QR without pivots would lose the third
    tokens = np.geomspace(0.2e9, 40e9, 24)
    y = 0.1 - 0.3 * (tokens / 0.2e9) ** 0.2 + 1e-3 * np.random.default_rng(0).normal(size=24)
    pinned = {"s2": 0.2, "s3": 0.2}
    law_ = law("cmr-general-tokens")
    problem = Problem(law_, {"cpt_tokens": tokens}, y, objective("squares"), pinned)
    found = solve(problem)
    line = stats.linregress((tokens / 0.2e9) ** 0.2, y)
    assert found.params["a2"] + found.params["a3"] == pytest.approx(line.slope, rel=1e-9)
    assert found.params["b2"] == pytest.approx(line.intercept, rel=1e-9)
