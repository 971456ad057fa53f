"""`fit`: a law and a table in, a `Fit` out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fits.errors import Refused
from fits.form import RATES, Law
from fits.identify import Identified, at_zero, identify
from fits.interval import Interval
from fits.laws import law as law_named
from fits.objective import Objective
from fits.objective import objective as objective_named
from fits.problem import Problem
from fits.profile import profile_intervals
from fits.result import Fit, HeldOut, few_agree
from fits.shared import label, shared_law
from fits.solve import Solution, solve
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
    covariance_intervals,
    percentile_interval,
    resampling_tail,
    unit_intervals,
)
from fits.variables import different, read_variables, row, take

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["profile", "covariance", "bootstrap", "units", "none"]
CORRELATED = 0.2  # of neighbouring residuals, from which it is said
MAX_IMPROVEMENTS = 3  # times that a profile may find a better fit before the best is taken


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

    columns: law's variable -> column, where they differ. where: rows to use. holdout: rows to
    predict instead (`column op value [and ...]`). objective: see `fits.objective`.

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
    _refuse_options(interval, draws, level)
    rule = objective_named(objective or law.objective)
    if by:
        _require_groups(table, by)
    elif interval == "units":
        raise Refused("interval 'units' needs `by`, the column of the independent unit")
    chosen, notes = resolve_columns(law, table, columns)
    frame, exclusions = rows_to_use(law, table, where)
    x, said = read_variables(law, frame, chosen, rates)
    y = _response(law, rule, frame, chosen[law.response.name])
    kept = np.ones(len(frame), bool)
    if holdout:
        kept = ~rows_where(frame, holdout).to_numpy(bool)
        if kept.all():
            notes.append(f"no row fulfils the hold-out {holdout!r}")
    pinned, bounds, tied = _asked(law, pin, bound, tie)
    problem = Problem(law, take(x, kept), y[kept], rule, pinned, bounds, tied)
    _refuse_too_few(problem, holdout)
    _refuse_starts(problem, starts or {}, near or {})
    units = frame[by][kept].tolist() if by else list(range(int(kept.sum())))
    best, status, intervals, resampled, each, more = _estimate(
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
    _require_groups(table, per)
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
    _require_groups(table, per)
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


# Before the fit ------------------------------------------------------------------------------


def _refuse_options(interval: str, draws: int, level: float) -> None:
    if interval not in get_args(Method):
        raise Refused(f"unknown interval {interval!r}; allowed: {', '.join(get_args(Method))}")
    if not 0 < level < 1:
        raise Refused(f"level {level!r}: must lie between 0 and 1, such as 0.95")
    if interval == "bootstrap" and draws < 2:
        raise Refused(f"draws = {draws}: a bootstrap needs at least 2, better 1000")


def _require_groups(table: "pd.DataFrame", per: str) -> None:
    require_column(per, table)
    if table[per].isna().any():
        raise Refused(f"column {per!r} has {int(table[per].isna().sum())} rows without a value")


def rows_to_use(
    law: Law, table: "pd.DataFrame", where: str | None
) -> tuple["pd.DataFrame", list[str]]:
    """(rows to use, which were left out and why)."""
    exclusions = []
    frame = table[rows_where(table, where)] if where else table
    if len(frame) < len(table):
        exclusions.append(f"{len(table) - len(frame)} rows that are not {where}")
    if "status" in frame.columns:  # before shared rows, which may stand under a diverged run first
        ill = frame["status"].isin(["diverged", "diverged parent"])
        if ill.any():
            exclusions.append(f"{int(ill.sum())} rows of diverged runs")
            frame = frame[~ill]
    frame, repeated = drop_shared_rows(frame)
    if repeated:
        exclusions.append(f"{repeated} rows that repeat states which runs share")
    return frame, exclusions


def _response(law: Law, rule: Objective, frame: "pd.DataFrame", column: str) -> Any:
    response = law.response
    if rule.log:  # which takes the logarithm, of changes of loss too
        response = dataclasses.replace(response, positive=True)
    return column_values(response, frame, column)


def _asked(
    law: Law,
    pin: Mapping[str, float] | None,
    bound: Mapping[str, tuple[float, float]] | None,
    tie: Mapping[str, str] | None,
) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, str]]:
    """What is asked of parameters, checked against the law's."""
    known = ", ".join(law.names)
    for verb, names in (("pin", pin or {}), ("bound", bound or {}), ("tie", tie or {})):
        for name in names:
            if name not in law.names:
                raise Refused(f"law {law.name} has no parameter {name!r} to {verb}; it has {known}")
    pinned = {name: float(value) for name, value in (pin or {}).items()}
    for name, value in pinned.items():
        if not np.isfinite(value):
            raise Refused(f"cannot pin {name} at {value}: it is not a finite number")
    bounds = {}
    for name, (low, high) in (bound or {}).items():
        if name in pinned or name in (tie or {}):
            verb = "pinned" if name in pinned else "tied"
            raise Refused(f"{name} is {verb}: it needs no bounds")
        if not low < high:
            raise Refused(f"bounds of {name}: {low:g} must lie below {high:g}")
        bounds[name] = (float(low), float(high))
    tied = dict(tie or {})
    for name, target in tied.items():
        if target not in law.names or target == name or target in tied or name in pinned:
            raise Refused(
                f"cannot tie {name} to {target!r}: it must be another parameter, itself not tied, "
                f"and {name} not pinned; law {law.name} has {known}"
            )
        if (name in law.linear) != (target in law.linear):
            raise Refused(f"cannot tie {name} to {target}: one enters law {law.name} linearly")
    if len(pinned) + len(tied) >= len(law.names):
        raise Refused(f"no parameter of law {law.name} is left to fit")
    return pinned, bounds, tied


