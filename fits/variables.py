"""What a law reads, from a table: columns by variable, and learning-rate curves.

A law's variables are a mapping: name -> values [n]; a law of loss curves reads `rates`, n places
on realised learning-rate curves, instead; a law shared by groups also `group`, the group's number.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.columns import with_columns
from fits.errors import Refused
from fits.form import GROUP, RATES, Law
from fits.table import column_values, require_column

if TYPE_CHECKING:
    import pandas as pd

# where a table says which curve a row is on, unless told
CURVE_COLUMNS = ("curve", "schedule", "run")


def read_variables(
    law: Law,
    frame: "pd.DataFrame",
    chosen: Mapping[str, str],
    rates: Any = None,
) -> tuple[dict[str, Any], list[str]]:
    """(variables of every row, notes for the reader). Raises Refused.

    chosen: law's variable -> column. rates: learning-rate curves by name, or a table of them with
    a row a step; without, the rows' own rates are joined by straight lines.
    """
    x: dict[str, Any] = {}
    notes: list[str] = []
    if law.rates:
        from fits.rates import rates_from_table

        curve = chosen.get("curve") or next((c for c in CURVE_COLUMNS if c in frame.columns), None)
        if curve:
            require_column(curve, frame)
        lr = chosen.get("lr", "lr")
        if hasattr(rates, "columns"):  # a table
            rates = with_columns(rates, {"step": chosen["step"], "lr": lr})
        found, said = rates_from_table(frame, curve, chosen["step"], lr, rates)
        x[RATES] = found
        notes += said
    elif rates is not None:
        raise Refused(f"law {law.name} reads no learning-rate curves")
    for one in law.variables:
        if not (law.rates and one.name in ("step", "lr")):
            x[one.name] = column_values(one, frame, chosen[one.name])
    if law.groups:
        x[GROUP] = _group_numbers(law, frame)
    return x, notes


def _group_numbers(law: Law, frame: "pd.DataFrame") -> NDArray[np.float64]:
    require_column(law.per, frame)
    places = {value: k for k, value in enumerate(law.groups)}
    numbers = frame[law.per].map(places)
    strange = frame[law.per][numbers.isna()]
    if len(strange):
        known = ", ".join(map(str, law.groups))
        raise Refused(f"{law.per} {strange.iloc[0]}: no such group was fitted; there are {known}")
    return numbers.to_numpy(np.float64)


def take(x: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Some of the rows."""
    return {name: values[rows] for name, values in x.items()}


def row(law: Law, x: Mapping[str, Any], k: int) -> dict[str, Any]:
    """One row as plain values, for people and JSON."""
    plain: dict[str, Any] = {}
    for name, values in x.items():
        if name == RATES:
            plain["curve"] = values.curves[values.curve[k]].name
            plain["step"] = int(values.step[k])
        elif name == GROUP:
            plain[law.per] = law.groups[int(values[k])]
        else:
            plain[name] = float(values[k])
    return plain


def different(x: Mapping[str, Any]) -> int:
    """How many different points there are."""
    return len(set(points(x).tolist()))


def points(x: Mapping[str, Any]) -> NDArray[np.intp]:
    """The number of each row's point, [n]: the same for rows whose variables are equal."""
    columns: list[list[Any]] = []
    for name, values in x.items():
        if name == RATES:
            columns += [values.curve.tolist(), values.step.tolist()]
        else:
            columns.append(values.tolist())
    numbers: dict[Any, int] = {}
    rows = zip(*columns, strict=True)
    return np.array([numbers.setdefault(one, len(numbers)) for one in rows], np.intp)


def variables_to_dict(x: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON."""
    return {k: v.to_dict() if k == RATES else v.tolist() for k, v in x.items()}


def variables_from_dict(law: Law, tree: Mapping[str, Any]) -> dict[str, Any]:
    """As `variables_to_dict` wrote them. Raises Refused, KeyError, TypeError or ValueError."""
    x: dict[str, Any] = {}
    if law.rates:
        from fits.rates import Rates

        x[RATES] = Rates.from_dict(tree[RATES])
    for one in law.variables:
        if not (law.rates and one.name in ("step", "lr")):
            x[one.name] = finite(tree[one.name])
    if law.groups:
        x[GROUP] = finite(tree[GROUP])
    if len({len(values) for values in x.values()}) > 1:
        raise Refused("not a fit: its columns of data differ in length")
    return x


def finite(values: Any) -> NDArray[np.float64]:
    """An array of finite numbers. Raises ValueError."""
    array = np.array(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("a column of data is not a list of finite numbers")
    return array
