"""`fit`: a law and a table in, a `Fit` out."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fits.errors import Refused
from fits.form import Law, Objective
from fits.laws import law as law_named
from fits.result import Fit, HeldOut, Interval
from fits.solve import Problem, Solution, solve
from fits.table import (
    column_values,
    drop_shared_rows,
    require_column,
    resolve_columns,
    rows_where,
)
from fits.uncertainty import (
    MIN_BOOTSTRAP_UNITS,
    bootstrap,
    percentile_interval,
    profile_interval,
)

if TYPE_CHECKING:
    import pandas as pd

ILL_CONDITIONED = 1e7  # of the column-scaled Jacobian: beyond it the numbers are a matter of taste
ROUNDING = 1e-9  # of the response: a parameter that moves it by less has no influence
FEW_AGREE = 0.1


def fit(
    law: str | Law,
    table: "pd.DataFrame",
    *,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    objective: Objective | None = None,
    pin: Mapping[str, float] | None = None,
    bootstrap_draws: int = 0,
    profile: bool = True,
    near: Mapping[str, float] | None = None,
    by: str | None = None,
    level: float = 0.95,
    group: Mapping[str, Any] | None = None,
    name: str = "",
) -> Fit:
    """Fit a law to a table of losses.

    columns: law's variable -> column, where they differ. where: rows to use. holdout: rows to
    predict instead (`column op value [and ...]`). pin: parameters kept at a value. near:
    parameters to start from, instead of all the law's starts. bootstrap_draws: intervals by refits
    of resampled units; `by` names the column of the independent unit (a row each by default).
    Without it, intervals are profiles (of squares, unless `profile` is off), or none and said so.
    Raises Refused, naming what is wrong.
    """
    law = law_named(law) if isinstance(law, str) else law
    objective = objective or law.objective
    if objective not in get_args(Objective):
        raise Refused(f"unknown objective {objective!r}; known: {', '.join(get_args(Objective))}")
    if not 0 < level < 1:
        raise Refused(f"level {level!r}: must lie between 0 and 1, such as 0.95")
    if by:
        require_column(by, table)
    pinned = _pinned(law, pin)
    chosen, notes = resolve_columns(law, table, columns)
    frame = table[rows_where(table, where)] if where else table
    if "status" in frame.columns:  # before shared rows, which may stand under a diverged run first
        ill = frame["status"].isin(["diverged", "diverged parent"])
        if ill.any():
            notes.append(f"{int(ill.sum())} rows of diverged runs are left out")
            frame = frame[~ill]
    frame, shared = drop_shared_rows(frame)
    if shared:
        notes.append(f"{shared} rows repeat states that runs share; each is counted once")
    x = {one.name: column_values(one, frame, chosen[one.name]) for one in law.variables}
    response = law.response
    if objective == "huber-log":  # which takes the logarithm, of changes of loss too
        response = dataclasses.replace(response, positive=True)
    y = column_values(response, frame, chosen[response.name])
    kept = np.ones(len(frame), bool)
    if holdout:
        kept = ~rows_where(frame, holdout).to_numpy(bool)
        if kept.all():
            notes.append(f"no row fulfils the hold-out {holdout!r}")
    problem = Problem(law, {k: values[kept] for k, values in x.items()}, y[kept], objective, pinned)
    _refuse_too_few(problem, holdout)
    best = solve(problem, near)
    if not np.isfinite(best.objective):
        raise Refused(f"law {law.name}: no start ends at a finite objective on these rows")
    trade_off = _trade_off(problem, best)
    notes += [*_warnings(problem, best), *([trade_off] if trade_off else [])]
    units = list(frame[by][kept]) if by else list(range(int(kept.sum())))
    if trade_off:  # ends that a search along a flat valley would find mean nothing
        intervals = _no_intervals(problem, "not identified")
        draws: list[dict[str, float]] = []
    else:
        intervals, draws, said = _intervals(problem, best, units, bootstrap_draws, profile, level)
        notes += said
    result = Fit(
        law_name=law.name,
        params={key: best.params[key] for key in law.names},
        intervals=intervals,
        objective=objective,
        objective_value=best.objective,
        starts=best.starts,
        agree=best.agree,
        x=dict(problem.x),
        y=problem.y,
        pinned=pinned,
        group=dict(group or {}),
        name=name,
        level=level,
        draws=tuple(draws),
        notes=tuple(notes),
    )
    return _with_held_out(result, {k: values[~kept] for k, values in x.items()}, y[~kept])


def fit_groups(law: str | Law, table: "pd.DataFrame", per: str, **options: Any) -> list[Fit]:
    """`fit` once for each value of the column `per`. Raises Refused."""
    require_column(per, table)
    if table[per].isna().any():
        raise Refused(f"column {per!r} has {int(table[per].isna().sum())} rows without a value")
    fits = []
    for value, rows in table.groupby(per, sort=True):
        try:
            fits.append(fit(law, rows, group={per: value}, **options))
        except Refused as refusal:
            raise Refused(f"{per} {value}: {refusal}") from None
    return fits


def _pinned(law: Law, pin: Mapping[str, float] | None) -> dict[str, float]:
    pinned = {}
    for name, value in (pin or {}).items():
        if name not in law.names:
            raise Refused(
                f"law {law.name} has no parameter {name!r} to pin; it has {', '.join(law.names)}"
            )
        pinned[name] = float(value)
        if not np.isfinite(pinned[name]):
            raise Refused(f"cannot pin {name} at {value}: it is not a finite number")
    if len(pinned) == len(law.names):
        raise Refused(f"every parameter of law {law.name} is pinned: nothing is left to fit")
    return pinned


def _refuse_too_few(problem: Problem, holdout: str | None) -> None:
    points, free = len(problem.y), len(problem.free)
    places = len(set(zip(*(values.tolist() for values in problem.x.values()), strict=True)))
    left = " outside the hold-out" if holdout else ""
    if points == 0:
        raise Refused(f"no rows{left} to fit {problem.law.name} to")
    if places < free:
        raise Refused(
            f"law {problem.law.name} has {free} free parameters and the table {places} different "
            f"points{left} ({points} rows): it needs at least {free}, or pin some"
        )


def _warnings(problem: Problem, best: Solution) -> list[str]:
    """What a reader must know about a solution."""
    notes: list[str] = []
    for name in problem.searched:
        own = problem.law.parameter(name)
        for bound in (own.low, own.high):
            if np.isfinite(bound) and abs(best.params[name] - bound) <= 1e-6 * max(1, abs(bound)):
                notes.append(f"{name} sits at its bound {bound:g}")
    for name in problem.linear:
        if problem.law.parameter(name).low == 0.0 and best.params[name] < 1e-9:
            notes.append(f"{name} sits at its bound 0")
    if best.starts > 1 and best.agree <= max(1, FEW_AGREE * best.starts):
        notes.append(f"only {best.agree} of {best.starts} starts agree: there may be a better fit")
    return notes


def _trade_off(problem: Problem, best: Solution) -> str | None:
    """Why the parameters are not identified by these points, or None."""
    jacobian = problem.jacobian(best.params, problem.free)
    size = np.linalg.norm(jacobian, axis=0)
    reach = size * [max(1.0, abs(best.params[name])) for name in problem.free]
    if not np.all(np.isfinite(size)) or np.any(reach <= ROUNDING * np.linalg.norm(problem.y)):
        return "not identified: a parameter has no influence on these points"
    condition = float(np.linalg.cond(jacobian / size))
    if condition > ILL_CONDITIONED:
        return (
            f"not identified: parameters trade off against each other (condition {condition:.1g})"
        )
    return None


def _intervals(
    problem: Problem,
    best: Solution,
    units: list[Any],
    draws: int,
    profile: bool,
    level: float,
) -> tuple[dict[str, Interval], list[dict[str, float]], list[str]]:
    if draws > 0:
        different = len(set(units))
        if different < MIN_BOOTSTRAP_UNITS:
            reason = f"{different} units: too few to resample (at least {MIN_BOOTSTRAP_UNITS})"
            return _no_intervals(problem, reason), [], [reason]
        found = bootstrap(problem, best, units, draws)
        each = {name: percentile_interval(found, name, level) for name in problem.free}
        return each, found, []
    if not profile:
        return _no_intervals(problem, "not asked for"), [], []
    if problem.objective == "squares":
        each = {name: profile_interval(problem, best, name, level) for name in problem.free}
        return each, [], []
    reason = "no intervals: resample (--bootstrap) for this objective"
    return _no_intervals(problem, reason), [], [reason]


def _no_intervals(problem: Problem, reason: str) -> dict[str, Interval]:
    return {name: Interval(None, None, "none", reason) for name in problem.free}


def _with_held_out(result: Fit, x: dict[str, Any], y: Any) -> Fit:
    if len(y) == 0:
        return result
    predicted, low, high = result.band(x, new=True)
    rows = tuple(
        HeldOut(
            {name: float(values[k]) for name, values in x.items()},
            float(y[k]),
            float(predicted[k]),
            float(low[k]) if np.isfinite(low[k]) else None,
            float(high[k]) if np.isfinite(high[k]) else None,
        )
        for k in range(len(y))
    )
    return dataclasses.replace(result, held_out=rows)
