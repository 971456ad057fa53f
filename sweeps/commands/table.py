"""table: what a table or a folder of logs holds, and one table to fit from it."""

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fits.plain import for_json
from fits.table import read_table, write_table

if TYPE_CHECKING:
    import pandas as pd


def read_said(path: str) -> "pd.DataFrame":
    """A table, and what a reader must know of it as lines on standard error. Raises Refused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        frame = read_table(path)
    say([str(one.message) for one in caught])
    return frame


def say(lines: list[str]) -> None:
    """Lines for people, beside the answer."""
    for line in lines:
        print(f"lab: {line}", file=sys.stderr)


def table(told: argparse.Namespace) -> Any:
    """Read, join, compute, keep the last rows; describe the columns, or write the table."""
    from fits.tidying import tidy
    from sweeps.commands.laws import pairs

    frame = read_said(told.source)
    join = read_said(told.join) if told.join else None
    frame, said = tidy(frame, join=join, columns=pairs(told.columns, "--columns"), last=told.last)
    say(said)
    if told.to:
        write_table(frame, Path(told.to))
    columns = [_described(frame, str(name)) for name in frame.columns]
    if not told.json:
        _print(frame, columns, told.to)
    return {"rows": len(frame), "columns": columns, "to": told.to}


def _described(frame: "pd.DataFrame", name: str) -> dict[str, Any]:
    import pandas as pd

    values = frame[name].dropna()
    row: dict[str, Any] = {"column": name, "rows": len(values), "different": values.nunique()}
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    ends = (values.min(), values.max()) if numbers and len(values) else (None, None)
    row |= {"low": for_json(ends[0]), "high": for_json(ends[1])}
    row["first"] = for_json(values.iloc[0]) if len(values) else None
    return row


def _print(frame: "pd.DataFrame", columns: list[dict[str, Any]], to: str | None) -> None:
    wide = max(6, *(len(row["column"]) for row in columns))
    print(f"{'column':<{wide}} {'rows':>8} {'different':>9}  values")
    for row in columns:
        values = f"{row['first']}" if row["rows"] else "none"
        if row["low"] is not None or row["high"] is not None:
            values = f"{_end(row['low'], '-inf')} .. {_end(row['high'], 'inf')}"
        elif row["different"] > 1:
            values += ", ..."
        print(f"{row['column']:<{wide}} {row['rows']:>8,} {row['different']:>9,}  {values}")
    print(f"{len(frame):,} rows" + (f" -> {to}" if to else ""))


def _end(value: Any, open_: str) -> str:
    return open_ if value is None else f"{value:.6g}"
