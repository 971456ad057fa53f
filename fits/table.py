"""Tables of losses: read, choose columns, choose rows, refuse what cannot be fitted."""

import io
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.errors import Refused, meant
from fits.files import write_whole
from fits.form import Law, Variable
from fits.plain import plain

if TYPE_CHECKING:
    import pandas as pd

MOST_LISTED = 40  # columns that a refusal names
_ENDINGS = (".csv", ".parquet")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
# a quoted value, an `and`, or one character of anything else
_PIECE = re.compile(r"""(?s)[=<>]\s*(?:'[^']*'|"[^"]*")|\s+and\s+|.""")
_TERM = re.compile(r"(?s)\s*(\S.*?)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*\Z")  # any column's name


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a table of losses, or the logs of a trainer as one. Raises Refused.

    path: a .csv or .parquet; a chart's CSV from Weights & Biases (a column a run becomes a row a
    run and step); a log, or a folder of logs (`fits.logs.runs`: TensorBoard, Weights & Biases, JSON
    lines, Hugging Face), with a row a run and step. What is to be known of logs (values logged
    twice, a file that is cut) is said by `warnings.warn`.
    """
    from fits.logs.runs import read_logs, reader_of
    from fits.logs.wandb import is_chart, unfold_chart

    path = Path(path)
    notes: list[str] = []
    folder = path.is_dir() and path.suffix not in _ENDINGS
    if folder or (reader_of(path.name) and path.exists()):
        frame, notes = read_logs(path)
    else:
        frame = _read_file(path)
        names = [str(name) for name in frame.columns]
        if path.suffix == ".csv" and is_chart(names):
            frame, notes = unfold_chart(frame)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return frame


def _read_file(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if path.suffix not in _ENDINGS and (path.suffix or path.exists()):
        raise Refused(
            f"cannot read {path.name}: a table ends in .csv or .parquet, or is a log, or a folder "
            "of logs (TensorBoard, Weights & Biases, .jsonl, trainer_state.json)"
        )
    if not path.exists():  # pyarrow gives no reason of its own
        raise Refused(f"cannot read {path}: no such file")
    try:
        frame = _read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except Refused:
        raise
    except OSError as error:
        reason = error.strerror or (str(error) or type(error).__name__).splitlines()[0]
        raise Refused(f"cannot read {path}: {reason}") from None
    except Exception as error:  # noqa: BLE001 (each reader raises kinds of its own)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Refused(f"cannot read {path} as a table: {reason}") from None
    if frame.empty:
        raise Refused(f"{path} has no rows")
    if len(frame.columns) == 1 and any(sign in str(frame.columns[0]) for sign in ";\t"):
        raise Refused(
            f"cannot read {path}: one column, {frame.columns[0]!r}; commas must divide it"
        )
    return frame


def _read_csv(path: Path) -> "pd.DataFrame":
    """Without `index_col` pandas takes the first of too many values for a row's name, and all
    others stand one column too far. An empty last value (a comma at the end) is no value."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, index_col=False)
        except pd.errors.ParserWarning:
            raise Refused(
                f"cannot read {path}: rows have more values than the first line has names"
            ) from None


def rows_where(frame: "pd.DataFrame", condition: str) -> "pd.Series[bool]":
    """Rows that fulfil `column op value [and ...]`; parsed, never evaluated. Raises Refused."""
    import pandas as pd

    chosen = pd.Series(True, index=frame.index)
    for term in _terms(condition.strip()):
        match = _TERM.match(term)
        if match is None:
            raise Refused(f"condition {term!r}: must read 'column op value', op one of == != < ...")
        column, comparison, text = match.groups()
        require_column(column, frame)
        value = _value_like(frame[column], text, term)
        try:
            fulfilled = _COMPARE[comparison](frame[column], value)
        except TypeError:
            raise Refused(f"condition {term!r}: {column} holds values without an order") from None
        missing = comparison == "!="  # what NA of a nullable column fulfils: as NaN does
        chosen &= fulfilled.fillna(missing).astype(bool)
    return chosen


def require_column(name: str, frame: "pd.DataFrame") -> None:
    """Raises Refused, naming those there, unless the table has the column."""
    if name not in frame.columns:
        raise Refused(_no_column(name, frame))


def _terms(condition: str) -> list[str]:
    """The condition at each `and` that stands outside quotes."""
    terms = [""]
    for piece in _PIECE.findall(condition):
        if piece.strip() == "and":
            terms.append("")
        else:
            terms[-1] += piece
    return terms


