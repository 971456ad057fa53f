"""`fit`: a law and a table in, a `Fit` out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.asked import (
    Method,
    parameters_asked,
    refuse_options,
    refuse_starts,
    refuse_too_few,
    require_groups,
    response_values,
    rows_to_use,
)
from fits.columns import with_columns
from fits.doubts import doubts
from fits.engine.objective import objective as objective_named
from fits.engine.problem import Problem
from fits.engine.solve import Solution
from fits.errors import Refused
from fits.estimate import estimate
from fits.form import RATES, Law
from fits.laws import law as law_named
from fits.result import Fit, HeldOut, few_agree
from fits.shared import label, shared_law
from fits.table import resolve_columns, rows_where
from fits.variables import read_variables, row, take

if TYPE_CHECKING:
    import pandas as pd

CORRELATED = 0.2  # of neighbouring residuals, from which it is said


def fit(
    law: str | Law,
    table: "pd.DataFrame",
    *,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    objective: str | None = None,
    pin: Mapping[str, float] | None = None,
    bound: Mapping[str, tuple[float, float]] | None = None,
    tie: Mapping[str, str] | None = None,
    starts: Mapping[str, Sequence[float]] | None = None,
    near: Mapping[str, float] | None = None,
    interval: Method = "profile",
    draws: int = 1000,
    by: str | None = None,
    level: float = 0.95,
    rates: Any = None,
    group: Mapping[str, Any] | None = None,
    name: str = "",
) -> Fit:
    """Fit a law to a table of losses.

    columns: law's variable -> column, where they differ, or arithmetic on columns (`step*524288`:
    `fits.columns`). where: rows to use. holdout: rows to predict instead
    (`column op value [and ...]`). objective: see `fits.engine.objective`.

    pin: parameters kept at a value; bound: their (low, high); tie: parameter -> the one whose value
    it takes. starts: values to start from instead of the law's (every combination is tried); near:
    one point to start from, instead of all.

    interval: `profile` (likelihood), `covariance` (curvature), `bootstrap` (`draws` refits of
    resampled units), `units` (t over units fitted one by one: a mean over few seeds) or `none`.
    `by` names the column of the independent unit; a row each by default. Too few units for a
    bootstrap get `units`, if each can be fitted. Profiles, covariances and units hold the truth in
    about 95 % of synthetic sets, resampled rows of few points in more (`fits.coverage`).

    rates: learning-rate curves (name -> a rate a step, or a table), for laws that read them.
    Raises Refused, naming what is wrong.
    """
    law = law_named(law) if isinstance(law, str) else law
    refuse_options(interval, draws, level)
    rule = objective_named(objective or law.objective)
    table = with_columns(table, columns)
    if by:
        require_groups(table, by)
    elif interval == "units":
        raise Refused("interval 'units' needs `by`, the column of the independent unit")
    chosen, notes = resolve_columns(law, table, columns)
    frame, exclusions = rows_to_use(law, table, where)
    x, said = read_variables(law, frame, chosen, rates)
    y = response_values(law, rule, frame, chosen[law.response.name])
    said += doubts(law, frame, chosen, {**x, law.response.name: y}, by)
    kept = np.ones(len(frame), bool)
    if holdout:
        kept = ~rows_where(frame, holdout).to_numpy(bool)
        if kept.all():
            notes.append(f"no row fulfils the hold-out {holdout!r}")
    pinned, bounds, tied = parameters_asked(law, pin, bound, tie)
    problem = Problem(law, take(x, kept), y[kept], rule, pinned, bounds, tied)
    refuse_too_few(problem, holdout)
    refuse_starts(problem, starts or {}, near or {})
    units = frame[by][kept].tolist() if by else list(range(int(kept.sum())))
    best, status, intervals, resampled, each, more = estimate(
        problem, near, starts, interval, draws, units, level
    )
    result = Fit(
        law=law,
        params={key: best.params[key] for key in law.names},
        intervals=intervals,
        objective=rule.name,
        objective_value=best.objective,
        starts=best.starts,
        agree=best.agree,
        x=dict(problem.x),
        y=problem.y,
        pinned=pinned,
        bounds=bounds,
        tied=tied,
        group=dict(group or {}),
        name=name,
        level=level,
        draws=tuple(resampled),
        units=len(set(units)) if resampled else 0,
        unit_params=tuple(each),
        notes=(
            *notes,
            *said,
            *status.notes,
            *_agreement(best),
            *more,
            *_along_curves(problem, best, by),
        ),
        exclusions=tuple(exclusions),
    )
    return with_held_out(result, take(x, ~kept), y[~kept])


def fit_groups(law: str | Law, table: "pd.DataFrame", per: str, **options: Any) -> list[Fit]:
    """`fit` once for each value of the column `per`. Raises Refused."""
    table = with_columns(table, options.get("columns"))
    require_groups(table, per)
    fits = []
    for value, rows in table.groupby(per, sort=True):
        try:
            fits.append(fit(law, rows, group={per: value}, **options))
        except Refused as refusal:
            raise Refused(f"{per} {value}: {refusal}") from None
    return fits


def fit_shared(
    law: str | Law, table: "pd.DataFrame", per: str, shared: Sequence[str], **options: Any
) -> Fit:
    """`fit` for all values of the column `per` at once, the parameters named `shared` in common.

    The others are a group's own, named `alpha[3]`. Raises Refused.
    """
    law = law_named(law) if isinstance(law, str) else law
    table = with_columns(table, options.get("columns"))
    require_groups(table, per)
    where = options.pop("where", None)
    frame = table[rows_where(table, where)] if where else table
    groups = [value for value, _ in frame.groupby(per, sort=True)]
    if len(groups) < 2:
        raise Refused(f"column {per!r} has {len(groups)} values: there is nothing to share")
    whole = shared_law(law, per, groups, shared)
    given = dict(options.pop("starts", None) or {})
    starts = {name: values for name, values in given.items() if name not in law.names}
    starts |= {name: values for name, values in given.items() if name in shared}
    alone = {k: v for k, v in options.items() if k in ("columns", "objective", "rates")}
    alone |= {"interval": "none", "starts": {k: v for k, v in given.items() if k in law.names}}
    own = [name for name in law.names if name not in shared and name not in law.linear]
    for value, rows in frame.groupby(per, sort=True):
        if own and "near" not in options:
            try:
                one = fit(law, rows, **alone)
            except (
                Refused
            ):  # too few points to be fitted alone: all groups as one say where to start
                one = fit(law, frame, **alone)
            for name in own:
                starts.setdefault(f"{name}[{label(value)}]", (one.params[name],))
    return fit(whole, frame, **options, starts=starts)


def _agreement(best: Solution) -> list[str]:
    if best.starts > 1 and few_agree(best.agree, best.starts):
        return [f"only {best.agree} of {best.starts} starts agree: there may be a better fit"]
    return []


def _along_curves(problem: Problem, best: Solution, by: str | None) -> list[str]:
    """Rows of one training run are not independent: says so, and by how much, unless units are."""
    if not problem.law.rates or by is not None:
        return []
    r, rates = problem.residuals(best.params), problem.x[RATES]
    ahead, behind = [], []
    for curve in np.unique(rates.curve):
        rows = np.flatnonzero(rates.curve == curve)
        along = r[rows[np.argsort(rates.step[rows], kind="stable")]]
        ahead.append(along[1:] - along.mean())
        behind.append(along[:-1] - along.mean())
    a, b = np.concatenate(ahead), np.concatenate(behind)
    size = float(np.sqrt((a @ a) * (b @ b)))
    correlation = float(a @ b) / size if size > 0 else 0.0
    if correlation < CORRELATED:
        return []
    factor = np.sqrt((1 + correlation) / (1 - min(correlation, 0.999)))
    return [
        f"residuals next to each other on a curve correlate by {correlation:.2f}: intervals that "
        f"count every row are about {factor:.1f} times too narrow"
    ]


def with_held_out(result: Fit, x: dict[str, Any], y: Any) -> Fit:
    if len(y) == 0:
        return result
    predicted, low, high = result.band(x, "new")
    rows = tuple(
        HeldOut(
            row(result.law, x, k),
            float(y[k]),
            float(predicted[k]),
            float(low[k]) if np.isfinite(low[k]) else None,
            float(high[k]) if np.isfinite(high[k]) else None,
        )
        for k in range(len(y))
    )
    return dataclasses.replace(result, held_out=rows)
