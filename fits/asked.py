"""What a fit is asked, checked before anything is computed: one line says what is wrong."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fits.engine.objective import Objective
from fits.engine.problem import Problem
from fits.errors import Refused, meant
from fits.form import Law
from fits.table import column_values, drop_shared_rows, require_column, rows_where
from fits.variables import different

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["profile", "covariance", "bootstrap", "units", "none"]


def refuse_options(interval: str, draws: int, level: float) -> None:
    """Raises Refused on what no fit can be asked."""
    if interval not in get_args(Method):
        raise Refused(f"unknown interval {interval!r}; allowed: {', '.join(get_args(Method))}")
    if not 0 < level < 1:
        raise Refused(f"level {level!r}: must lie between 0 and 1, such as 0.95")
    if interval == "bootstrap" and draws < 2:
        raise Refused(f"draws = {draws}: a bootstrap needs at least 2, better 1000")


def require_groups(table: "pd.DataFrame", per: str) -> None:
    """Raises Refused unless every row has a value of the column `per`."""
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


def response_values(law: Law, rule: Objective, frame: "pd.DataFrame", column: str) -> Any:
    """What the law predicts, [n], as the objective can take it. Raises Refused."""
    response = law.response
    if rule.log:  # which takes the logarithm, of changes of loss too
        response = dataclasses.replace(response, positive=True)
    return column_values(response, frame, column)


def parameters_asked(
    law: Law,
    pin: Mapping[str, float] | None,
    bound: Mapping[str, tuple[float, float]] | None,
    tie: Mapping[str, str] | None,
) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, str]]:
    """(pinned, bounds, tied), checked against the law's. Raises Refused."""
    known = ", ".join(law.names)
    for verb, names in (("pin", pin or {}), ("bound", bound or {}), ("tie", tie or {})):
        for name in names:
            if name not in law.names:
                raise Refused(
                    f"law {law.name} has no parameter {name!r} to {verb}; it has {known}"
                    f"{meant(name, law.names)}"
                )
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


def refuse_too_few(problem: Problem, holdout: str | None) -> None:
    """Raises Refused where the points cannot fix the free parameters."""
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


def refuse_starts(
    problem: Problem, starts: Mapping[str, Sequence[float]], near: Mapping[str, float]
) -> None:
    """Raises Refused on starts that are none, or lacking ones."""
    law = problem.law
    for name, values in (*starts.items(), *((name, (value,)) for name, value in near.items())):
        if name not in law.names:
            raise Refused(
                f"law {law.name} has no parameter {name!r}; it has {', '.join(law.names)}"
                f"{meant(name, law.names)}"
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