def _value_like(column: "pd.Series[Any]", text: str, term: str) -> Any:
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if column.dtype.kind == "b":
        if bare.lower() not in ("true", "false"):
            raise Refused(f"condition {term!r}: {column.name} is true or false")
        return bare.lower() == "true"
    if column.dtype.kind in "iuf":
        try:
            top, _, bottom = bare.partition("/")
            return float(top) / float(bottom) if bottom else float(top)
        except (ValueError, ZeroDivisionError):
            raise Refused(f"condition {term!r}: {column.name} holds numbers") from None
    return bare


def listed(names: Iterable[Any], wanted: str = "") -> str:
    """Names for a refusal: not more than a line holds, and the one that may have been meant."""
    known = [str(name) for name in names]
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return f"{', '.join(known[:MOST_LISTED])}{more}{meant(wanted, known)}"


def _no_column(name: str, frame: "pd.DataFrame") -> str:
    return f"the table has no column {name!r}; it has {listed(frame.columns, name)}"


def resolve_columns(
    law: Law, frame: "pd.DataFrame", columns: Mapping[str, str] | None, response: bool = True
) -> tuple[dict[str, str], list[str]]:
    """(law's name -> column, what to tell the user). Raises Refused on what is missing.

    A response that is not there by name is taken from the only column that looks like it
    (`loss_*_nats`), and that is said.
    """
    given = dict(columns or {})
    wanted = [*law.variables, *([law.response] if response else [])]
    known = [one.name for one in wanted] + (["curve"] if law.rates else [])
    for name in given:
        if name not in known and name != law.response.name:
            hint = meant(name, known)
            raise Refused(
                f"law {law.name} has no variable {name!r}; it has {', '.join(known)}{hint}"
            )
    chosen = {"curve": given["curve"]} if "curve" in given and law.rates else {}
    notes: list[str] = []
    for one in wanted:
        column = given.get(one.name, one.name)
        if law.rates and one.name == "lr":  # may come as curves instead
            chosen[one.name] = column
            continue
        if column not in frame.columns and one is law.response and one.name not in given:
            alike = [str(c) for c in frame.columns if re.match(r"loss_\w+_nats\Z", str(c))]
            if one.name == "loss_nats" and len(alike) == 1:
                column = alike[0]
                notes.append(f"{one.name} is taken from column {column}")
        if column not in frame.columns:
            called = "" if one.name in given else f" (of another name: --columns {one.name}=NAME)"
            raise Refused(f"law {law.name} needs {one.name}: {_no_column(column, frame)}{called}")
        chosen[one.name] = column
    return chosen, notes


def drop_shared_rows(frame: "pd.DataFrame") -> tuple["pd.DataFrame", int]:
    """The table with each state of a shared segment once, and how many rows that left out.

    Runs that branch off one trunk list the trunk's rows each; counted twice they would look like
    independent evidence.
    """
    keys = [name for name in ("segment", "step", "corpus") if name in frame.columns]
    if "segment" not in keys or "step" not in keys:
        return frame, 0
    kept = frame.drop_duplicates(subset=keys)
    return kept, len(frame) - len(kept)


def column_values(one: Variable, frame: "pd.DataFrame", column: str) -> np.ndarray:
    """A column as float64, checked for what a law can take. Raises Refused naming the row."""
    import pandas as pd

    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        where, value = frame.index[bad[0]], plain(frame[column].iloc[bad[0]])
        mend = "write numbers" if isinstance(value, str) else "leave those rows out"
        if one.positive and not isinstance(value, str):
            above = f"{column} > 0" + (f" and {column} < inf" if np.isinf(values).any() else "")
            mend += f" (--where '{above}')"
        raise Refused(
            f"column {column!r}: {value!r} in row {where} is not a finite number "
            f"({len(bad)} such): {mend}"
        )
    bad = np.flatnonzero(values <= 0) if one.positive else np.array([], int)
    if len(bad):
        where = frame.index[bad[0]]
        raise Refused(
            f"column {column!r}: {values[bad[0]]:g} in row {where}: {one.name} must be positive"
        )
    return values


def write_table(frame: "pd.DataFrame", path: str | Path) -> None:
    """Write a table as .csv or .parquet. Raises Refused, Failed."""
    path = Path(path)
    if path.suffix == ".csv":
        write_whole(path, frame.to_csv(index=False, lineterminator="\n").encode())
    elif path.suffix == ".parquet":
        stream = io.BytesIO()
        frame.to_parquet(stream, index=False)
        write_whole(path, stream.getvalue())
    else:
        raise Refused(f"cannot write {path.name}: a table ends in .csv or .parquet")
