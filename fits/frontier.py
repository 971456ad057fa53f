"""The compute-optimal frontier: model size and tokens as power laws of the budget.

What Chinchilla's first two approaches return (Hoffmann et al. 2022, 2203.15556, sections 3.1 and
3.2): an optimum for each budget, and N* = k C^a, D* = k' C^b through them by unweighted least
squares of ln N*, ln D* on ln C. An optimum on the edge of the sizes tried is no optimum: it is
listed, flagged and left out of the regression.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fits.columns import with_columns
from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.form import Variable
from fits.interval import Interval
from fits.plain import for_json
from fits.table import column_values, require_column

if TYPE_CHECKING:
    import pandas as pd

    from fits.figures.plots import Figure

Floats = NDArray[np.float64]
FLOP_PER_PARAM_TOKEN = 6.0  # C = 6 N D, where the table says no better
MIN_BUDGETS = 3
_CONSTANT = 1e-20  # variance of ln value that is rounding
LAWS = ("n_opt", "d_opt", "tokens_per_param")


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """`value` = coefficient * budget^exponent through [m] optima, by least squares of logarithms.

    `draws` [k, 2] are (ln coefficient, exponent) of regressions on resampled optima, `drawn` says
    of what. `independent`: the optima are independent of each other, so that their scatter about
    the line gives a t interval.
    """

    name: str
    budget_flop: Floats
    value: Floats
    draws: Floats
    drawn: str
    independent: bool

    @property
    def exponent(self) -> float:
        return float(self._line[1])

    @property
    def coefficient(self) -> float:
        return math.exp(self._line[0])

    @property
    def r2(self) -> float:
        """Share of the variance of ln value that the line explains; NaN where it is constant."""
        variance = float(np.var(np.log(self.value)))
        return 1 - float(np.mean(self._residuals**2)) / variance if variance > _CONSTANT else np.nan

    @property
    def _line(self) -> Floats:
        return lines(np.log(self.budget_flop), np.log(self.value)[None])[0]

    @property
    def _residuals(self) -> Floats:
        return np.asarray(np.log(self.value) - self._line @ _powers(self.budget_flop))

    def intervals(self, level: float = 0.95) -> tuple[Interval, ...]:
        """Intervals of the exponent: of the draws first, where there are any; then t."""
        found = []
        if len(self.draws):
            low, high = np.quantile(self.draws[:, 1], [(1 - level) / 2, (1 + level) / 2])
            found.append(Interval(float(low), float(high), self._bootstrap))
        if self.independent:
            x = np.log(self.budget_flop)
            half = t_quantile(level, len(x) - 2) * self._scatter / float(np.std(x) * len(x) ** 0.5)
            found.append(Interval(self.exponent - half, self.exponent + half, self._t))
        return tuple(found) or (Interval(None, None, "none", "optima share runs; no resamples"),)

    def at(self, budget_flop: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
        """(value, low, high) of the line at budgets [n]: by the draws where there are any, else t.

        NaN where nothing gives an interval.
        """
        budget = np.atleast_1d(np.asarray(budget_flop, np.float64))
        middle = np.exp(self._line @ _powers(budget))
        if len(self.draws):
            each = np.exp(self.draws @ _powers(budget))
            low, high = np.quantile(each, [(1 - level) / 2, (1 + level) / 2], axis=0)
            return middle, low, high
        if not self.independent:
            return middle, np.full(len(budget), np.nan), np.full(len(budget), np.nan)
        x, count = np.log(self.budget_flop), len(self.budget_flop)
        lever = 1 / count + (np.log(budget) - x.mean()) ** 2 / (np.var(x) * count)
        half = t_quantile(level, count - 2) * self._scatter * np.sqrt(lever)
        return middle, middle * np.exp(-half), middle * np.exp(half)

    @property
    def _scatter(self) -> float:
        """Residual standard deviation of ln value."""
        return math.sqrt(float(np.sum(self._residuals**2)) / (len(self.value) - 2))

    @property
    def _bootstrap(self) -> str:
        return f"bootstrap of {len(self.draws)}, {self.drawn}"

    @property
    def _t(self) -> str:
        return f"t of the regression over {len(self.value)} budgets"


def lines(log_budget: Floats, log_values: Floats) -> Floats:
    """(intercept, slope) [k, 2] of least squares of each row of `log_values` [k, m] on [m].

    NaN takes no part; a row with fewer than MIN_BUDGETS left has no line and is NaN.
    """
    here = np.isfinite(log_values)
    count = np.maximum(here.sum(axis=1, keepdims=True), 1)
    x = np.where(here, log_budget, 0.0)
    y = np.where(here, log_values, 0.0)
    centre, height = x.sum(axis=1, keepdims=True) / count, y.sum(axis=1, keepdims=True) / count
    x, y = np.where(here, x - centre, 0.0), np.where(here, y - height, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.sum(x * y, axis=1, keepdims=True) / np.sum(x * x, axis=1, keepdims=True)
    slope[here.sum(axis=1) < MIN_BUDGETS] = np.nan
    return np.concatenate([height - slope * centre, slope], axis=1)


def _powers(budget_flop: Floats) -> Floats:
    return np.stack([np.ones(len(budget_flop)), np.log(budget_flop)])


@dataclass(frozen=True, eq=False)
class Frontier:
    """Compute-optimal sizes and tokens by budget, and the power laws through them.

    `optima`: a row per budget with `budget_flop`, `n_opt`, `d_opt`, `tokens_per_param`, `loss_opt`
    (NaN where there is no minimum at all), `source`, `edge` (left out of the laws) and `note`.
    `curves`: what was read, with `curve` (budget or run), `n_params`, `train_flop`, `loss` and
    `kind` (measured, interpolated). `loss_name` is the column that the losses are from.
    """

    method: str
    optima: "pd.DataFrame"
    curves: "pd.DataFrame"
    laws: Mapping[str, PowerLaw]
    loss_name: str = "loss_nats"
    level: float = 0.95
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> "pd.DataFrame":
        """The optima that the laws go through."""
        return self.optima[~self.optima["edge"]]

    def exponent(self, law: str = "n_opt") -> float:
        """Exponent of the budget in N* (`n_opt`), D* (`d_opt`) or D*/N*. Raises Refused."""
        return self._law(law).exponent

    def interval(self, law: str = "n_opt") -> Interval:
        """The first of the exponent's intervals; `summary` shows all. Raises Refused."""
        return self._law(law).intervals(self.level)[0]

    def _law(self, name: str) -> PowerLaw:
        if name not in self.laws:
            raise Refused(f"a frontier has no law {name!r}; it has {', '.join(self.laws)}")
        return self.laws[name]

    def predict(self, budget_flop: ArrayLike) -> "pd.DataFrame":
        """Optimal parameters and tokens at budgets (FLOP) [n], with intervals of the lines.

        Columns `budget_flop`, `n_opt`, `n_low`, `n_high`, `d_opt`, `d_low`, `d_high`,
        `tokens_per_param` and `beyond` (the budget lies outside those that were fitted).
        Raises Refused.
        """
        import pandas as pd

        budget = np.atleast_1d(np.asarray(budget_flop, np.float64))
        if not np.all(np.isfinite(budget) & (budget > 0)):
            raise Refused("a budget must be a positive, finite number of FLOP")
        n, n_low, n_high = self.laws["n_opt"].at(budget, self.level)
        d, d_low, d_high = self.laws["d_opt"].at(budget, self.level)
        fitted = self.used["budget_flop"]
        columns = {"budget_flop": budget, "n_opt": n, "n_low": n_low, "n_high": n_high}
        columns |= {"d_opt": d, "d_low": d_low, "d_high": d_high, "tokens_per_param": d / n}
        beyond = (budget < fitted.min()) | (budget > fitted.max())
        return pd.DataFrame({**columns, "beyond": beyond})

    def summary(self) -> str:
        """What was read and found, for people."""
        used, every = len(self.used), len(self.optima)
        span = self.used["budget_flop"]
        text = [
            f"{self.method}: {used} of {every} budgets, {span.min():.3g} to {span.max():.3g} FLOP"
        ]
        for name, law in self.laws.items():
            text.append(f"  {name} = {law.coefficient:.4g} C^{law.exponent:.4f}   R2 {law.r2:.4f}")
            text += [
                f"    exponent {100 * self.level:g} % {_range(one)} {one.method}"
                + (f" ({one.note})" if one.note else "")
                for one in law.intervals(self.level)
            ]
        return "\n".join([*text, *(f"  note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what does not exist is null."""
        return {
            "method": self.method,
            "level": self.level,
            "loss_name": self.loss_name,
            "laws": {
                name: {
                    "exponent": law.exponent,
                    "coefficient": law.coefficient,
                    "r2": law.r2,
                    "budgets": len(law.value),
                    "intervals": [vars(one) for one in law.intervals(self.level)],
                }
                for name, law in self.laws.items()
            },
            "optima": [
                {key: for_json(value) for key, value in row.items()}
                for row in self.optima.to_dict("records")
            ],
            "notes": list(self.notes),
        }

    def figure(self) -> "Figure":
        """The curves with their optima, and the power laws; optima on an edge are open marks."""
        from fits.figures.frontier_figure import frontier_figure

        return frontier_figure(self)


def power_laws(
    optima: "pd.DataFrame", log_n: Floats, log_d: Floats, drawn: str, independent: bool
) -> dict[str, PowerLaw]:
    """The laws through the optima without an edge flag.

    `log_n`, `log_d` [k, m] are logarithms of resampled optima at the m rows of `optima`, NaN where
    a draw has none. Where most draws have no line there is no interval of them. Raises Refused
    where fewer than MIN_BUDGETS optima are left.
    """
    used = ~optima["edge"].to_numpy(bool)
    if used.sum() < MIN_BUDGETS:
        why = optima.loc[~used, "note"].value_counts()
        reasons = "; ".join(f"{count} budgets: {note}" for note, count in why.items())
        raise Refused(
            f"{used.sum()} of {len(used)} budgets have an optimum inside the sizes tried, a power "
            f"law needs {MIN_BUDGETS}" + (f" ({reasons})" if reasons else "")
        )
    budget = optima["budget_flop"].to_numpy(np.float64)[used]
    laws = {}
    for name, drawn_log in zip(LAWS, (log_n, log_d, log_d - log_n), strict=True):
        value = optima[name].to_numpy(np.float64)[used]
        draws = lines(np.log(budget), drawn_log[:, used])
        whole = np.isfinite(draws).all(axis=1)
        draws = draws[whole] if 2 * whole.sum() >= len(draws) else draws[:0]
        laws[name] = PowerLaw(name, budget, value, draws, drawn, independent)
    return laws


def edge_notes(optima: "pd.DataFrame") -> list[str]:
    """What is left out of the laws, said once a reason."""
    out = optima[optima["edge"]]
    return [
        f"{len(rows)} of {len(optima)} budgets are left out, "
        f"{rows['budget_flop'].min():.3g} to {rows['budget_flop'].max():.3g} FLOP: {note}"
        for note, rows in out.groupby("note", sort=False)
    ]


def columns_of(
    table: "pd.DataFrame",
    columns: Mapping[str, str] | None,
    needed: tuple[str, ...],
    optional: tuple[str, ...],
) -> dict[str, Floats]:
    """The numeric columns of a table by our names, checked. Raises Refused naming those there."""
    given = dict(columns or {})
    for name in given:
        if name not in (*needed, *optional):
            known = ", ".join((*needed, *optional))
            raise Refused(f"a frontier reads no column {name!r}; it reads {known}")
    table = with_columns(table, columns)
    out = {}
    for name in (*needed, *optional):
        column = given.get(name, name)
        if name in optional and name not in given and column not in table.columns:
            continue
        require_column(column, table)
        out[name] = column_values(Variable(name, "1", name), table, column)
    return out


def _range(one: Interval) -> str:
    if one.low is None or one.high is None:
        return "open"
    return f"[{one.low:.4f}, {one.high:.4f}]"
