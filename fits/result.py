"""A fit as a value: parameters with intervals, the data they came from, predictions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fits.engine.identifiable import status_of
from fits.engine.identify import Identified
from fits.engine.objective import objective as objective_named
from fits.engine.problem import Problem
from fits.errors import Refused
from fits.form import Law
from fits.interval import Interval

if TYPE_CHECKING:
    import pandas as pd

    from fits.figures.plots import Figure

Floats = NDArray[np.float64]
Band = Literal["new", "curve"]


@dataclass(frozen=True)
class HeldOut:
    """A row that was predicted, not fitted; the interval is for a new observation."""

    variables: dict[str, Any]
    observed: float
    predicted: float
    low: float | None
    high: float | None

    @property
    def relative_error(self) -> float:
        """(predicted - observed) / |observed|; infinite where a change of exactly 0 is missed."""
        error = self.predicted - self.observed
        if self.observed == 0:
            return math.copysign(math.inf, error) if error else 0.0
        return error / abs(self.observed)


@dataclass(frozen=True)
class Fit:
    """What `fits.fit` returns.

    `intervals` are at `level`; `draws` are parameter sets of bootstrap refits on resamplings of
    `units` independent units, `unit_params` those of units (seeds) fitted one by one, if any.
    `notes` says what a reader must know (at a bound, not identified, taken from another column),
    `exclusions` which rows were left out.
    `group` holds the values of the column that the table was divided by.
    """

    law: Law
    params: dict[str, float]
    intervals: dict[str, Interval]
    objective: str
    objective_value: float
    starts: int
    agree: int
    x: dict[str, Any]
    y: Floats
    pinned: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    level: float = 0.95
    held_out: tuple[HeldOut, ...] = ()
    draws: tuple[dict[str, float], ...] = ()
    units: int = 0
    unit_params: tuple[dict[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    exclusions: tuple[str, ...] = ()

    @property
    def law_name(self) -> str:
        return self.law.name

    @cached_property
    def problem(self) -> Problem:
        """The law on the fitted data."""
        objective = objective_named(self.objective)
        return Problem(self.law, self.x, self.y, objective, self.pinned, self.bounds, self.tied)

    @cached_property
    def identified(self) -> Identified:
        """What the curvature at the optimum says: covariance, bounds, pairs that trade off."""
        return status_of(self.problem, self.params)

    @property
    def status(self) -> str:
        """`sound`, `trade-off`, `at bound`, `few starts agree` or `not identified`, worst first."""
        if self.identified.unidentified:
            return "not identified"
        if self.starts > 1 and few_agree(self.agree, self.starts):
            return "few starts agree"
        if self.identified.at_bound:
            return "at bound"
        return "trade-off" if self.identified.pairs else "sound"

    @property
    def degenerate(self) -> tuple[tuple[str, str], ...]:
        """Pairs of parameters of which the data know a combination far better than each."""
        return self.identified.pairs

    @property
    def points(self) -> int:
        return len(self.y)

    @property
    def spare(self) -> int:
        """Degrees of freedom: points less free parameters."""
        return self.points - len(self.problem.free)

    @property
    def residual_rms(self) -> float:
        """Root mean square of observed less predicted, in the response's unit."""
        return float(np.sqrt(np.mean((self.y - self.problem.predict(self.params)) ** 2)))

    @property
    def max_relative_error(self) -> float | None:
        """The worst of the held-out rows."""
        errors = [abs(one.relative_error) for one in self.held_out]
        return max(errors) if errors else None

    def interval(self, name: str) -> Interval:
        """The interval of one parameter. Raises Refused."""
        if self.tied.get(name, name) in self.pinned:
            also = f"tied to {self.tied[name]}, which is " if name in self.tied else ""
            raise Refused(f"{name} is {also}pinned: it has no interval")
        name = self.tied.get(name, name)
        if name not in self.intervals:
            raise Refused(f"{self.law_name} has no parameter {name!r}: {', '.join(self.params)}")
        return self.intervals[name]

    def predict(
        self,
        table: "pd.DataFrame | Mapping[str, Any]",
        band: Band = "new",
        columns: Mapping[str, str] | None = None,
        rates: Any = None,
    ) -> "pd.DataFrame":
        """Predictions with intervals: columns `predicted`, `low`, `high` (infinite if unbounded).

        band: for a `new` observation (scatter included) or for the `curve` itself. rates: curves of
        learning rates, for laws that read them (`fits.fit`). Raises Refused.
        """
        import pandas as pd

        from fits.columns import with_columns
        from fits.table import resolve_columns
        from fits.variables import read_variables

        if band not in ("new", "curve"):
            raise Refused(f"unknown band {band!r}; allowed: new, curve")
        frame = with_columns(pd.DataFrame(table), columns)
        chosen, _ = resolve_columns(self.law, frame, columns, response=False)
        x, _ = read_variables(self.law, frame, chosen, rates)
        predicted, low, high = self.band(x, band)
        return pd.DataFrame({"predicted": predicted, "low": low, "high": high}, index=frame.index)

    def band(self, x: Mapping[str, Any], band: Band) -> tuple[Floats, Floats, Floats]:
        """(predicted, low, high) at variables `x`, [n] each."""
        from fits.bands import band_of

        return band_of(self, x, band == "new")

    def label(self) -> str:
        """Law and group, for a headline."""
        group = ", ".join(f"{key} {_short(value)}" for key, value in self.group.items())
        return f"{self.name or self.law_name}" + (f" [{group}]" if group else "")

    # For people and files --------------------------------------------------------------------

    def summary(self) -> str:
        """What was fitted and how, for people: the checklist of 2502.18969."""
        from fits.summary import summary

        return summary(self)

    def to_latex(self) -> str:
        """The parameters and their intervals as a LaTeX table."""
        from fits.summary import latex

        return latex([self])

    def plot(self, variable: str | None = None, band: Band = "curve") -> "Figure":
        """Points, fit with band, held-out points, and a panel of residuals: `fit_figure`."""
        from fits.figures.fit_figure import fit_figure

        return fit_figure(self, variable, band)

    def to_json(self) -> str:
        """As JSON text; `Fit.from_json` reads it."""
        from fits.saved import to_text

        return to_text([self])

    @classmethod
    def from_json(cls, text: str, laws: Sequence[Law] = ()) -> "Fit":
        """A fit as `to_json` wrote it; `laws` are laws of your own, by name. Raises Refused."""
        from fits.saved import from_text

        found = from_text(text, laws)
        if len(found) != 1:
            raise Refused(f"the text holds {len(found)} fits: read it with fits.load_fits")
        return found[0]


FEW_AGREE = 0.1


def few_agree(agree: int, starts: int) -> bool:
    """Whether so few starts ended at the best value that there may be a better one."""
    return agree <= max(1, FEW_AGREE * starts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
