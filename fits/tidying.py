"""One table to fit from what was logged: settings joined, columns computed, the last rows kept."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fits.columns import computed, is_arithmetic
from fits.doubts import RUN_COLUMNS
from fits.errors import Refused
from fits.logs.log import STEP_NAMES, some
from fits.table import require_column

if TYPE_CHECKING:
    import pandas as pd


def tidy(
    table: "pd.DataFrame",
    *,
    join: "pd.DataFrame | None" = None,
    columns: Mapping[str, str] | None = None,
    last: str | None = None,
) -> tuple["pd.DataFrame", list[str]]:
    """(the table with what is asked of it, in this order; what was left out). Raises Refused.

    join: a table with a row a run, whose columns are added to the rows of the run (its column
    `run`, else `run_id`, `Name` or `name`); where both have a `step`, to those of the step.
    columns: new columns by name: another column, or arithmetic on columns (`fits.columns`).
    last: a column that tells runs apart; the last row of each is kept, by step, in which everything
    in `columns` has a value (an infinite one is a value).
    """
    said: list[str] = []
    if join is not None:
        table, said = _joined(table, join)
    for name, text in (columns or {}).items():
        if text not in table.columns and not is_arithmetic(text, table):
            require_column(text, table)
        new = table[text] if text in table.columns else computed(text, table)
        table = table.assign(**{name: new})
    if last is not None:
        table, more = _last(table, last, list(columns or {}))
        said += more
    return table, said


def _joined(table: "pd.DataFrame", other: "pd.DataFrame") -> tuple["pd.DataFrame", list[str]]:
    other = _with_run(other, "the joined table")
    table = _with_run(table, "the table")
    keys = ["run", *(["step"] if {"step"} <= set(table.columns) & set(other.columns) else [])]
    table, other = (one.assign(run=one["run"].astype(str)) for one in (table, other))
    what = " and ".join(keys)
    if other.duplicated(keys).any():
        twice = other.loc[other.duplicated(keys), "run"].iloc[0]
        raise Refused(f"the joined table names {what} {twice!r} twice: it must have one row for it")
    both = [str(one) for one in other.columns if one in table.columns and one not in keys]
    if both:
        raise Refused(f"both tables have a column {both[0]!r}: rename or drop one")
    known = set(other["run"])
    lacking = [run for run in table["run"].unique() if run not in known]
    if len(lacking) == table["run"].nunique():
        raise Refused(
            f"no run of the table is in the joined one: {some(lacking)} here, "
            f"{some(other['run'].unique())} there"
        )
    said = []
    if lacking:
        rows = int(table["run"].isin(lacking).sum())
        said.append(f"{rows} rows left out, of runs that the joined table lacks: {some(lacking)}")
    merged = table.merge(other, on=keys, how="inner", validate="many_to_one")
    if merged.empty:
        raise Refused(f"no row of the table has a {what} that the joined one has")
    rest = int((~table["run"].isin(lacking)).sum()) - len(merged)
    if rest:
        said.append(f"{rest} rows left out, of steps that the joined table lacks")
    return merged, said


def _with_run(table: "pd.DataFrame", what: str) -> "pd.DataFrame":
    found = next((name for name in RUN_COLUMNS if name in table.columns), None)
    if found is None:
        raise Refused(
            f"{what} has no column that names runs: it must have one of {', '.join(RUN_COLUMNS)}"
        )
    return table.rename(columns={found: "run"})


def _last(table: "pd.DataFrame", run: str, needed: list[str]) -> tuple["pd.DataFrame", list[str]]:
    require_column(run, table)
    step = next((name for name in STEP_NAMES if name in table.columns), None)
    whole = table.dropna(subset=[run, *needed])
    if whole.empty:
        raise Refused(f"no row has all of {', '.join([run, *needed])}")
    ordered = whole.sort_values(step, kind="stable") if step else whole
    kept = ordered.drop_duplicates(run, keep="last").sort_index()
    lost = [value for value in table[run].dropna().unique() if value not in set(kept[run])]
    said = [f"{len(table) - len(kept)} rows left out that are not the last of a {run}"]
    said[0] += f" (by {step})" if step else " (in the table's order)"
    if lost:
        said.append(f"left out for want of {', '.join(needed)}: {run} {some(map(str, lost))}")
    numbers = kept[needed].select_dtypes("number")
    ill = kept[run][~np.isfinite(numbers.to_numpy(np.float64)).all(axis=1)]
    if len(ill):
        said.append(f"ends with a value that is not finite: {run} {some(map(str, ill))}")
    return kept.reset_index(drop=True), said
