"""Numbers that follow from a fit's parameters, with intervals: optima, slopes, crossings.

A quantity is a function of parameters in plain NumPy, name -> [S, 1] of S sets at once, to values
[S, m] (or [S, 1], or a number). How far it can be trusted comes from the same source as the fit's
bands: units fitted one by one (t), else bootstrap draws (percentiles), else the covariance through
the quantity's slopes (t). A quantity that can only be positive is best given by its logarithm.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.engine.identify import (
    ILL_CONDITIONED,
    at_zero,
    coordinate_jacobian,
    coordinates,
    covariance,
)
from fits.engine.lanes import outside
from fits.engine.problem import Problem
from fits.engine.uncertainty import resampling_tail, t_quantile
from fits.errors import Refused
from fits.form import GROUP, Law
from fits.interval import Interval
from fits.result import Fit

Floats = NDArray[np.float64]
Quantity = Callable[[Mapping[str, Any]], Any]

STEP = 1e-3  # of a standard error: how far parameters are moved to find a quantity's slopes
_SMALLEST = 1e-6  # of a coordinate: where the errors are so small that rounding would show
_UNKNOWN = 1e-6  # share of a quantity's slopes, from which on unknown combinations matter to it


@dataclass(frozen=True)
class Spread:
    """Values [m] of a quantity at the fit's parameters, and how they scatter.

    `each` [S, m] are values of the units or draws, `variance` [m] of the values by the covariance;
    `kind` says which: units, draws, covariance, or none, for the reason in `note`. `tail` is the
    share of draws beyond each end.
    """

    values: Floats
    level: float
    kind: str
    each: Floats | None = None
    variance: Floats | None = None
    spare: int = 0
    tail: float = 0.0
    note: str = ""

    def ends(self) -> tuple[Floats, Floats]:
        """(low, high) [m]; infinite where nothing bounds them."""
        if self.kind == "units" and self.each is not None:
            units = len(self.each)
            with np.errstate(invalid="ignore"):  # of units without a value
                error = self.each.std(axis=0, ddof=1) / math.sqrt(units)
            return _around(self.values, t_quantile(self.level, units - 1) * error)
        if self.kind == "draws" and self.each is not None:
            tail = self.tail
            lost = np.isnan(self.each)  # a draw without a value may lie anywhere
            low = np.quantile(np.where(lost, -np.inf, self.each), tail, axis=0, method="lower")
            high = np.quantile(np.where(lost, np.inf, self.each), 1 - tail, axis=0, method="higher")
            return np.fmin(low, self.values), np.fmax(high, self.values)
        if self.kind == "covariance" and self.variance is not None:
            return _around(self.values, t_quantile(self.level, self.spare) * np.sqrt(self.variance))
        return _around(self.values, np.full_like(self.values, np.inf))

    @property
    def method(self) -> str:
        """As intervals name it."""
        count = 0 if self.each is None else len(self.each)
        named = {"units": f"t over {count} units", "draws": f"bootstrap of {count}"}
        return named.get(self.kind, self.kind)

    def intervals(self, outward: Callable[[float], float] = float) -> list[Interval]:
        """One a value; `outward` maps the ends (np.exp of a logarithm's)."""
        low, high = self.ends()
        return [
            Interval(
                outward(a) if math.isfinite(a) else None,
                outward(b) if math.isfinite(b) else None,
                self.method,
                self.note,
            )
            for a, b in zip(low.tolist(), high.tolist(), strict=True)
        ]

    def plus(self, other: "Spread", factor: float) -> "Spread":
        """This and `factor` times another fit's. Units and draws are paired, in their order.

        Covariances add as those of independent fits; the fewer degrees of freedom count. Raises
        Refused where the two fits' intervals are of different kinds.
        """
        values = self.values + factor * other.values
        if "none" in (self.kind, other.kind):
            return replace(self, values=values, kind="none", note=self.note or other.note)
        if self.kind != other.kind:
            raise Refused(
                f"the two fits differ in their intervals, {self.method} and {other.method}: "
                "fit both alike"
            )
        if self.each is not None and other.each is not None:
            if self.kind == "units" and len(self.each) != len(other.each):
                raise Refused(
                    f"the two fits have {len(self.each)} and {len(other.each)} units: pair them"
                )
            count = min(len(self.each), len(other.each))
            each = self.each[:count] + factor * other.each[:count]
            return replace(self, values=values, each=each)
        variance = np.asarray(self.variance) + factor**2 * np.asarray(other.variance)
        return replace(self, values=values, variance=variance, spare=min(self.spare, other.spare))


def _around(values: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Ends; of a value that is not finite infinite."""
    sound = np.isfinite(values) & np.isfinite(half)
    centre, half = np.where(sound, values, 0.0), np.where(sound, half, np.inf)
    return centre - half, centre + half


def spread(one: Fit, quantity: Quantity) -> Spread:
    """Values of a quantity at the fit's parameters, and how they scatter."""
    values, problem = evaluate(quantity, [one.params])[0], one.problem
    for kind, sets in (("units", one.unit_params), ("draws", one.draws)):
        if len(sets) > 1:
            tail = resampling_tail(one.level, one.units)
            return Spread(values, one.level, kind, evaluate(quantity, sets), tail=tail)
    found = covariance(problem, one.params)
    if found is None:
        return Spread(values, one.level, "none", note=_why_none(one))
    slopes = gradient(problem, one.params, quantity, np.sqrt(np.diag(found)))
    jacobian = coordinate_jacobian(problem, one.params)
    unknown = depends_on_unknown(jacobian, slopes)
    variance = np.sum((slopes @ found) * slopes, axis=1)
    variance[unknown | ~np.isfinite(variance)] = np.inf
    note = "it rests on parameters that are not identified" if unknown.any() else ""
    return Spread(
        values,
        one.level,
        "covariance",
        variance=np.maximum(variance, 0.0),
        spare=one.spare,
        note=note,
    )


def evaluate(quantity: Quantity, sets: Any) -> Floats:
    """Values [S, m] of a quantity at S parameter sets. Raises Refused."""
    columns = {name: np.array([[one[name]] for one in sets], np.float64) for name in sets[0]}
    with np.errstate(all="ignore"):  # a draw that strays has no value
        found = np.asarray(quantity(columns), np.float64)
    if found.ndim == 0:
        found = np.full((len(sets), 1), float(found))
    if found.ndim != 2 or len(found) != len(sets):
        raise Refused(
            f"a quantity of {len(sets)} parameter sets has shape {found.shape}: write it in plain "
            "NumPy, from arrays [S, 1] to [S, 1]"
        )
    return found


def gradient(
    problem: Problem, params: dict[str, float], quantity: Quantity, size: Floats
) -> Floats:
    """Slopes [m, p] of a quantity by the free parameters' coordinates, by central differences.

    size [p]: the coordinates' standard errors, of which a small part is the step. Differences
    serve optima and roots too, which are no formulas of the parameters.
    """
    zero = at_zero(problem, params)  # scales whose coordinate is their value
    centre = coordinates(problem, params)
    centre[[k for k, name in enumerate(problem.free) if name in zero]] = 0.0
    floor = _SMALLEST * np.where(centre == 0, 1.0, np.abs(centre))
    steps = np.clip(STEP * np.where(np.isfinite(size), size, 0.0), floor, np.maximum(STEP, floor))
    free = {name: params[name] for name in problem.free}
    sets = []
    for k, name in enumerate(problem.free):
        if name in zero:  # which has but one side
            ends = [params[name] + 2.0 * steps[k], params[name]]
        else:
            ends = [float(outside(problem, name, centre[k] + s * steps[k])) for s in (1.0, -1.0)]
        sets += [problem.complete({**free, name: end}) for end in ends]
    values = evaluate(quantity, sets)
    with np.errstate(invalid="ignore"):  # beside a place without an optimum there is no slope
        return np.asarray((values[0::2] - values[1::2]) / (2.0 * steps[:, None])).T


def depends_on_unknown(jacobian: Floats, slopes: Floats) -> NDArray[np.bool_]:
    """Which of the slopes [m, p] lean on combinations of parameters the rows [n, p] do not know."""
    size = np.linalg.norm(jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    _, singular, right = np.linalg.svd(jacobian / size, full_matrices=False)
    known = right[singular * ILL_CONDITIONED > singular[0]]
    scaled = slopes / size
    missed = scaled - scaled @ known.T @ known
    length = np.linalg.norm(scaled, axis=1)
    return np.asarray(np.linalg.norm(missed, axis=1) > _UNKNOWN * length)


def prediction(law: Law, at: Mapping[str, Any]) -> Quantity:
    """The law's response at one place, as a quantity. Raises Refused."""
    x = held(law, at, ())

    def predicted(p: Mapping[str, Any]) -> Any:
        return law.predict(p, x)

    return predicted


def held(law: Law, at: Mapping[str, Any] | None, varied: tuple[str, ...]) -> dict[str, Any]:
    """Variables of the law that are not `varied`, as numbers from `at`. Raises Refused."""
    if law.rates:
        raise Refused(f"law {law.name} reads whole learning-rate curves: it has no such place")
    given = dict(at or {})
    wanted = {one.name: one for one in law.variables if one.name not in varied}
    names = [*wanted, *([law.per] if law.groups else [])]
    for name in given:
        if name not in names:
            others = ", ".join(names) or "nothing"
            raise Refused(f"cannot hold {name!r}: law {law.name} needs {others} held")
    for name in names:
        if name not in given:
            raise Refused(f"law {law.name} needs a value of {name}: at={{{name!r}: ...}}")
    x: dict[str, Any] = {}
    for name, one in wanted.items():
        number = _number(name, given[name])
        if one.positive and number <= 0:
            raise Refused(f"{name} = {number:g}: must be positive")
        x[name] = number
    if law.groups:
        if given[law.per] not in law.groups:
            known = ", ".join(map(str, law.groups))
            raise Refused(
                f"{law.per} {given[law.per]}: no such group was fitted; there are {known}"
            )
        x[GROUP] = float(law.groups.index(given[law.per]))
    return x


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Refused(f"{name} = {value!r}: must be a number") from None
    if not math.isfinite(number):
        raise Refused(f"{name} = {number:g}: must be a finite number")
    return number


def _why_none(one: Fit) -> str:
    if one.problem.objective.kinked:
        return f"objective {one.objective} has no curvature: resample"
    if one.spare < 1:
        return "as many parameters as points"
    return "the points give no covariance: resample"
