"""How far a number can be trusted: profile, covariance, resampling by unit, t over units."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fits.engine.identify import at_zero, coordinates
from fits.engine.lanes import Lanes, outside
from fits.engine.problem import Floats, Problem
from fits.engine.solve import Solution, solve_lanes
from fits.interval import Interval
from fits.variables import points

BLOCK_WEIGHTS = 8_000_000  # weights of rows held at a time: 64 MB
MIN_BOOTSTRAP_UNITS = 6  # below, t over units (`fits.coverage` measures both)


def t_quantile(level: float, spare: float) -> float:
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


# Covariance ---------------------------------------------------------------------------------


def covariance_intervals(
    problem: Problem, best: Solution, covariance: Floats, level: float
) -> dict[str, Interval]:
    """t intervals from the curvature at the optimum; of scales by their logarithm."""
    quantile = t_quantile(level, len(problem.y) - len(problem.free))
    centre = coordinates(problem, best.params)
    half = quantile * np.sqrt(np.diag(covariance))
    zero = at_zero(problem, best.params)
    out = {}
    for k, name in enumerate(problem.free):
        if name in zero:  # its coordinate is its value
            out[name] = Interval(None, float(half[k]), "covariance", "not bounded below")
            continue
        low, high = (float(outside(problem, name, centre[k] + s * half[k])) for s in (-1.0, 1.0))
        out[name] = Interval(low, high, "covariance")
    return out


# Resampling ---------------------------------------------------------------------------------


def bootstrap(
    problem: Problem, best: Solution, units: Sequence[object], draws: int, seed: int = 0
) -> list[dict[str, float]]:
    """Parameters refitted on `draws` resamplings of whole units (rows with equal `units` value).

    Refits run side by side, each row weighted by how often its unit was drawn. Resamplings with
    fewer different points than free parameters have no fit and are left out, as are those that end
    at no finite objective. Coefficients at 0 start anew in each: from 0 none would rise.
    """
    kinds = list(dict.fromkeys(units))
    place = {kind: k for k, kind in enumerate(kinds)}
    of_row = np.array([place[unit] for unit in units])
    point = points(problem.x)
    random = np.random.default_rng(seed)
    again = [name for name in at_zero(problem, best.params) if name in problem.law.linear]
    near = {name: best.params[name] for name in problem.free if name not in again}
    out = []
    block = max(1, BLOCK_WEIGHTS // len(of_row))
    for first in range(0, draws, block):
        count = min(block, draws - first)
        chosen = random.integers(0, len(kinds), (count, len(kinds)))
        drawn = np.stack([np.bincount(one, minlength=len(kinds)) for one in chosen])[:, of_row]
        several = [len(set(point[row > 0])) >= len(problem.free) for row in drawn]
        weights = drawn.astype(np.float64)
        start = {name: np.full(count, value) for name, value in near.items()}
        found, values = solve_lanes(problem, start, Lanes(problem.y[None], weights), count)
        sound = np.flatnonzero(np.isfinite(values) & several)
        out += [{name: float(found[name][k]) for name in problem.law.names} for k in sound]
    return out


def resampling_tail(level: float, units: int) -> float:
    """The share of bootstrap draws to be left out on each side.

    Percentiles of few units are too narrow: resampling scatters like n, not like n - 1, and by the
    normal law, not Student's. The tail is moved outwards by both (the expanded percentile interval
    of Hesterberg 2015, Am. Stat. 69, 371): 95 % intervals over 8 seeds held the truth in 84 % of
    synthetic sets without (`fits.coverage`). Fewer than two units leave nothing out.
    """
    if units < 2:
        return 0.0
    quantile = t_quantile(level, units - 1) * math.sqrt(units / (units - 1))
    return float(stats.norm.sf(quantile))


def percentile_interval(
    draws: Sequence[Mapping[str, float]], name: str, *, tail: float
) -> Interval:
    """Percentiles of one parameter over bootstrap draws, a share `tail` beyond each end."""
    low, high = np.quantile([draw[name] for draw in draws], [tail, 1 - tail])
    return Interval(float(low), float(high), f"bootstrap of {len(draws)}")


# Units fitted one by one --------------------------------------------------------------------


def unit_intervals(
    per_unit: Sequence[Mapping[str, float]],
    centre: Mapping[str, float],
    level: float,
    scales: Collection[str] = (),
) -> dict[str, Interval]:
    """t intervals over parameters fitted for each independent unit alone, around `centre`.

    Of those named in `scales` by their logarithm: coefficients of power laws have heavy tails.
    """
    units = len(per_unit)
    out: dict[str, Interval] = {}
    for name, value in centre.items():
        if units < 2:
            out[name] = Interval(None, None, "none", "one unit: its noise cannot be measured")
            continue
        each = np.array([one[name] for one in per_unit])
        logs = name in scales and value > 0 and bool((each > 0).all())
        spread = float(np.std(np.log(each) if logs else each, ddof=1))
        half = t_quantile(level, units - 1) * spread / math.sqrt(units)
        if not logs:
            out[name] = Interval(value - half, value + half, f"t over {units} units")
            continue
        # an end beyond the largest float is no bound: two units can lie that far apart
        above = math.log(value) + half
        high = math.exp(above) if above < math.log(sys.float_info.max) else None
        note = "" if high is not None else "not bounded above"
        out[name] = Interval(value * math.exp(-half), high, f"t over {units} units", note)
    return out


def invert_test(rejected: NDArray[np.bool_], grid: Floats) -> tuple[float | None, float | None]:
    """Hull of the grid points that a test does not reject (at least one); None at a grid's end."""
    kept = grid[~rejected]
    low = None if kept[0] == grid[0] else float(kept[0])
    high = None if kept[-1] == grid[-1] else float(kept[-1])
    return low, high
