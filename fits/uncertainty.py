"""How far a number can be trusted: profile, resampling by independent unit, t over units."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fits.result import Interval
from fits.solve import Problem, Solution, solve

Floats = NDArray[np.float64]
MIN_BOOTSTRAP_UNITS = 6  # a percentile interval of three units covers 74 %, not 95 (tried)
_EXPAND = 20  # doublings of the distance (5 % of the value at first) before a side is called open
_PROFILED = (
    1e-6  # relative precision of a profiled objective; the limit lies far more above the best
)
_HALVINGS = 12  # of the last doubling: an interval's end to a few 1e-4 of its distance


def t_quantile(level: float, spare: int) -> float:
    """Two-sided Student quantile."""
    return float(stats.t.ppf(0.5 + level / 2, spare))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """t interval of the mean of independent units."""
    units = len(values)
    if units < 2:
        return Interval(None, None, "none", "one unit: its noise cannot be measured")
    half = t_quantile(level, units - 1) * float(np.std(values, ddof=1)) / math.sqrt(units)
    mean = float(np.mean(values))
    return Interval(mean - half, mean + half, f"t over {units} units")


# Profile ------------------------------------------------------------------------------------


def profile_interval(problem: Problem, best: Solution, name: str, level: float) -> Interval:
    """Values of one parameter that the data do not reject, all others refitted at each.

    For squared residuals: SSE(v) <= SSE (1 + t^2 / df). A side that never rejects is open.
    """
    spare = len(problem.y) - len(problem.free)
    if spare < 1:
        return Interval(None, None, "profile", "as many parameters as points")
    limit = best.objective * (1 + t_quantile(level, spare) ** 2 / spare)
    own = problem.law.parameter(name)
    ends = [_profile_side(problem, best, name, limit, side) for side in (own.low, own.high)]
    notes = [word for word, end in zip(("below", "above"), ends, strict=True) if end is None]
    note = f"not bounded {' and '.join(notes)}" if notes else ""
    return Interval(ends[0], ends[1], "profile", note)


def _profile_side(
    problem: Problem, best: Solution, name: str, limit: float, bound: float
) -> float | None:
    centre = best.params[name]
    sign = 1.0 if bound > centre else -1.0
    inside, params = centre, dict(best.params)

    def refit(value: float) -> Solution:
        pinned = Problem(
            problem.law, problem.x, problem.y, problem.objective, {**problem.pinned, name: value}
        )
        return solve(pinned, {key: params[key] for key in pinned.free}, _PROFILED)

    step = 0.05 * abs(centre) if centre else 0.05
    for _ in range(_EXPAND):
        outside = centre + sign * step
        if (bound - outside) * sign <= 0:
            outside = bound
        found = refit(outside)
        if found.objective > limit:
            break
        if outside == bound:
            return None
        inside, params, step = outside, dict(found.params), 2 * step
    else:
        return None
    for _ in range(_HALVINGS):
        middle = 0.5 * (inside + outside)
        found = refit(middle)
        if found.objective > limit:
            outside = middle
        else:
            inside, params = middle, dict(found.params)
    # Another parameter at its bound: the bound made this end, not the data.
    return None if _at_bound(problem, params, name) else inside


def _at_bound(problem: Problem, params: Mapping[str, float], profiled: str) -> bool:
    for other in problem.searched:
        own = problem.law.parameter(other)
        if other != profiled and params[other] in (own.low, own.high):
            return True
    return False


# Resampling ---------------------------------------------------------------------------------


def bootstrap(
    problem: Problem, best: Solution, units: Sequence[object], draws: int, seed: int = 0
) -> list[dict[str, float]]:
    """Parameters refitted on `draws` resamplings of whole units (rows with equal `units` value)."""
    kinds = list(dict.fromkeys(units))
    members = {kind: np.flatnonzero([one == kind for one in units]) for kind in kinds}
    random = np.random.default_rng(seed)
    found: list[dict[str, float]] = []
    for _ in range(draws):
        chosen = random.integers(0, len(kinds), len(kinds))
        rows = np.concatenate([members[kinds[k]] for k in chosen])
        again = Problem(
            problem.law,
            {name: values[rows] for name, values in problem.x.items()},
            problem.y[rows],
            problem.objective,
            problem.pinned,
        )
        found.append(solve(again, near=best.params).params)
    return found


def percentile_interval(draws: Sequence[Mapping[str, float]], name: str, level: float) -> Interval:
    """Percentiles of one parameter over bootstrap draws."""
    values = [draw[name] for draw in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), f"bootstrap of {len(draws)}")


# Units fitted one by one --------------------------------------------------------------------


def unit_intervals(
    per_unit: Sequence[Mapping[str, float]], centre: Mapping[str, float], level: float
) -> dict[str, Interval]:
    """t intervals over parameters fitted for each independent unit alone, around `centre`."""
    units = len(per_unit)
    out: dict[str, Interval] = {}
    for name, value in centre.items():
        if units < 2:
            out[name] = Interval(None, None, "none", "one unit: its noise cannot be measured")
            continue
        spread = float(np.std([one[name] for one in per_unit], ddof=1))
        half = t_quantile(level, units - 1) * spread / math.sqrt(units)
        out[name] = Interval(value - half, value + half, f"t over {units} units")
    return out


def invert_test(rejected: NDArray[np.bool_], grid: Floats) -> tuple[float | None, float | None]:
    """Hull of the grid points that a test does not reject (at least one); None at a grid's end."""
    kept = grid[~rejected]
    low = None if kept[0] == grid[0] else float(kept[0])
    high = None if kept[-1] == grid[-1] else float(kept[-1])
    return low, high
