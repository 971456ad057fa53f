"""How well a law predicts rows that it was not fitted to.

One idea: fit to some rows, predict others with a band for a new observation, and compare. What is
left out is each group in turn, each fold of independent units, or the future (`fits.folds`). Folds
that cannot be fitted, or whose parameters are not identified, are named with their reason.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.asked import rows_to_use
from fits.columns import with_columns
from fits.engine.identifiable import status_of
from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.fitting import fit, with_held_out
from fits.folds import Split, by_folds, by_group, fit_splits, into_future, mean_over_folds
from fits.form import Law
from fits.interval import Interval
from fits.plain import for_json
from fits.result import Fit, HeldOut
from fits.variables import different, take

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """One fit and what it predicts.

    `fit` holds the predicted rows as its `held_out`; None where the fit is refused. `why` says what
    is wrong: refused, or not identified. `rows` are the table's labels of the rows left out;
    `reach` how far beyond the fitted rows each lies (rolling).
    """

    name: str
    fit: Fit | None
    why: str
    rows: tuple[Any, ...]
    reach: tuple[float, ...] | None = None


@dataclass(frozen=True)
class HoldOut:
    """What `hold_out` returns: `whole`, the fit to all rows, and the folds.

    `how` says what was left out, in words; `nested`: rolling, where each fold's rows hold those of
    the one before, and a row may be predicted more than once.
    """

    whole: Fit
    folds: tuple[Fold, ...]
    how: str
    nested: bool = False

    # Rows ------------------------------------------------------------------------------------

    @cached_property
    def predictions(self) -> tuple[HeldOut, ...]:
        """All predicted rows, fold by fold."""
        return tuple(row for one in self._fitted for row in one[1].held_out)

    @property
    def _fitted(self) -> list[tuple[int, Fit]]:
        return [(k, one.fit) for k, one in enumerate(self.folds) if one.fit is not None]

    @cached_property
    def fold_of(self) -> NDArray[np.intp]:
        """Which fold each prediction belongs to, [m]."""
        return np.array([k for k, one in self._fitted for _ in one.held_out], np.intp)

    @property
    def losses(self) -> Floats:
        """What the objective makes of each prediction, [m]; infinite where the law has no value."""
        rule = self.whole.problem.objective
        observed = np.array([row.observed for row in self.predictions])
        predicted = np.array([row.predicted for row in self.predictions])
        found = rule.losses(rule.residuals(observed, predicted))
        return np.where(np.isfinite(found), found, np.inf)

    @property
    def unpredicted(self) -> int:
        """Rows left out by folds that could not be fitted."""
        return sum(len(one.rows) for one in self.folds if one.fit is None)

    # Summary ---------------------------------------------------------------------------------

    @cached_property
    def relative_errors(self) -> Floats:
        """(predicted - observed) / |observed| of each prediction, [m]."""
        return np.array([row.relative_error for row in self.predictions])

    def mean(self) -> tuple[float, Interval]:
        """Mean relative error, signed, and its t interval over folds."""
        return self._mean(self.relative_errors)

    def rms(self) -> tuple[float, Interval]:
        """Root mean square of the relative errors; the interval is that of their mean square."""
        square, own = self._mean(self.relative_errors**2)
        if own.low is None or own.high is None:
            return math.sqrt(square), own
        low, high = math.sqrt(max(0.0, own.low)), math.sqrt(own.high)
        return math.sqrt(square), dataclasses.replace(own, low=low, high=high)

    def worst(self) -> HeldOut:
        """The prediction whose relative error is largest."""
        return self.predictions[int(np.abs(self.relative_errors).argmax())]

    def coverage(self) -> tuple[int, int]:
        """(predictions whose band holds the observation, those that have a band)."""
        banded = [
            row.low <= row.observed <= row.high
            for row in self.predictions
            if row.low is not None and row.high is not None
        ]
        return sum(banded), len(banded)

    def _mean(self, values: Floats) -> tuple[float, Interval]:
        """Mean over rows, and its t interval over folds."""
        if not np.isfinite(values).all():
            return float("inf"), Interval(None, None, "none", "an observation is 0")
        mean, error = mean_over_folds(values, self.fold_of)
        folds = len(self._fitted)
        if folds < 2:
            return mean, Interval(None, None, "none", "one fold: its spread cannot be measured")
        half = t_quantile(self.whole.level, folds - 1) * error
        note = "the folds are nested: too narrow" if self.nested else ""
        return mean, Interval(mean - half, mean + half, f"t over {folds} folds", note)

    # For people and files --------------------------------------------------------------------

    def to_frame(self) -> "pd.DataFrame":
        """A row for each prediction: fold, the table's label of the row, what the law reads ...

        ... `observed`, `predicted`, `low`, `high` (infinite where there is no band),
        `relative_error`, `reach` (rolling) and `why` (a fold that is not identified).
        """
        import pandas as pd

        found = []
        for one in self.folds:
            for k, row in enumerate(one.fit.held_out if one.fit else ()):
                found.append(
                    {
                        "fold": one.name,
                        "row": one.rows[k],
                        **row.variables,
                        "observed": row.observed,
                        "predicted": row.predicted,
                        "low": -np.inf if row.low is None else row.low,
                        "high": np.inf if row.high is None else row.high,
                        "relative_error": row.relative_error,
                        **({"reach": one.reach[k]} if one.reach else {}),
                        "why": one.why,
                    }
                )
        return pd.DataFrame(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None where there is no such number."""
        (mean, of_mean), (rms, of_rms), (held, banded) = self.mean(), self.rms(), self.coverage()
        return {
            "law": self.whole.law_name,
            "objective": self.whole.objective,
            "level": self.whole.level,
            "how": self.how,
            "mean_relative_error": _with_interval(mean, of_mean),
            "rms_relative_error": _with_interval(rms, of_rms),
            "worst_relative_error": for_json(self.worst().relative_error),
            "band": {"held": held, "of": banded},
            "unpredicted": self.unpredicted,
            "folds": [
                {
                    "name": one.name,
                    "why": one.why,
                    "predictions": [
                        {
                            **row.variables,
                            "observed": row.observed,
                            "predicted": for_json(row.predicted),
                            "low": row.low,
                            "high": row.high,
                            "relative_error": for_json(row.relative_error),
                        }
                        for row in (one.fit.held_out if one.fit else ())
                    ],
                }
                for one in self.folds
            ],
        }

    def summary(self) -> str:
        """How far off the predictions are, and which folds to distrust."""
        whole = self.whole
        lines = [
            f"{whole.label()}   held out: {self.how}",
            f"  folds     {len(self._fitted)} of {len(self.folds)} fitted, "
            f"{len(self.predictions)} predictions, objective {whole.objective}",
        ]
        for name, (value, own) in (("mean", self.mean()), ("rms", self.rms())):
            low, high = (
                "none" if end is None else f"{100 * end:+.3g}" for end in (own.low, own.high)
            )
            said = own.note if own.low is None else f"[{low}, {high}] % {own.method}"
            note = f"  ({own.note})" if own.note and own.low is not None else ""
            lines.append(f"  {name:<9} relative error {100 * value:+.3g} %  {said}{note}")
        worst = self.worst()
        where = ", ".join(
            f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in worst.variables.items()
        )
        lines.append(f"  worst     relative error {100 * worst.relative_error:+.3g} % at {where}")
        held, banded = self.coverage()
        bare = len(self.predictions) - banded
        lines.append(
            f"  band      {whole.level:.0%} for a new observation, held {held} of {banded}"
            + (f"; {bare} predictions have none" if bare else "")
        )
        lines += [f"  {one.name}: {one.why}" for one in self.folds if one.why]
        return "\n".join(lines)


