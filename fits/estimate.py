"""The best parameters and their intervals, by the method asked for or the reason for none."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fits.asked import Method
from fits.engine.identifiable import status_of
from fits.engine.identify import Identified, at_zero
from fits.engine.problem import Problem
from fits.engine.profile import profile_intervals
from fits.engine.solve import Solution, solve
from fits.engine.uncertainty import (
    MIN_BOOTSTRAP_UNITS,
    bootstrap,
    covariance_intervals,
    percentile_interval,
    resampling_tail,
    unit_intervals,
)
from fits.errors import Refused
from fits.interval import Interval
from fits.variables import different, take

MAX_IMPROVEMENTS = 3  # times that a profile may find a better fit before the best is taken


def estimate(
    problem: Problem,
    near: Mapping[str, float] | None,
    starts: Mapping[str, Sequence[float]] | None,
    interval: Method,
    draws: int,
    units: list[Any],
    level: float,
) -> tuple[
    Solution,
    Identified,
    dict[str, Interval],
    list[dict[str, float]],
    list[dict[str, float]],
    list[str],
]:
    """(solution, its status, intervals, bootstrap draws, parameters by unit, notes)."""
    best = solve(problem, near, starts)
    if not np.isfinite(best.objective):
        raise Refused(f"law {problem.law.name}: no start ends at a finite objective on these rows")
    for _ in range(MAX_IMPROVEMENTS):
        status = status_of(problem, best.params)
        intervals, resampled, each, notes, better = _intervals(
            problem, best, status, interval, draws, units, level
        )
        if better is None:
            break
        again = solve(problem, better)
        best = dataclasses.replace(again, starts=best.starts + 1, agree=1)
    else:
        status = status_of(problem, best.params)
        intervals, *_ = _intervals(problem, best, status, "covariance", draws, units, level)
        notes = [*notes, "profiles keep finding better fits: intervals are of the curvature"]
    return best, status, intervals, resampled, each, notes


def _intervals(
    problem: Problem,
    best: Solution,
    status: Identified,
    interval: Method,
    draws: int,
    units: list[Any],
    level: float,
) -> tuple[
    dict[str, Interval],
    list[dict[str, float]],
    list[dict[str, float]],
    list[str],
    dict[str, float] | None,
]:
    """(intervals, bootstrap draws, parameters by unit, notes, a better solution if any)."""

    def none(reason: str, say: bool = True) -> Any:
        gone = {name: Interval(None, None, "none", reason) for name in problem.free}
        return gone, [], [], [f"no intervals: {reason}"] if say else [], None

    if interval == "none":
        return none("not asked for", say=False)
    if status.unidentified:  # ends that a search along a flat valley would find mean nothing
        return none("not identified", say=False)
    different_units = len(set(units))
    if interval == "bootstrap" and different_units >= MIN_BOOTSTRAP_UNITS:
        found = bootstrap(problem, best, units, draws)
        tail = resampling_tail(level, different_units)
        intervals = {name: percentile_interval(found, name, tail=tail) for name in problem.free}
        lost = draws - len(found)
        notes = [f"{lost} of {draws} resamplings have no fit and are left out"] if lost else []
        return intervals, found, [], notes, None
    if interval in ("bootstrap", "units"):
        return _over_units(problem, best, units, level, none, interval)
    if problem.objective.kinked:
        return none(f"objective {problem.objective.name} has no curvature: resample")
    if status.covariance is None or status.rise is None:
        return none(
            "as many parameters as points"
            if len(problem.y) <= len(problem.free)
            else "too few residuals near 0 to know the curvature: resample"
        )
    if interval == "covariance":
        return covariance_intervals(problem, best, status.covariance, level), [], [], [], None
    found_intervals, better = profile_intervals(
        problem, best, level, status.covariance, status.rise
    )
    return found_intervals, [], [], [], better


def _over_units(
    problem: Problem, best: Solution, units: list[Any], level: float, none: Any, asked: Method
) -> Any:
    """t intervals over units, each fitted alone: what few units allow."""
    kinds = list(dict.fromkeys(units))
    zero = [name for name in at_zero(problem, best.params) if name in problem.law.linear]
    near = {name: value for name, value in best.params.items() if name not in zero}
    each = []
    for kind in kinds:
        rows = np.flatnonzero([unit == kind for unit in units])
        part = dataclasses.replace(problem, x=take(problem.x, rows), y=problem.y[rows])
        if different(part.x) < len(problem.free):
            few = "too few to resample, and too small" if asked == "bootstrap" else "too small"
            return none(f"{len(kinds)} units: {few} to fit alone")
        each.append(solve(part, near=near).params)
    if len(kinds) < 2:
        return none("one unit: its noise cannot be measured")
    scales = [name for name in problem.free if problem.by_log(name)]
    intervals = unit_intervals(each, best.params, level, scales)
    notes = []
    if asked == "bootstrap":
        notes = [f"{len(kinds)} units are too few to resample: t intervals over their own fits"]
    return {name: intervals[name] for name in problem.free}, [], each, notes, None
