"""The turning point of two token laws: Gu et al. 2024, 2407.17467, section 3, second criterion.

The Lagrangian F = L_domain + lam (L_general - L_before - eps) must fall somewhere before the
horizon: its turning point T0, where dL_domain/dT + lam dL_general/dT = 0, must lie before T_max.
The paper's lam is "very large" (100 to 7000), so that T0 tends to the peak of the general loss.
Slopes are exact, for the laws take Duals as variables too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.critical import Turning
from fits.engine.dual import Dual
from fits.errors import Refused
from fits.form import Law, Values
from fits.interval import Interval
from fits.quantities import Quantity, held, spread
from fits.result import Fit

Floats = NDArray[np.float64]

RATIO = "ratio_domain"
TOKENS = "cpt_tokens"
_FINE = 2001  # places at which the slope and its band are read


@dataclass(frozen=True)
class TurningPoint:
    """Where F turns, in tokens; `tokens` None where that lies outside what was looked at.

    `censored`: "<" F falls from the first fitted tokens on; ">" it still rises at the horizon.
    `feasible` says whether it turns by the horizon. The interval is open where the band of F's
    slope holds 0 up to an end. `notes` name an extrapolation.
    """

    tokens: float | None
    interval: Interval
    censored: str
    horizon: float
    notes: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        return self.censored != ">"

    def text(self) -> str:
        """For people."""
        if self.censored == "<":
            return "turns before the first fitted tokens"
        if self.tokens is None:
            return f"does not turn by {self.horizon:.4g} tokens"
        return f"turns at {self.tokens:.4g} tokens {self.interval.text()}"


def turning_tokens(
    general: Fit,
    domain: Fit,
    lam: float,
    *,
    horizon: float | None = None,
    at: Mapping[str, Any] | None = None,
) -> TurningPoint:
    """The turning point T0 of F at one mixture ratio, from two laws that read `cpt_tokens`.

    For CMR's token laws T0 solves a1 s1 T^(s1-1) + lam (a2 s2 T^(s2-1) + a3 s3 T^(s3-1)) = 0. The
    slopes are exact. T0 is the first place, from the least fitted tokens to the horizon (by default
    the most fitted), from which F falls. at: what else the laws read. Raises Refused.
    """
    if not (math.isfinite(lam) and lam > 0):
        raise Refused(f"lam {lam:g}: must be positive; the paper's are 100 to 7000")
    of_general, of_domain = places([general.law, domain.law], at, TOKENS)
    tokens = [one.x[TOKENS] for one in (general, domain)]
    first = max(float(np.min(one)) for one in tokens)
    most = min(float(np.max(one)) for one in tokens)
    end = most if horizon is None else float(horizon)
    if not (math.isfinite(end) and end > first):
        raise Refused(f"horizon {end:g}: must lie above the least fitted tokens, {first:.4g}")
    fine = np.geomspace(first, end, _FINE)

    def slopes(where: Floats) -> tuple[Quantity, Quantity]:
        return _slope(domain.law, of_domain, where), _slope(general.law, of_general, where)

    by_domain, by_general = slopes(fine)
    slope = spread(domain, by_domain).plus(spread(general, by_general), lam)
    low, high = slope.ends()
    rises = slope.values > 0
    falls = np.flatnonzero(~rises)
    rejected = (low > 0) | (high < 0)
    notes = []
    if end > most:
        notes.append(f"the horizon is {end / most:.3g} times the most fitted tokens, {most:.4g}")
    if slope.note:
        notes.append(f"no interval: {slope.note}")
    place, censored = None, ""
    if not len(falls):
        censored = ">"
    elif falls[0] == 0:
        censored = "<"
    else:
        ends = float(fine[falls[0] - 1]), float(fine[falls[0]])
        place = _root(slopes, domain.params, general.params, lam, ends)
    gap = _turning_interval(fine, rises, rejected)
    return TurningPoint(
        place, Interval(*gap, slope.method, slope.note), censored, end, tuple(notes)
    )


def _turning_interval(
    fine: Floats, rises: NDArray[np.bool_], rejected: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """From where F may no longer rise to where it surely falls."""
    may_fall = np.flatnonzero(~(rises & rejected))
    if not len(may_fall):  # it surely rises everywhere
        return float(fine[-1]), None
    low = None if may_fall[0] == 0 else float(fine[may_fall[0]])
    falls = np.flatnonzero(~rises & rejected)
    return low, (float(fine[falls[0]]) if len(falls) else None)


def _root(
    slopes: Callable[[Floats], tuple[Quantity, Quantity]],
    domain: Values,
    general: Values,
    lam: float,
    ends: tuple[float, float],
) -> float:
    from scipy.optimize import brentq

    def slope(tokens: float) -> float:
        by_domain, by_general = slopes(np.array([tokens]))
        return float((by_domain(domain) + lam * by_general(general))[0])

    return float(brentq(slope, *ends, xtol=1e-9 * ends[0]))


def _slope(law: Law, place: Mapping[str, Any], tokens: Floats) -> Quantity:
    """d response / d ln T at tokens [m], exactly: T times the slope, of one sign with it."""
    x = {**place, TOKENS: Dual(tokens, {"ln T": tokens})}

    def quantity(p: Values) -> Any:
        found = law.predict(p, x)
        return np.broadcast_to(found.slopes["ln T"], found.shape)

    return quantity


# Many ratios ---------------------------------------------------------------------------------


def turning_ratio_by_laws(
    general: Sequence[Fit],
    domain: Sequence[Fit],
    lam: float,
    *,
    horizon: float | None = None,
    at: Mapping[str, Any] | None = None,
) -> tuple[Turning, dict[float, TurningPoint]]:
    """(the largest ratio that turns by the horizon, the turning point of each ratio).

    A fit of each law a ratio, which `Fit.group` names as `ratio_domain`. Raises Refused.
    """
    pairs = _paired(general, domain)
    points = {
        ratio: turning_tokens(one, other, lam, horizon=horizon, at=at)
        for ratio, (one, other) in pairs.items()
    }
    feasible = [ratio for ratio, point in points.items() if point.feasible]
    largest = max(feasible) if feasible else None
    return Turning(largest, binding=len(feasible) < len(points)), points


def _paired(general: Sequence[Fit], domain: Sequence[Fit]) -> dict[float, tuple[Fit, Fit]]:
    by_ratio: list[dict[float, Fit]] = []
    for kind, fits in (("general", general), ("domain", domain)):
        if not fits:
            raise Refused(f"no {kind} fits to find a turning ratio from")
        found: dict[float, Fit] = {}
        for one in fits:
            if RATIO not in one.group:
                raise Refused(f"a {kind} fit has no group {RATIO}: fit with group={{{RATIO!r}: R}}")
            if float(one.group[RATIO]) in found:
                raise Refused(f"two {kind} fits at ratio {float(one.group[RATIO]):g}: choose one")
            found[float(one.group[RATIO])] = one
        by_ratio.append(found)
    if by_ratio[0].keys() != by_ratio[1].keys():
        odd = sorted(by_ratio[0].keys() ^ by_ratio[1].keys())
        raise Refused(f"ratio {odd[0]:g} has but one of the two laws")
    return {ratio: (by_ratio[0][ratio], by_ratio[1][ratio]) for ratio in sorted(by_ratio[0])}


# What is asked ------------------------------------------------------------------------------


def places(laws: Sequence[Law], at: Mapping[str, Any] | None, varied: str) -> list[dict[str, Any]]:
    """What each law reads beside `varied`, from `at`: two laws may read different things.

    Raises Refused.
    """
    reads = [_read_by(law) for law in laws]
    for law, names in zip(laws, reads, strict=True):
        if varied not in names or law.rates:
            raise Refused(f"law {law.name} reads {', '.join(names)}, and no {varied}")
    for name in at or {}:
        if not any(name in names for names in reads):
            named = " nor ".join(law.name for law in laws)
            raise Refused(f"cannot hold {name!r}: neither {named} reads it")
    return [
        held(law, {n: v for n, v in (at or {}).items() if n in names}, (varied,))
        for law, names in zip(laws, reads, strict=True)
    ]


def _read_by(law: Law) -> list[str]:
    return [one.name for one in law.variables] + ([law.per] if law.groups else [])
