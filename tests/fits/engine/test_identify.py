"""What the curvature says: bounds, scales at 0, pairs, parameters without influence."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import fit, law
from fits.engine.identify import bounds_reached, coordinate_jacobian, covariance, identify
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.solve import solve

SIZES, TOKENS = (
    a.ravel() for a in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 8))
)
X = {"n_params": SIZES, "n_tokens": TOKENS}
TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def chinchilla(kind: str = "squares", noise: float = 0.01, **more: Any) -> Problem:
    exact = law("chinchilla").predict(TRUTH, X)
    y = exact * np.exp(noise * np.random.default_rng(0).normal(size=len(SIZES)))
    return Problem(law("chinchilla"), X, y, objective(kind), **more)


def no_data_term(kind: str | None = None) -> pd.DataFrame:
    """Losses that grow a little with data: the best coefficient of a term that falls is 0."""
    y = law("over-training").predict({"E": 1.5, "a": 141.0, "b": 0.0, "eta": 0.121}, X)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(SIZES))
    return pd.DataFrame({**X, "loss_nats": y + 0.006 * np.log(TOKENS / 1e11) + noise})


def test_the_covariance_of_squares_is_the_textbook_one() -> None:
    problem = chinchilla(pinned={"alpha": 0.35, "beta": 0.37})
    params = solve(problem).params
    design = np.stack([np.ones(40), SIZES**-0.35, TOKENS**-0.37], 1)
    r = problem.residuals(params)
    expected = r @ r / 37 * np.linalg.inv(design.T @ design)
    found = covariance(problem, params)
    assert found is not None
    scale = np.array([params[name] for name in ("E", "A", "B")])  # of logarithms
    np.testing.assert_allclose(found * np.outer(scale, scale), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["squares", "huber-log"])
def test_a_scale_at_0_is_at_its_bound_and_the_others_keep_intervals(kind: str) -> None:
    found = fit("over-training", no_data_term(), objective=kind)
    assert found.params["b"] < 1e-9
    assert found.status == "at bound"
    assert "b sits at its bound 0" in found.notes
    for name in ("E", "a", "eta"):
        own = found.interval(name)
        assert own.low is not None
        assert own.high is not None
        assert own.low < found.params[name] < own.high, name


def test_a_scale_at_0_has_an_upper_end_where_the_data_reject_it() -> None:
    table = no_data_term()
    profiled = fit("over-training", table)
    own = profiled.interval("b")
    assert (own.low, own.note) == (None, "not bounded below")
    assert own.high is not None
    limit = profiled.objective_value * (1 + 2.028094**2 / 36)  # t at 36 degrees of freedom
    there = fit("over-training", table, pin={"b": own.high}, interval="none")
    assert there.objective_value == pytest.approx(limit, rel=1e-3)
    by_curvature = fit("over-training", table, interval="covariance").interval("b")
    assert by_curvature.low is None
    assert by_curvature.high is not None
    assert by_curvature.high > 0
    low, high = profiled.band(X, "curve")[1:]
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()


def test_a_coefficient_that_is_small_by_its_unit_is_at_no_bound() -> None:
    problem = chinchilla()
    tiny = Problem(problem.law, X, problem.y * 1e-12, problem.objective)
    params = solve(tiny).params
    assert params["E"] < 1e-9
    assert bounds_reached(tiny, params) == {}
    assert identify(tiny, params).unidentified == ""


def test_a_bound_far_below_1_is_reached_only_when_it_is() -> None:
    problem = chinchilla(bounds={"E": (1e-9, 1e9)})
    assert bounds_reached(problem, {**TRUTH, "E": 1e-8}) == {}
    assert bounds_reached(problem, {**TRUTH, "E": 1e-9}) == {"E": 1e-9}


def test_a_term_at_0_leaves_its_exponent_unidentified() -> None:
    problem = chinchilla()
    found = identify(problem, {**TRUTH, "B": 0.0})
    assert found.at_bound == ("B",)
    assert found.unidentified == "beta has no influence on these points"
    assert found.covariance is None


def test_a_parameter_that_no_point_feels_has_no_influence_at_any_value() -> None:
    x = {"ratio_domain": np.ones(6)}  # R = 1: every exponent gives the same
    found = identify(
        Problem(law("cmr-ratio"), x, np.ones(6), objective("squares")),
        {"alpha": -0.4, "s": 0.3, "beta": 1.4},
    )
    assert found.unidentified == "s has no influence on these points"


def test_columns_that_are_multiples_trade_off() -> None:
    x = {**X, "n_params": np.full(40, 1e9)}
    found = identify(Problem(law("chinchilla"), x, chinchilla().y, objective("squares")), TRUTH)
    assert "trade off against each other" in found.unidentified
    assert "A" in found.unidentified


def test_a_pair_is_named_with_what_is_known_of_each() -> None:
    few = {name: values[TOKENS > 1e11] for name, values in X.items()}
    y = law("chinchilla").predict(TRUTH, few)
    y = y * np.exp(0.02 * np.random.default_rng(1).normal(size=len(y)))
    problem = Problem(law("chinchilla"), few, y, objective("squares"))
    found = identify(problem, solve(problem).params)
    assert ("B", "beta") in found.pairs
    assert any(note.startswith("B and beta trade off (correlation 0.99") for note in found.notes)


def test_the_coordinate_jacobian_is_by_logarithm_for_scales_alone() -> None:
    problem = chinchilla()
    plain = problem.residual_jacobian(TRUTH, problem.free)
    scale = np.array([1.8, 480.0, 2100.0, 1.0, 1.0])
    np.testing.assert_allclose(coordinate_jacobian(problem, TRUTH), plain * scale)


def test_slopes_that_are_not_finite_have_no_covariance() -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        far = {**TRUTH, "A": 1e308, "alpha": -10.0}
        assert covariance(chinchilla(), far) is None
        assert identify(chinchilla(), far).unidentified.startswith("the law's slope is not finite")
