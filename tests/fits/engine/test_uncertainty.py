"""Intervals: against textbook formulas, and against the truth they must cover."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fits import Interval, law, mean_interval
from fits.engine import uncertainty
from fits.engine.identify import identify
from fits.engine.lanes import Lanes
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.profile import profile
from fits.engine.solve import Solution, solve, solve_lanes
from fits.engine.uncertainty import (
    bootstrap,
    invert_test,
    percentile_interval,
    resampling_tail,
    t_quantile,
    unit_intervals,
)

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def ratio_problem(noise: float, seed: int, s: float = 0.3, copies: int = 1) -> Problem:
    x = np.tile(RATIOS, copies)
    y = 1.9 - 0.4 * x**s + noise * np.random.default_rng(seed).normal(size=len(x))
    return Problem(law("cmr-ratio"), {"ratio_domain": x}, y, objective("squares"))


def profile_interval(problem: Problem, best: Solution, name: str, level: float) -> Interval:
    status = identify(problem, best.params)
    width = len(problem.free)
    spread = np.eye(width) if status.covariance is None else status.covariance
    rise = np.ones(width) if status.rise is None else status.rise
    return profile(problem, best, name, level, spread, rise).interval


def test_mean_interval_is_scipys_t_interval() -> None:
    values = [0.3, 0.5, 0.1, 0.45]
    for level in (0.8, 0.95):
        one = mean_interval(values, level)
        expected = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
        assert (one.low, one.high) == pytest.approx(expected)
    assert mean_interval(values).method == "t over 4 units"


def test_one_unit_has_no_interval() -> None:
    one = mean_interval([0.3])
    assert (one.low, one.high, one.method) == (None, None, "none")
    alone = unit_intervals([{"s": 0.3}], {"s": 0.3}, 0.95)["s"]
    assert (alone.low, alone.high, alone.method) == (None, None, "none")


def test_interval_over_units_has_the_t_width_around_the_centre() -> None:
    units = [{"s": 0.3}, {"s": 0.4}, {"s": 0.35}]
    one = unit_intervals(units, {"s": 0.36}, 0.9)["s"]
    half = stats.t.ppf(0.95, 2) * np.std([0.3, 0.4, 0.35], ddof=1) / np.sqrt(3)
    assert (one.low, one.high) == pytest.approx((0.36 - half, 0.36 + half))


def test_scales_have_their_interval_over_units_by_logarithm() -> None:
    units = [{"B": 100.0}, {"B": 1000.0}, {"B": 10_000.0}]
    one = unit_intervals(units, {"B": 1000.0}, 0.95, ["B"])["B"]
    half = stats.t.ppf(0.975, 2) * np.log(10) / np.sqrt(3)
    assert (one.low, one.high) == pytest.approx((1000 * np.exp(-half), 1000 * np.exp(half)))
    plain = unit_intervals(units, {"B": 1000.0}, 0.95)["B"]
    assert plain.low is not None
    assert plain.low < 0


def test_an_end_beyond_the_largest_float_is_no_bound() -> None:
    units = [{"A": 1e-40}, {"A": 1e60}]  # half of 1463 in the logarithm
    one = unit_intervals(units, {"A": 1e10}, 0.95, ["A"])["A"]
    assert (one.low, one.high, one.note) == (0.0, None, "not bounded above")
    near = unit_intervals([{"A": 1.0}, {"A": 1e40}], {"A": 1e20}, 0.95, ["A"])["A"]
    assert near.high == pytest.approx(1e20 * np.exp(12.7062 * 20 * np.log(10)), rel=1e-3)


def test_profile_of_a_linear_law_is_the_textbook_interval() -> None:
    free = ratio_problem(2e-3, 0)
    pinned = Problem(free.law, free.x, free.y, objective("squares"), {"s": 1.0})
    one = profile_interval(pinned, solve(pinned), "alpha", 0.95)
    line = stats.linregress(RATIOS, free.y)
    half = stats.t.ppf(0.975, 4) * line.stderr
    expected = (line.slope - half, line.slope + half)
    assert (one.low, one.high) == pytest.approx(expected, abs=2e-3 * half)
    assert (one.method, one.note) == ("profile", "")


def test_profile_is_wider_at_a_higher_level_and_with_more_noise() -> None:
    def width(noise: float, level: float) -> float:
        problem = ratio_problem(noise, 3)
        one = profile_interval(problem, solve(problem), "s", level)
        assert one.low is not None
        assert one.high is not None
        return one.high - one.low

    assert width(1e-3, 0.5) < width(1e-3, 0.95)
    assert width(1e-3, 0.95) == pytest.approx(10 * width(1e-4, 0.95), rel=0.1)


def test_profile_says_which_side_the_data_do_not_bound() -> None:
    problem = ratio_problem(0.03, 0)
    one = profile_interval(problem, solve(problem), "s", 0.95)
    assert one.low is None
    assert one.note.startswith("not bounded below")


def test_a_bound_of_another_parameter_is_no_end_that_the_data_make() -> None:
    problem = ratio_problem(0.03, 0)  # s reaches its bound .01, where alpha and beta would stop
    best = solve(problem)
    alpha, beta = (profile_interval(problem, best, name, 0.95) for name in ("alpha", "beta"))
    assert (alpha.low, beta.high) == (None, None)
    assert alpha.high is not None
    assert alpha.high < 0


def test_as_many_parameters_as_points_have_no_profile() -> None:
    problem = ratio_problem(1e-3, 0)
    few = Problem(problem.law, {"ratio_domain": RATIOS[:3]}, problem.y[:3], objective("squares"))
    one = profile_interval(few, solve(few), "s", 0.95)
    assert (one.low, one.high, one.note) == (None, None, "as many parameters as points")


def test_resampling_draws_whole_units(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ratio_problem(1e-3, 0, copies=7)
    units = [name for name in "abcdefg" for _ in RATIOS]
    seen: list[Any] = []

    def kept(again: Problem, near: Any, lanes: Lanes, count: int) -> Any:
        seen.append(lanes.weights)
        return solve_lanes(again, near, lanes, count)

    monkeypatch.setattr(uncertainty, "solve_lanes", kept)
    found = bootstrap(problem, solve(problem), units, 12)
    assert len(found) == 12
    (weights,) = seen
    of_unit = weights.reshape(12, 7, len(RATIOS))
    assert (of_unit == of_unit[:, :, :1]).all()  # a unit's rows go together
    assert (of_unit[:, :, 0].sum(1) == 7).all()
    assert len({tuple(one) for one in of_unit[:, :, 0]}) > 6


@pytest.mark.parametrize("kind", ["squares", "huber-log", "squares-log"])
def test_a_weighted_refit_is_the_refit_of_repeated_rows(kind: str) -> None:
    problem = replace(ratio_problem(1e-3, 0, copies=2), objective=objective(kind))
    best = solve(problem)
    (draw,) = bootstrap(problem, best, list(range(12)), 1)
    rows = np.random.default_rng(0).integers(0, 12, (1, 12))[0]
    x = {name: values[rows] for name, values in problem.x.items()}
    again = solve(replace(problem, x=x, y=problem.y[rows]), near=best.params)
    assert draw == pytest.approx(again.params, rel=1e-4)


def test_resampling_is_repeatable_and_its_seed_matters() -> None:
    problem = ratio_problem(1e-3, 0, copies=2)
    best, units = solve(problem), list(range(12))
    first = bootstrap(problem, best, units, 4)
    assert first == bootstrap(problem, best, units, 4)
    assert first != bootstrap(problem, best, units, 4, seed=1)


def test_resampled_spread_agrees_with_the_profile_when_points_are_many() -> None:
    problem = ratio_problem(1e-3, 0, copies=10)
    best = solve(problem)
    draws = bootstrap(problem, best, list(range(60)), 300)
    resampled = percentile_interval(draws, "s", tail=0.025)
    profiled = profile_interval(problem, best, "s", 0.95)
    assert resampled.low is not None
    assert resampled.high is not None
    assert profiled.low is not None
    assert profiled.high is not None
    ratio = (resampled.high - resampled.low) / (profiled.high - profiled.low)
    assert 0.8 < ratio < 1.25


def test_percentiles_leave_half_of_the_rest_on_each_side() -> None:
    draws = [{"s": float(k)} for k in range(101)]
    one = percentile_interval(draws, "s", tail=0.05)
    assert (one.low, one.high) == pytest.approx((5.0, 95.0))


def test_inverting_a_test_keeps_the_hull_and_opens_at_the_ends() -> None:
    grid = np.linspace(0, 1, 6)
    kept = np.array([False, True, False, True, False, False])
    assert invert_test(~kept, grid) == (pytest.approx(0.2), pytest.approx(0.6))
    assert invert_test(np.array([False] * 2 + [True] * 4), grid) == (None, pytest.approx(0.2))
    assert invert_test(np.array([True] * 4 + [False] * 2), grid) == (pytest.approx(0.8), None)


def test_quantile_is_two_sided() -> None:
    assert t_quantile(0.95, 2) == pytest.approx(4.302653, abs=1e-6)


def test_the_tail_of_many_units_is_the_normal_one_and_of_few_far_out() -> None:
    assert resampling_tail(0.95, 100_000) == pytest.approx(0.025, rel=1e-3)
    # 6 units: Student's 2.5706 with 5 degrees of freedom, times the root of 6 / 5
    assert resampling_tail(0.95, 1) == 0.0
    assert resampling_tail(0.95, 6) == pytest.approx(stats.norm.sf(2.5706 * np.sqrt(1.2)), rel=1e-3)


def test_big_resamplings_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ratio_problem(1e-3, 0, copies=2)
    best = solve(problem)
    whole = bootstrap(problem, best, list(range(12)), 10)
    monkeypatch.setattr(uncertainty, "BLOCK_WEIGHTS", 3 * 12)
    assert bootstrap(problem, best, list(range(12)), 10) == whole