def _refuse_too_few(problem: Problem, holdout: str | None) -> None:
    points, free = len(problem.y), len(problem.free)
    left = " outside the hold-out" if holdout else ""
    if points == 0:
        raise Refused(f"no rows{left} to fit {problem.law.name} to")
    places = different(problem.x)
    if places < free:
        raise Refused(
            f"law {problem.law.name} has {free} free parameters and the table {places} different "
            f"points{left} ({points} rows): it needs at least {free}, or pin some"
        )


def _refuse_starts(
    problem: Problem, starts: Mapping[str, Sequence[float]], near: Mapping[str, float]
) -> None:
    law = problem.law
    for name, values in (*starts.items(), *((name, (value,)) for name, value in near.items())):
        if name not in law.names:
            raise Refused(
                f"law {law.name} has no parameter {name!r}; it has {', '.join(law.names)}"
            )
        if not len(values) or not np.all(np.isfinite(values)):
            raise Refused(f"starts of {name}: {list(values)} must be finite numbers, at least one")
        projected = name in near and name in law.linear  # wherever it starts
        if name in problem.free and problem.by_log(name) and not projected and min(values) <= 0:
            raise Refused(f"start {min(values):g} of {name}: it is a scale and must be positive")
    for name in problem.free:
        if not (near or name in starts or name in law.linear or law.parameter(name).starts):
            raise Refused(f"law {law.name} has no starts of {name}: give `starts` or `near`")
    lacking = [name for name in problem.searched if near and name not in near]
    if lacking:
        raise Refused(f"`near` lacks {', '.join(lacking)}")


# The fit ------------------------------------------------------------------------------------


