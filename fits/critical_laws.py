"""The critical mixture ratio of fitted laws, general and domain, by both criteria.

Of Gu et al. 2024, 2407.17467, section 3. First criterion: the largest ratio R at which the law of
the general loss predicts a change of at most eps (nats) on the loss before. It is sought within
the fitted ratios and never beyond; where it lies outside them the reading says on which side. Its
interval is the set of R at which the curve's band holds eps, so it has the band's level and may be
open at the ends of the grid, as that of measured readings (`fits.critical`): at 95 % it held the
truth in 94 to 95 % of 400 synthetic sets at each of four noises, until the interval was as wide as
a third of the grid. The domain's law, if given, says what that ratio gains there. The second
criterion is the turning point, `fits.turning`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.critical import Critical, Turning
from fits.engine.uncertainty import invert_test
from fits.errors import Refused
from fits.interval import Interval
from fits.result import Fit
from fits.turning import RATIO, TurningPoint, places

Floats = NDArray[np.float64]

_FINE = 2001  # places at which a band is read


# Tolerance ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A predicted change of loss, in nats, with the interval of the curve."""

    change: float
    interval: Interval

    @property
    def falls(self) -> bool | None:
        """Whether the loss falls; None where the interval holds both."""
        if self.interval.high is not None and self.interval.high < 0:
            return True
        if self.interval.low is not None and self.interval.low > 0:
            return False
        return None


@dataclass(frozen=True)
class Tolerance:
    """The first criterion: a reading of the general law, and what the domain law says there.

    `domain` is the domain's change at the reading (at the largest fitted ratio where the reading is
    ">"; None without a domain law, or at "<"). `method` names the source of the interval.
    """

    reading: Critical
    eps: float
    domain: Change | None
    method: str

    def text(self) -> str:
        """For people."""
        gap = self.reading.interval_text() if self.method != "none" else "no interval"
        line = f"change of general loss <= {self.eps:g}: R {self.reading.text()} ({gap})"
        if self.domain is None:
            return line
        sure = {True: "it falls", False: "it rises", None: "not sure to fall"}[self.domain.falls]
        change = self.domain
        return f"{line}; domain loss {change.change:+.4g} {change.interval.text()}, {sure}"


def tolerance_ratio(
    general: Fit,
    before: float,
    eps: float,
    *,
    domain: Fit | None = None,
    domain_before: float | None = None,
    at: Mapping[str, Any] | None = None,
    share: str = "domain",
) -> Tolerance:
    """The largest ratio whose predicted general loss is at most `before` + eps.

    general: a fit of a law that reads `ratio_domain`, of loss, or of change (then `before` is 0).
    at: what else the laws read, such as `n_params` or `cpt_tokens`. domain, domain_before: the
    domain's law and its loss before, for the second goal, that the domain's loss falls. share:
    "general" if the general law was fitted to the share of general tokens (D-CPT's habit): its
    ratio is 1 - R. The losses before are taken as known. Raises Refused.
    """
    _refuse_tolerance(before, eps, share)
    if (domain is None) != (domain_before is None):
        raise Refused("a domain's law and its loss before come together")
    mirrored = share == "general"
    laws = [one.law for one in (general, domain) if one is not None]
    place, *of_domain = places(laws, at, RATIO)
    fitted = np.unique(general.x[RATIO])
    if len(fitted) < 2:
        raise Refused(f"{general.law_name} was fitted at one ratio: between two is where to look")
    grid = np.sort(1.0 - fitted) if mirrored else fitted
    fine = np.linspace(grid[0], grid[-1], _FINE)
    change, low, high = _changes(general, place, fine, before, mirrored)

    def over(ratio: float) -> float:
        return float(_changes(general, place, np.array([ratio]), before, mirrored)[0][0]) - eps

    ratio, censored = _largest(fine, change, eps, over)
    rejected = (low > eps) | (high < eps)
    first, last = _band_interval(fine, change, rejected, eps)
    if ratio is not None:  # of a band thinner than a step of the grid the hull may miss the reading
        first = None if first is None else min(first, ratio)
        last = None if last is None else max(last, ratio)
    known = bool(np.isfinite(low).any() or np.isfinite(high).any())
    units = len(general.unit_params) or general.points
    reading = Critical(ratio, first, last, censored, tuple(grid.tolist()), units if known else 1)
    gain = None
    if domain is not None and domain_before is not None and censored != "<":
        where = np.array([grid[-1] if ratio is None else ratio])
        moved, low, high = _changes(domain, of_domain[0], where, domain_before, False)
        ends = [end if math.isfinite(end) else None for end in (float(low[0]), float(high[0]))]
        gain = Change(float(moved[0]), Interval(ends[0], ends[1], "curve"))
    return Tolerance(reading, eps, gain, "band of the curve" if known else "none")