def hold_out(
    law: str | Law,
    table: "pd.DataFrame",
    *,
    by: str | None = None,
    folds: int | None = None,
    rolling: str | None = None,
    cuts: Sequence[float] | None = None,
    horizon: float = math.inf,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    objective: str | None = None,
    pin: Mapping[str, float] | None = None,
    bound: Mapping[str, tuple[float, float]] | None = None,
    tie: Mapping[str, str] | None = None,
    starts: Mapping[str, Sequence[float]] | None = None,
    level: float = 0.95,
    rates: Any = None,
    name: str = "",
) -> HoldOut:
    """Fit a law to part of a table and predict the rest, in turn.

    by: each value of the column is left out in turn. folds: so many random folds (`seed`) of rows,
    or of the values of `by`, the independent unit. Neither: ten folds of rows. rolling: rows up
    to each of `cuts` of this column are fitted, those beyond it predicted, up to `horizon` times
    the cut. The other options are those of `fits.fit`. Bands come from the covariance of each
    fold's fit, its scatter included, and take its rows as independent. Raises Refused.
    """
    if rolling and (by or folds is not None):
        raise Refused("leave out by group or folds, or rolling into the future: not both")
    if not rolling and (cuts is not None or horizon != math.inf):
        raise Refused("cuts and horizon need `rolling`, the column to roll along")
    table = with_columns(table, columns)
    whole = fit(
        law,
        table,
        columns=columns,
        where=where,
        objective=objective,
        pin=pin,
        bound=bound,
        tie=tie,
        starts=starts,
        interval="none",
        level=level,
        rates=rates,
        name=name,
    )
    frame, _ = rows_to_use(whole.law, table, where)
    if rolling:
        least = len(whole.problem.free)
        splits = into_future(frame, rolling, cuts, horizon, least)
        how = f"all beyond each of {len(splits)} cuts of {rolling}"
        how += "" if horizon == math.inf else f", up to {horizon:g} times the cut"
    elif by and folds is None:
        splits = by_group(frame, by)
        how = f"each of {len(splits)} values of {by}"
    else:
        splits = by_folds(frame, folds, by, seed)
        how = f"each of {len(splits)} random folds of {by or 'rows'}"
    found = _fit_folds(whole, splits, frame.index.tolist(), starts)
    if all(one.fit is None for one in found):
        raise Refused(f"law {whole.law_name}, {how}: no fold can be fitted; {found[0].why}")
    return HoldOut(whole, found, how, nested=bool(rolling))


