"""The solver: exact slopes, and the optima that SciPy finds without our shortcuts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from fits import law
from fits.engine.objective import HUBER_DELTA, objective
from fits.engine.problem import Problem
from fits.engine.solve import solve

TOKENS = {"cpt_tokens": np.geomspace(0.2e9, 40e9, 24)}
SIZES, DATA = (
    axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 5))
)
SIZE_AND_DATA = {"n_params": SIZES, "n_tokens": DATA}
CASES: dict[str, tuple[dict[str, float], Mapping[str, Any]]] = {
    "chinchilla": (
        {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
        SIZE_AND_DATA,
    ),
    "cmr-ratio": (
        {"alpha": -0.43, "s": 0.3, "beta": 1.9},
        {"ratio_domain": np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])},
    ),
    "cmr-domain-tokens": ({"a1": -0.2, "s1": 0.25, "b1": 0.05}, TOKENS),
    "cmr-general-tokens": ({"a2": -0.3, "s2": -0.8, "a3": -0.02, "s3": 0.5, "b2": 0.3}, TOKENS),
    "cmr-critical": ({"a4": 0.12, "s4": 0.3, "b3": 0.02}, TOKENS),
}


def noisy(name: str, noise: float, kind: str = "squares", seed: int = 0) -> Problem:
    params, x = CASES[name]
    y = law(name).predict(params, x)
    y = y + noise * np.random.default_rng(seed).normal(size=len(y))
    return Problem(law(name), x, y, objective(kind))


def central(of: Any, at: dict[str, float], name: str) -> Any:
    step = 1e-6 * max(1e-2, abs(at[name]))
    up, down = ({**at, name: at[name] + sign * step} for sign in (1, -1))
    return (of(up) - of(down)) / (2 * step)


def slope_of(problem: Problem, params: dict[str, float]) -> Any:
    """Gradient of the objective by the free parameters."""
    pull, _ = problem.objective.pulls(problem.residuals(params))
    return -(problem.residual_jacobian(params, problem.free).T @ pull)


@pytest.mark.parametrize("name", CASES)
def test_exact_slopes_equal_central_differences(name: str) -> None:
    problem, params = noisy(name, 0.0), CASES[name][0]
    jacobian = problem.jacobian(params, problem.free)
    assert jacobian.shape == (len(problem.y), len(params))
    for k, parameter in enumerate(problem.free):
        expected = central(problem.predict, params, parameter)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(jacobian[:, k], expected, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("kind", ["squares", "huber-log"])
@pytest.mark.parametrize("name", ["chinchilla", "cmr-ratio", "cmr-critical"])
def test_slope_of_the_objective_equals_central_differences(name: str, kind: str) -> None:
    problem, params = noisy(name, 4e-3, kind), CASES[name][0]
    if kind == "huber-log":  # both branches of the loss are there
        small = np.abs(problem.residuals(params)) <= HUBER_DELTA
        assert 0 < small.sum() < len(small)
    slope = slope_of(problem, params)
    expected = [central(problem.value, params, one) for one in problem.free]
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_variable_projection_ends_at_the_optimum_of_plain_least_squares(name: str) -> None:
    problem = noisy(name, 1e-3)
    found = solve(problem)
    names, at = problem.free, np.array([found.params[one] for one in problem.free])
    scale = np.maximum(np.abs(at), 1e-3)
    plain = optimize.least_squares(
        lambda u: problem.residuals(dict(zip(names, u * scale, strict=True))),
        1.02 * at / scale,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=5000,
    )
    assert found.objective <= 2 * plain.cost * (1 + 1e-9)
    np.testing.assert_allclose(plain.x * scale, at, rtol=1e-4)


def test_no_descent_from_the_robust_optimum_finds_a_better_one() -> None:
    problem = noisy("chinchilla", 0.01, "huber-log")
    found = solve(problem)
    assert found.agree > found.starts / 2
    names, at = problem.free, np.array([found.params[one] for one in problem.free])
    again = optimize.minimize(
        lambda u: problem.value(dict(zip(names, u * at, strict=True))) / found.objective,
        np.ones(len(at)),
        method="Nelder-Mead",
        options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-10, "fatol": 1e-12},
    )
    assert again.fun > 1 - 1e-7


def test_a_gross_outlier_moves_the_robust_fit_far_less_than_squares() -> None:
    moved = {}
    for kind in ("squares", "huber-log"):
        clean = noisy("chinchilla", 1e-3, kind)
        y = clean.y.copy()
        y[7] += 1.0
        spoilt = Problem(clean.law, clean.x, y, clean.objective, {})
        moved[kind] = abs(solve(spoilt).params["alpha"] - solve(clean).params["alpha"])
    assert moved["huber-log"] < 0.05 * moved["squares"]


def test_huber_is_quadratic_within_delta_and_linear_beyond() -> None:
    params, x = {"alpha": 1.0, "s": 1.0, "beta": 1.0}, {"ratio_domain": np.array([0.5, 0.5])}
    y = 1.5 * np.exp(np.array([0.5e-3, 4e-3]))
    value = Problem(law("cmr-ratio"), x, y, objective("huber-log")).value(params)
    assert value == pytest.approx(0.5 * (0.5e-3) ** 2 + 1e-3 * (4e-3 - 0.5e-3), rel=1e-9)


@pytest.mark.parametrize("kind", ["squares", "huber-log"])
def test_pinned_parameters_keep_their_value_and_the_others_are_best(kind: str) -> None:
    free = noisy("chinchilla", 0.01, kind)
    pinned = Problem(free.law, free.x, free.y, objective(kind), {"E": 1.7, "beta": 0.4})
    found = solve(pinned)
    assert (found.params["E"], found.params["beta"]) == (1.7, 0.4)
    assert found.objective > solve(free).objective
    slope = slope_of(pinned, found.params)
    inner = slope * [found.params[one] for one in pinned.free]  # of the parameters' logarithms
    assert np.abs(inner).max() < 1e-5 * found.objective


def test_a_coefficient_that_would_be_negative_stops_at_zero() -> None:
    x = SIZE_AND_DATA
    y = 2.0 + 300 * SIZES**-0.35 + 1e-3 * np.log(DATA)  # the loss grows with data
    for kind in ("squares", "huber-log"):
        found = solve(Problem(law("chinchilla"), x, y, objective(kind)))
        assert 0 <= found.params["B"] < 1e-9
        assert found.params["A"] > 1


def test_a_near_start_is_the_only_one() -> None:
    problem = noisy("cmr-ratio", 1e-3)
    best = solve(problem)
    again = solve(problem, near=best.params)
    assert (best.starts, again.starts) == (5, 1)
    assert again.params == pytest.approx(best.params, rel=1e-6)


def test_a_start_that_ends_elsewhere_does_not_agree() -> None:
    # decay and growth fit almost as well: some starts must end in the other valley
    t = TOKENS["cpt_tokens"] / 0.2e9
    y = 0.1 * np.sin(np.log(t))
    found = solve(Problem(law("cmr-domain-tokens"), TOKENS, y, objective("squares")))
    assert found.starts == 4
    assert 1 <= found.agree <= found.starts
    values = [
        solve(
            Problem(law("cmr-domain-tokens"), TOKENS, y, objective("squares")), near=start
        ).objective
        for start in ({"s1": s} for s in (-1.0, -0.3, 0.3, 1.0))
    ]
    assert found.objective == pytest.approx(min(values), rel=1e-9)
    assert found.agree == sum(value <= min(values) * (1 + 1e-6) for value in values)