def _changes(
    one: Fit, place: Mapping[str, Any], ratios: Floats, before: float, mirrored: bool
) -> tuple[Floats, Floats, Floats]:
    """(change, low, high) of a law's loss at ratios [n]."""
    x = {name: np.full(len(ratios), value) for name, value in place.items()}
    x[RATIO] = 1.0 - ratios if mirrored else ratios
    predicted, low, high = one.band(x, "curve")
    return predicted - before, low - before, high - before


def _largest(
    fine: Floats, change: Floats, eps: float, over: Callable[[float], float]
) -> tuple[float | None, str]:
    """The largest ratio within `fine` whose change is at most eps, or on which side it lies."""
    from scipy.optimize import brentq

    within = np.flatnonzero(change <= eps)
    if not len(within):
        return None, "<"
    last = int(within[-1])
    if last == len(fine) - 1:
        return None, ">"
    if change[last] == eps:
        return float(fine[last]), ""
    return float(brentq(over, fine[last], fine[last + 1], xtol=1e-12)), ""


def _band_interval(
    fine: Floats, change: Floats, rejected: NDArray[np.bool_], eps: float
) -> tuple[float | None, float | None]:
    """Hull of the ratios at which the band holds eps; where it does nowhere, the side."""
    if not rejected.all():
        return invert_test(rejected, fine)
    within = np.flatnonzero(change <= eps)
    if not len(within):
        return None, float(fine[0])
    if within[-1] == len(fine) - 1:
        return float(fine[-1]), None
    return float(fine[within[-1]]), float(fine[within[-1] + 1])  # a band thinner than a step


# Both ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Criteria:
    """Both criteria, and the one that binds: `tolerance`, `turning point`, or neither ("")."""

    tolerance: Tolerance
    turning: Turning
    points: Mapping[float, TurningPoint]
    ratio: float | None
    binds: str

    def text(self) -> str:
        """For people."""
        named = f"binding: {self.binds}" if self.binds else "neither binds within the ratios"
        return f"{self.tolerance.text()}\nturning point: {self.turning.text()}\n{named}"


def criteria(
    tolerance: Tolerance, turning: Turning, points: Mapping[float, TurningPoint]
) -> Criteria:
    """The critical ratio by both criteria: the lesser of the two, and which of them that is.

    None as ratio: it lies outside the fitted ratios, or no ratio turns in time.
    """
    reading = tolerance.reading
    if reading.censored == "<":
        return Criteria(tolerance, turning, points, None, "tolerance")
    if turning.binding and turning.ratio is None:
        return Criteria(tolerance, turning, points, None, "turning point")
    earlier = turning.ratio is not None and (reading.ratio is None or turning.ratio < reading.ratio)
    if turning.binding and earlier:
        return Criteria(tolerance, turning, points, turning.ratio, "turning point")
    return Criteria(
        tolerance, turning, points, reading.ratio, "" if reading.censored else "tolerance"
    )


# What is asked ------------------------------------------------------------------------------


def _refuse_tolerance(before: float, eps: float, share: str) -> None:
    for name, value in (("before", before), ("eps", eps)):
        if not math.isfinite(value):
            raise Refused(f"{name} {value:g}: must be a finite number of nats")
    if share not in ("domain", "general"):
        raise Refused(f"unknown share {share!r}; allowed: domain, general")
