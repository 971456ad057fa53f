"""Absolute and pinball losses: the exact optimum, by another route."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from fits import Refused, fit, law
from fits.engine.kinked import exact_optimum
from fits.engine.lanes import Lanes
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.solve import solve, solve_lanes

RATIOS = np.linspace(0.05, 1.0, 25)


def straight(kind: str, seed: int = 0) -> Problem:
    """L = alpha R + beta with heavy-tailed noise."""
    noise = 0.02 * np.random.default_rng(seed).standard_t(2, size=len(RATIOS))
    y = 1.9 - 0.4 * RATIOS + noise
    return Problem(law("cmr-ratio"), {"ratio_domain": RATIOS}, y, objective(kind), {"s": 1.0})


def by_linear_program(problem: Problem, quantile: float) -> float:
    """The least sum of pinball losses of a straight line, from its textbook linear program."""
    points = len(problem.y)
    design = np.stack([problem.x["ratio_domain"], np.ones(points)], 1)
    above = np.full(points, quantile)
    found = optimize.linprog(
        np.concatenate([np.zeros(2), above, 1.0 - above]),
        A_eq=np.hstack([design, np.eye(points), -np.eye(points)]),
        b_eq=problem.y,
        bounds=[(None, None)] * 2 + [(0, None)] * (2 * points),
    )
    return float(found.fun)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_straight_line_is_the_one_of_the_linear_program(quantile: float, seed: int) -> None:
    problem = straight(f"pinball:{quantile}", seed)
    found = solve(problem)
    assert found.objective == pytest.approx(by_linear_program(problem, quantile), rel=1e-9)
    if quantile == 0.5:
        whole = solve(replace(problem, objective=objective("absolute")))
        assert whole.objective == pytest.approx(2 * found.objective, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_a_quantile_has_its_share_of_residuals_below(quantile: float) -> None:
    problem = replace(straight(f"pinball:{quantile}", 3), pinned={})  # s free: three parameters
    r = problem.residuals(solve(problem).params)
    below, on = np.sum(r < -1e-9), np.sum(np.abs(r) <= 1e-9)
    assert on >= 3  # as many as free parameters
    assert below <= quantile * len(r) <= below + on


def test_no_other_curve_has_a_smaller_sum() -> None:
    problem = replace(straight("absolute", 4), pinned={})
    found = solve(problem)
    start = np.array([found.params[name] for name in problem.free])
    again = optimize.minimize(
        lambda u: problem.value(dict(zip(problem.free, u, strict=True))),
        start * 1.02,
        method="Nelder-Mead",
        options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-12, "fatol": 1e-14},
    )
    assert found.objective <= again.fun * (1 + 1e-9)


def test_a_lane_knows_nothing_of_its_neighbours() -> None:
    problem = replace(straight("absolute"), pinned={})
    noise = np.array([[1.0], [1e-4], [30.0]])  # what is typical in one lane is not in another
    y = 1.9 - 0.4 * RATIOS + noise * (problem.y - 1.9 + 0.4 * RATIOS)
    near = {"s": np.full(3, 1.0)}
    together, values = solve_lanes(problem, near, Lanes(y), 3)
    for k in range(3):
        alone, value = solve_lanes(problem, {"s": np.ones(1)}, Lanes(y[[k]]), 1)
        assert values[k] == value[0]
        assert {name: v[k] for name, v in together.items()} == {n: v[0] for n, v in alone.items()}


def test_numbers_without_noise_are_found_again() -> None:
    problem = replace(straight("absolute"), pinned={}, y=1.9 - 0.4 * RATIOS**0.3)
    found = solve(problem)
    assert found.params == pytest.approx({"alpha": -0.4, "s": 0.3, "beta": 1.9}, rel=1e-8)
    assert found.objective < 1e-12
    assert found.agree == found.starts


def test_where_the_law_has_no_value_there_is_no_step() -> None:
    problem = replace(straight("absolute-log"), pinned={})
    params, value = exact_optimum(problem, {"alpha": -1.0, "s": 1.0, "beta": -1.0})
    assert (params["beta"], value) == (-1.0, np.inf)
    x = np.geomspace(1e9, 2e10, 8)
    table = {"cpt_tokens": x, "change_nats": np.linspace(0.1, 0.2, 8)}
    with pytest.raises(Refused, match="no start ends at a finite objective"):
        fit(
            "cmr-domain-tokens",
            pd.DataFrame(table),
            objective="absolute-log",
            starts={"a1": (-1.0,), "b1": (-1.0,)},
        )
