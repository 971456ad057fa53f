"""A fit as a value: parameters with intervals, the data they came from, predictions, JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fits.errors import Refused
from fits.files import write_whole
from fits.form import Law, Objective
from fits.laws import law as law_named
from fits.solve import Problem

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; None on a side means that the data do not bound it there."""

    low: float | None
    high: float | None
    method: str
    note: str = ""


@dataclass(frozen=True)
class HeldOut:
    """A row that was predicted, not fitted; the interval is for a new observation."""

    variables: dict[str, float]
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

    `intervals` are at `level`; `draws` are parameter sets of bootstrap refits, `unit_params` those
    of the independent units (seeds) fitted one by one, if any. `notes` says what a reader must know
    (pinned at a bound, not identified, rows left out). `group` holds the values of the column that
    the table was divided by.
    """

    law_name: str
    params: dict[str, float]
    intervals: dict[str, Interval]
    objective: Objective
    objective_value: float
    starts: int
    agree: int
    x: dict[str, Floats]
    y: Floats
    pinned: dict[str, float] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    level: float = 0.95
    held_out: tuple[HeldOut, ...] = ()
    draws: tuple[dict[str, float], ...] = ()
    unit_params: tuple[dict[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def law(self) -> Law:
        return law_named(self.law_name)

    @property
    def problem(self) -> Problem:
        """The law on the fitted data."""
        return Problem(self.law, self.x, self.y, self.objective, self.pinned)

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
        if name in self.pinned:
            raise Refused(f"{name} is pinned: it has no interval")
        if name not in self.intervals:
            raise Refused(f"{self.law_name} has no parameter {name!r}: {', '.join(self.params)}")
        return self.intervals[name]

    def predict(
        self,
        table: "pd.DataFrame | Mapping[str, Any]",
        new: bool = True,
        columns: Mapping[str, str] | None = None,
    ) -> "pd.DataFrame":
        """Predictions with intervals: columns `predicted`, `low`, `high` (NaN where unbounded).

        `new`: for a new observation (scatter included); else for the curve itself.
        """
        import pandas as pd

        from fits.table import column_values, resolve_columns

        frame = pd.DataFrame(table)
        chosen, _ = resolve_columns(self.law, frame, columns, response=False)
        x = {one.name: column_values(one, frame, chosen[one.name]) for one in self.law.variables}
        predicted, low, high = self.band(x, new)
        return pd.DataFrame({"predicted": predicted, "low": low, "high": high}, index=frame.index)

    def band(self, x: Mapping[str, Floats], new: bool) -> tuple[Floats, Floats, Floats]:
        """(predicted, low, high) at variables `x`, [n] each."""
        count = len(next(iter(x.values())))
        there = Problem(self.law, x, np.zeros(count), self.objective, self.pinned)
        predicted = np.asarray(there.predict(self.params), np.float64)
        if self.unit_params:
            return predicted, *self._unit_band(there, predicted, new)
        if self.draws:
            return predicted, *self._drawn_band(there, predicted, new)
        if self.spare < 1 or self.objective != "squares":
            return predicted, np.full(count, -np.inf), np.full(count, np.inf)
        free = self.problem.free
        at_data = self.problem.jacobian(self.params, free)
        at_x = there.jacobian(self.params, free)
        size = np.linalg.norm(at_data, axis=0)
        size = np.where(size > 0, size, 1.0)
        inverse = np.linalg.pinv(at_data / size)
        spread = np.sum(((at_x / size) @ inverse) ** 2, axis=1) + (1.0 if new else 0.0)
        scatter = math.sqrt(self.objective_value / self.spare)
        quantile = float(stats.t.ppf(0.5 + self.level / 2, self.spare))
        half = quantile * scatter * np.sqrt(spread)
        return predicted, predicted - half, predicted + half

    def _unit_band(self, there: Problem, predicted: Floats, new: bool) -> tuple[Floats, Floats]:
        """t band of the mean over units, around the fit of the mean; `new`: of one more unit."""
        each = np.array([there.predict(params) for params in self.unit_params])
        units = len(each)
        quantile = float(stats.t.ppf(0.5 + self.level / 2, units - 1))
        half = quantile * each.std(axis=0, ddof=1) * math.sqrt(1 / units + (1 if new else 0))
        return predicted - half, predicted + half

    def _drawn_band(self, there: Problem, predicted: Floats, new: bool) -> tuple[Floats, Floats]:
        ensemble = np.array([there.predict(draw) for draw in self.draws])
        if new:  # each drawn curve carries each residual, relative as the objective measures it
            residuals = self.problem.residuals(self.params)
            residuals = np.quantile(residuals, np.linspace(0.01, 0.99, 41))
            if self.objective == "huber-log":
                ensemble = (ensemble[:, None] * np.exp(residuals)[None, :, None]).reshape(
                    -1, len(predicted)
                )
            else:
                ensemble = (ensemble[:, None] + residuals[None, :, None]).reshape(
                    -1, len(predicted)
                )
        tail = (1 - self.level) / 2
        low, high = np.quantile(ensemble, [tail, 1 - tail], axis=0)
        return np.minimum(low, predicted), np.maximum(high, predicted)

    def summary(self) -> str:
        """What was fitted and how, for people: the checklist of 2502.18969 in short."""
        law = self.law
        lines = [
            f"{self.label()}   {law.formula}",
            f"  {law.source}",
            f"  {self.points} points, objective {self.objective} = {self.objective_value:.6g}, "
            f"residual rms {self.residual_rms:.3g} {law.response.unit}, "
            f"{self.agree} of {self.starts} starts agree",
        ]
        width = max(len(name) for name in self.params)
        for name, value in self.params.items():
            if name in self.pinned:
                lines.append(f"  {name:<{width}}  {value:.6g}  pinned")
                continue
            one = self.intervals[name]
            note = f"  ({one.note})" if one.note else ""
            lines.append(f"  {name:<{width}}  {value:.6g}  {_range(one)} {one.method}{note}")
        for row in self.held_out:
            where = ", ".join(f"{k} {v:.6g}" for k, v in row.variables.items())
            error = f"{100 * row.relative_error:+.3f} %"
            bounds = _range(Interval(row.low, row.high, ""))
            lines.append(
                f"  held out {where}: observed {row.observed:.5g}, "
                f"predicted {row.predicted:.5g} {bounds}, {error}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def label(self) -> str:
        """Law and group, for a headline."""
        group = ", ".join(f"{key} {_short(value)}" for key, value in self.group.items())
        return f"{self.name or self.law_name}" + (f" [{group}]" if group else "")

    # JSON ------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data; unbounded sides of intervals are null."""
        return {
            "name": self.name,
            "law": self.law_name,
            "group": {key: _plain(value) for key, value in self.group.items()},
            "params": {
                key: {
                    "value": value,
                    "low": self.intervals[key].low if key in self.intervals else value,
                    "high": self.intervals[key].high if key in self.intervals else value,
                    "method": self.intervals[key].method if key in self.intervals else "pinned",
                    "note": self.intervals[key].note if key in self.intervals else "",
                }
                for key, value in self.params.items()
            },
            "level": self.level,
            "objective": {"name": self.objective, "value": self.objective_value},
            "starts": self.starts,
            "agree": self.agree,
            "points": self.points,
            "residual_rms": self.residual_rms,
            "holdout": {
                "rows": [
                    {**vars(one), "relative_error": _finite(one.relative_error)}
                    for one in self.held_out
                ],
                "max_relative_error": _finite(self.max_relative_error),
            },
            "notes": list(self.notes),
            "data": {
                "variables": {key: values.tolist() for key, values in self.x.items()},
                "response": self.y.tolist(),
            },
            "draws": list(self.draws),
            "unit_params": list(self.unit_params),
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Fit":
        """A fit as `to_dict` wrote it. Raises Refused."""
        try:
            law = law_named(str(tree["law"]))
            params = _params(law, {k: v["value"] for k, v in tree["params"].items()})
            objective, level = tree["objective"]["name"], _number(tree["level"])
            if objective not in get_args(Objective) or not 0 < level < 1:
                raise Refused(f"not a fit: objective {objective!r} at level {level}")
            x = {one.name: _column(tree["data"]["variables"][one.name]) for one in law.variables}
            y = _column(tree["data"]["response"])
            if any(len(values) != len(y) for values in x.values()):
                raise Refused("not a fit: its columns of data differ in length")
            methods = {k: v["method"] for k, v in tree["params"].items()}
            return cls(
                law_name=law.name,
                params=params,
                intervals={
                    str(k): Interval(_end(v["low"]), _end(v["high"]), v["method"], v["note"])
                    for k, v in tree["params"].items()
                    if v["method"] != "pinned"
                },
                objective=objective,
                objective_value=_number(tree["objective"]["value"]),
                starts=int(tree["starts"]),
                agree=int(tree["agree"]),
                x=x,
                y=y,
                pinned={k: params[k] for k, method in methods.items() if method == "pinned"},
                group=dict(tree["group"]),
                name=str(tree["name"]),
                level=level,
                held_out=tuple(
                    HeldOut(
                        {one.name: _number(row["variables"][one.name]) for one in law.variables},
                        _number(row["observed"]),
                        _number(row["predicted"]),
                        _end(row["low"]),
                        _end(row["high"]),
                    )
                    for row in tree["holdout"]["rows"]
                ),
                draws=tuple(_params(law, draw) for draw in tree["draws"]),
                unit_params=tuple(_params(law, one) for one in tree["unit_params"]),
                notes=tuple(map(str, tree["notes"])),
            )
        except Refused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Refused(f"not a fit: {type(error).__name__} {error}") from None


def save_fits(fits: Sequence[Fit], path: str | Path) -> None:
    """Write fits as JSON. Raises Failed."""
    tree = {"schema": SCHEMA, "fits": [one.to_dict() for one in fits]}
    write_whole(Path(path), (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode())


def load_fits(path: str | Path) -> list[Fit]:
    """Read fits that `save_fits` or a study wrote. Raises Refused."""
    try:
        tree = json.loads(Path(path).read_text())
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    if (
        not isinstance(tree, dict)
        or tree.get("schema") != SCHEMA
        or not isinstance(tree.get("fits"), list)
    ):
        raise Refused(f"{path} holds no fits of schema {SCHEMA}")
    return [Fit.from_dict(one) for one in tree["fits"]]


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _end(value: Any) -> float | None:
    return None if value is None else _number(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _column(values: Any) -> Floats:
    return np.array([_number(one) for one in values], np.float64)


def _params(law: Law, values: Mapping[str, Any]) -> dict[str, float]:
    params = {str(name): _number(value) for name, value in values.items()}
    if set(params) != set(law.names):
        raise Refused(f"not a fit: law {law.name} has the parameters {', '.join(law.names)}")
    return params


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(one: Interval) -> str:
    low = "-inf" if one.low is None else f"{one.low:.4g}"
    high = "inf" if one.high is None else f"{one.high:.4g}"
    return f"[{low}, {high}]"