def _estimate(
    problem: Problem,
    near: Mapping[str, float] | None,
    starts: Mapping[str, Sequence[float]] | None,
    interval: Method,
    draws: int,
    units: list[Any],
    level: float,
) -> tuple[
    Solution,
    Identified,
    dict[str, Interval],
    list[dict[str, float]],
    list[dict[str, float]],
    list[str],
]:
    """(solution, its status, intervals, bootstrap draws, parameters by unit, notes)."""
    best = solve(problem, near, starts)
    if not np.isfinite(best.objective):
        raise Refused(f"law {problem.law.name}: no start ends at a finite objective on these rows")
    for _ in range(MAX_IMPROVEMENTS):
        status = identify(problem, best.params)
        intervals, resampled, each, notes, better = _intervals(
            problem, best, status, interval, draws, units, level
        )
        if better is None:
            break
        again = solve(problem, better)
        best = dataclasses.replace(again, starts=best.starts + 1, agree=1)
    else:
        status = identify(problem, best.params)
        intervals, *_ = _intervals(problem, best, status, "covariance", draws, units, level)
        notes = [*notes, "profiles keep finding better fits: intervals are of the curvature"]
    return best, status, intervals, resampled, each, notes


def _intervals(
    problem: Problem,
    best: Solution,
    status: Identified,
    interval: Method,
    draws: int,
    units: list[Any],
    level: float,
) -> tuple[
    dict[str, Interval],
    list[dict[str, float]],
    list[dict[str, float]],
    list[str],
    dict[str, float] | None,
]:
    """(intervals, bootstrap draws, parameters by unit, notes, a better solution if any)."""

    def none(reason: str, say: bool = True) -> Any:
        gone = {name: Interval(None, None, "none", reason) for name in problem.free}
        return gone, [], [], [f"no intervals: {reason}"] if say else [], None

    if interval == "none":
        return none("not asked for", say=False)
    if status.unidentified:  # ends that a search along a flat valley would find mean nothing
        return none("not identified", say=False)
    different_units = len(set(units))
    if interval == "bootstrap" and different_units >= MIN_BOOTSTRAP_UNITS:
        found = bootstrap(problem, best, units, draws)
        tail = resampling_tail(level, different_units)
        intervals = {name: percentile_interval(found, name, tail=tail) for name in problem.free}
        lost = draws - len(found)
        notes = [f"{lost} of {draws} resamplings have no fit and are left out"] if lost else []
        return intervals, found, [], notes, None
    if interval in ("bootstrap", "units"):
        return _over_units(problem, best, units, level, none, interval)
    if problem.objective.kinked:
        return none(f"objective {problem.objective.name} has no curvature: resample")
    if status.covariance is None or status.rise is None:
        return none(
            "as many parameters as points"
            if len(problem.y) <= len(problem.free)
            else "too few residuals near 0 to know the curvature: resample"
        )
    if interval == "covariance":
        return covariance_intervals(problem, best, status.covariance, level), [], [], [], None
    found_intervals, better = profile_intervals(
        problem, best, level, status.covariance, status.rise
    )
    return found_intervals, [], [], [], better


def _over_units(
    problem: Problem, best: Solution, units: list[Any], level: float, none: Any, asked: Method
) -> Any:
    """t intervals over units, each fitted alone: what few units allow."""
    kinds = list(dict.fromkeys(units))
    zero = [name for name in at_zero(problem, best.params) if name in problem.law.linear]
    near = {name: value for name, value in best.params.items() if name not in zero}
    each = []
    for kind in kinds:
        rows = np.flatnonzero([unit == kind for unit in units])
        part = dataclasses.replace(problem, x=take(problem.x, rows), y=problem.y[rows])
        if different(part.x) < len(problem.free):
            few = "too few to resample, and too small" if asked == "bootstrap" else "too small"
            return none(f"{len(kinds)} units: {few} to fit alone")
        each.append(solve(part, near=near).params)
    if len(kinds) < 2:
        return none("one unit: its noise cannot be measured")
    scales = [name for name in problem.free if problem.by_log(name)]
    intervals = unit_intervals(each, best.params, level, scales)
    notes = []
    if asked == "bootstrap":
        notes = [f"{len(kinds)} units are too few to resample: t intervals over their own fits"]
    return {name: intervals[name] for name in problem.free}, [], each, notes, None


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