def _fit_folds(
    whole: Fit,
    splits: Sequence[Split],
    labels: Sequence[Any],
    starts: Mapping[str, Sequence[float]] | None,
) -> tuple[Fold, ...]:
    problem = whole.problem
    free = len(problem.free)
    places = [different(take(problem.x, one.kept)) for one in splits]
    sound = [one for one, count in zip(splits, places, strict=True) if count >= free]
    fits = (
        fit_splits(problem, [one.kept for one in sound], whole.params, starts)
        if sound
        else iter(())
    )
    found = []
    for one, count in zip(splits, places, strict=True):
        held = np.flatnonzero(one.held).tolist()
        rows = tuple(labels[k] for k in held)
        reach = None if one.reach is None else tuple(one.reach[held].tolist())
        if count < free:
            why = f"refused: {count} different points left, for {free} free parameters"
            found.append(Fold(one.name, None, why, rows, reach))
            continue
        solution = next(fits)
        if not math.isfinite(solution.objective):
            why = "refused: no start ends at a finite objective"
            found.append(Fold(one.name, None, why, rows, reach))
            continue
        x = take(problem.x, one.kept)
        part = dataclasses.replace(problem, x=x, y=problem.y[one.kept])
        status = status_of(part, solution.params)
        its = dataclasses.replace(
            whole,
            params={key: solution.params[key] for key in whole.law.names},
            objective_value=solution.objective,
            starts=solution.starts,
            agree=solution.agree,
            x=x,
            y=part.y,
            name=f"{whole.label()} without {one.name}",
            notes=status.notes,
        )
        with np.errstate(over="ignore"):  # a band without end, of a fold that knows next to nothing
            its = with_held_out(its, take(problem.x, one.held), problem.y[one.held])
        why = f"not identified: {status.unidentified}" if status.unidentified else ""
        found.append(Fold(one.name, its, why, rows, reach))
    return tuple(found)


def _with_interval(value: float, own: Interval) -> dict[str, Any]:
    return {"value": for_json(value), "low": own.low, "high": own.high, "method": own.method}
