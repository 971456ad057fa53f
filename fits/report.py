"""What a study found, as a value, and its numbers as text for a page (`fits.report_page`)."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fits.errors import Refused, meant
from fits.figures.plots import Figure
from fits.interval import Interval
from fits.result import Fit
from fits.verdicts import Evidence

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table of a report; numbers are shown with few digits, the CSV beside it has them all.

    `hidden` columns stand in the CSV alone.
    """

    name: str
    caption: str
    frame: "pd.DataFrame"
    hidden: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns that are shown."""
        return [str(name) for name in self.frame.columns if name not in self.hidden]


@dataclass(frozen=True)
class Findings:
    """What a study says once its runs are there.

    `headline` is one line; `notes` are what a reader must know before believing it; `readings` is
    plain data for `fit.json`. `evidence` by claim of the study (`fits.verdicts`); `measured` holds
    what came of what the study had predicted, by name.
    """

    headline: str
    tables: Sequence[Table]
    fits: Sequence[Fit]
    figures: Sequence[Figure]
    notes: Sequence[str]
    readings: Mapping[str, Any]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)

    def table(self, name: str) -> "pd.DataFrame":
        """The table called `name`. Raises Refused."""
        for one in self.tables:
            if one.name == name:
                return one.frame
        raise Refused(f"no table {name!r}: {', '.join(one.name for one in self.tables)}")

    def figure(self, name: str) -> Figure:
        """The figure called `name`. Raises Refused."""
        for one in self.figures:
            if one.name == name:
                return one
        known = [one.name for one in self.figures]
        raise Refused(f"no figure {name!r}: {', '.join(known)}{meant(name, known)}")


def cell(value: Any) -> str:
    """A value of a table as text: four digits, a dash for nothing."""
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if isinstance(value, numbers.Real):
        return f"{float(value):.4g}"
    return str(value)


def limits(one: Interval | None) -> str:
    """An interval as text."""
    if one is None:
        return "pinned"
    if one.method == "none":
        return f"none ({one.note})" if one.note else "none"
    low = "−∞" if one.low is None else f"{one.low:.4g}"
    high = "∞" if one.high is None else f"{one.high:.4g}"
    return f"{low} .. {high}"


def fit_rows(fits: Sequence[Fit]) -> list[dict[str, Any]]:
    """One row a fit, for a table."""
    rows = []
    for one in fits:
        params = [(key, value, limits(one.intervals.get(key))) for key, value in one.params.items()]
        rows.append(
            {
                "label": one.label(),
                "formula": one.law.formula,
                "params": params,
                "points": one.points,
                "rms": one.residual_rms,
                "agree": f"{one.agree}/{one.starts}",
                "held_out": [
                    (row, limits(Interval(row.low, row.high, ""))) for row in one.held_out
                ],
                "notes": one.notes,
                "method": next(
                    (i.method for i in one.intervals.values() if i.method != "none"), "none"
                ),
            }
        )
    return rows
