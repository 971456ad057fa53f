"""The critical mixture ratio, read off measured changes of the general loss.

Primary reading, as tolerance: the ratio R* at which the change of general loss, mean over trunk
seeds, equals eps. The mean is made monotone in R (isotonic regression) and interpolated (PCHIP)
within the grid; beyond its ends the reading says so and is never extrapolated. The interval is the
set of R at which a t test over trunk seeds does not reject "the change is eps": it has its level
whatever the shape of the curve, and may reach an end of the grid.

Second criterion, of the paper (Gu et al., 2407.17467, for large lambda): R is feasible when the
general loss has passed its turning point before the horizon.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fits.engine.uncertainty import invert_test, t_quantile
from fits.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
_FINE = 2001  # places at which the test is inverted


@dataclass(frozen=True)
class Critical:
    """A critical ratio; `ratio` is None where it lies beyond the grid, and `censored` says where.

    `low`, `high` None: the interval reaches beyond that end of the grid, or there is none (`units`
    < 2); beside None, the other end may be the grid's own: then all of it lies beyond.
    """

    ratio: float | None
    low: float | None
    high: float | None
    censored: str  # "", "<" the grid's lower end, ">" its upper end
    grid: tuple[float, ...]
    units: int

    def text(self) -> str:
        """As printed: .34, < 1/8, > 3/4."""
        if self.ratio is not None:
            return f"{self.ratio:.3f}"
        end = self.grid[0] if self.censored == "<" else self.grid[-1]
        return f"{self.censored} {fraction(end)}"

    def interval_text(self) -> str:
        """As printed; open ends name the grid's end."""
        if self.units < 2:
            return "one seed: none"
        first, last = self.grid[0], self.grid[-1]
        if self.low is None and self.high == first:
            return f"< {fraction(first)}"
        if self.high is None and self.low == last:
            return f"> {fraction(last)}"
        low = f"< {fraction(first)}" if self.low is None else f"{self.low:.3f}"
        high = f"> {fraction(last)}" if self.high is None else f"{self.high:.3f}"
        return f"{low} .. {high}"


def fraction(ratio: float) -> str:
    """A ratio as people write it: 1/8, 3/4, or decimals."""
    for bottom in range(1, 17):
        top = round(ratio * bottom)
        if top > 0 and abs(ratio - top / bottom) < 1e-9:
            return f"{top}/{bottom}" if bottom > 1 else f"{top}"
    return f"{ratio:.3g}"


def critical_ratio(changes: "pd.DataFrame", eps: float, level: float = 0.95) -> Critical:
    """Read the critical ratio off a table with columns `unit`, `ratio`, `change`.

    `unit` is the independent one (the trunk seed); `change` the change of general loss in nats.
    Ratios 0 (the control) and 1 (a cliff) take no part. Raises Refused.
    """
    inner = changes[(changes["ratio"] > 0) & (changes["ratio"] < 1)]
    wide = inner.pivot_table(index="unit", columns="ratio", values="change")
    whole = wide.dropna(axis=0)  # a unit that lacks a ratio (a diverged run) is left out,
    wide = whole if len(whole) else wide.dropna(axis=1)  # unless every unit lacks one
    grid = wide.columns.to_numpy(np.float64)
    if len(grid) < 2:
        raise Refused("a critical ratio needs at least two ratios between 0 and 1")
    each = wide.to_numpy(np.float64)
    ratio, censored = _crossing(grid, each.mean(axis=0), eps)
    low = high = None
    if len(each) >= 2:
        low, high = _inverted(grid, each, eps, level)
        # the test sees the mean before it was made monotone: its interval holds the reading too
        low = None if low is None or censored == "<" else min(low, ratio or low)
        high = None if high is None or censored == ">" else max(high, ratio or high)
    return Critical(ratio, low, high, censored, tuple(grid.tolist()), len(each))


def _crossing(grid: Floats, mean: Floats, eps: float) -> tuple[float | None, str]:
    from scipy.interpolate import PchipInterpolator
    from scipy.optimize import brentq, isotonic_regression

    monotone = isotonic_regression(mean).x
    if monotone[0] > eps:
        return None, "<"
    if monotone[-1] <= eps:
        return None, ">"
    last = int(np.flatnonzero(monotone <= eps)[-1])  # of a level stretch, the largest ratio
    curve = PchipInterpolator(grid, monotone)
    ends = grid[last], grid[last + 1]
    return float(brentq(lambda r: float(curve(r)) - eps, *ends)), ""


def _inverted(
    grid: Floats, each: Floats, eps: float, level: float
) -> tuple[float | None, float | None]:
    from scipy.interpolate import PchipInterpolator

    fine = np.linspace(grid[0], grid[-1], _FINE)
    at = np.stack([PchipInterpolator(grid, one)(fine) for one in each])
    units = len(each)
    error = at.std(axis=0, ddof=1) / math.sqrt(units)
    above = at.mean(axis=0) - eps
    rejected = np.abs(above) > t_quantile(level, units - 1) * error
    if rejected.all():  # the whole interval lies beyond the grid, or between two of its places
        crossed = np.flatnonzero(np.diff(above > 0))
        if len(crossed):
            return float(fine[crossed[0]]), float(fine[crossed[-1] + 1])
        return (None, float(grid[0])) if above[0] > 0 else (float(grid[-1]), None)
    return invert_test(rejected, fine)


@dataclass(frozen=True)
class Turning:
    """The largest ratio whose general loss turns before the horizon; "not binding" if all do."""

    ratio: float | None
    binding: bool

    def text(self) -> str:
        if not self.binding:
            return "not binding"
        return "none" if self.ratio is None else fraction(self.ratio)


def turning_ratio(curves: "pd.DataFrame", horizon: float) -> Turning:
    """The turning-point criterion off a table with columns `ratio`, `tokens`, `change`.

    The turning point of a ratio is where its change of general loss (mean over units) is largest
    up to the horizon; it counts as passed when it lies before the horizon itself. Raises Refused.
    """
    inner = curves[(curves["ratio"] > 0) & (curves["ratio"] < 1) & (curves["tokens"] <= horizon)]
    inner = inner.dropna(subset="change")
    if inner.empty:
        raise Refused("a turning ratio needs a ratio between 0 and 1")
    mean = inner.groupby(["ratio", "tokens"])["change"].mean().unstack("tokens")
    passed = mean.idxmax(axis=1) < mean.columns.max()
    if passed.all():
        return Turning(float(mean.index.max()), binding=False)
    feasible = [float(ratio) for ratio, ok in passed.items() if ok]
    return Turning(max(feasible) if feasible else None, binding=True)
