"""What a figure of a fit shows, as one table: the points, and the law as curves through them.

The law of several variables is shown over one of them, as a few curves. Each holds the others at
values that the data have: never at a mean that no run was made at.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.errors import Refused
from fits.form import GROUP, RATES
from fits.result import Band, Fit

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]

CURVE, STEP = "curve", "step"  # places on learning-rate curves: the curve's number, and the step
MAX_CURVES = 6
POINT_COLUMNS = {"kind", "predicted", "low", "high", "residual", "residual_percent"}
CURVE_COLUMNS = {"strand", "label", "shade", "inside", "lr"}
LINE_POINTS = 120
WIDE = 20.0  # ratio of ends from which an axis is logarithmic
MARGIN = 1.02  # how far beyond its points a curve still counts as inside


def shown(one: Fit, variable: str, band: Band) -> "pd.DataFrame":
    """Rows of `kind` fitted, held out and curve, in that order.

    Columns: the law's variables; the response, of points; `predicted`, `low`, `high` (the band of
    curves, a new observation's interval of held-out points, nan where there is none); `residual`,
    observed less predicted, and `residual_percent` of predicted; `strand`, which curve a row is of
    or nearest to, from 0; `label`, the values that a curve holds; `shade`, 0..1 across the curves,
    of a point between two of them too; `inside`, whether a curve has points of its own there.
    """
    import pandas as pd

    fitted, held = _columns(one)
    for name in (POINT_COLUMNS | CURVE_COLUMNS) & {*fitted, one.law.response.name}:
        raise Refused(f"a figure has a column {name!r} of its own: give that variable another name")
    every = {name: np.concatenate([fitted[name], held[name]]) for name in fitted}
    others = tuple(name for name in every if name != variable)
    held_values, strand, shade = _strands(one, every, variable, others)
    points = _points(one, every)
    points["strand"], points["shade"] = strand, shade
    count = len(held_values)
    labels = [_label(one, others, values, held_names(one, variable)) for values in held_values]
    parts = [points]
    for k, values in enumerate(held_values):
        mine = strand == k
        line = _line(one, variable, every[variable], every[variable][mine])
        at = {variable: line, **dict(zip(others, np.tile(values, (len(line), 1)).T, strict=True))}
        predicted, low, high = one.band(_x(one, at), band)
        own = every[variable][mine & (points["kind"] == "fitted").to_numpy()]
        part = pd.DataFrame({**at, "predicted": predicted, "low": low, "high": high})
        part["strand"], part["shade"] = k, k / max(count - 1, 1)
        part["inside"] = _inside(line, own)
        if one.law.rates:
            part["lr"] = _rate_at(one, at)
        parts.append(part.assign(kind="curve"))
    table = pd.concat(parts, ignore_index=True)
    table["label"] = [labels[k] for k in table["strand"]]
    table["inside"] = table["inside"] == True  # noqa: E712 - points have none
    return _named(one, table.replace([np.inf, -np.inf], np.nan))


def variable_shown(one: Fit, asked: str | None) -> str:
    """The variable that a figure is over: that asked for, else that of most values.

    Raises Refused.
    """
    names = [STEP] if one.law.rates else [v.name for v in one.law.variables]
    if asked is None:
        return max(names, key=lambda name: len(np.unique(_columns(one)[0][name])))
    if asked not in names:
        known = ", ".join(names)
        raise Refused(f"law {one.law.name} has no variable {asked!r} to show; it has {known}")
    return asked


def wide(one: Fit, variable: str, values: Any) -> bool:
    """Whether a variable, of counts not of shares or steps, wants a logarithmic axis."""
    unit = next(v.unit for v in one.law.variables if v.name == variable)
    low, high = float(np.min(values)), float(np.max(values))
    return unit not in ("1", "steps") and low > 0 and high > WIDE * low


def held_names(one: Fit, variable: str) -> tuple[str, ...]:
    """Names of what differs between curves: other variables, the group's column, `curve`."""
    fitted, held = _columns(one)
    names = []
    for name in fitted:
        values = np.unique(np.concatenate([fitted[name], held[name]]))
        if name != variable and len(values) > 1:
            names.append(one.law.per if name == GROUP else name)
    return tuple(names)


def short(value: Any) -> str:
    """A value on a label: 1.2 M, 20 B, 0.333, 1e19, or a name as it is."""
    from fits.figures.ticks import short_count

    if not isinstance(value, (int, float, np.number)):
        return str(value)
    number = float(value)
    return f"{number:.3g}".replace("+", "") if number >= 1e15 else short_count(number)


# Places as plain columns, and back ------------------------------------------------------------


def _columns(one: Fit) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """(fitted, held out): variables as plain columns, curves of learning rates by number."""
    fitted: dict[str, Floats] = {}
    for name, values in one.x.items():
        if name == RATES:
            fitted[CURVE], fitted[STEP] = values.curve.astype(float), values.step.astype(float)
        else:
            fitted[name] = values
    told = {name: one.law.per if name == GROUP else name for name in fitted}
    held = {k: np.array([row.variables[name] for row in one.held_out]) for k, name in told.items()}
    if one.law.groups:
        places = {value: k for k, value in enumerate(one.law.groups)}
        held[GROUP] = np.array([places[value] for value in held[GROUP].tolist()], float)
    if one.law.rates:
        number = {curve.name: k for k, curve in enumerate(one.x[RATES].curves)}
        held[CURVE] = np.array([number[name] for name in held[CURVE]], float)
    return fitted, {name: values.astype(float) for name, values in held.items()}


def _x(one: Fit, at: Columns) -> dict[str, Any]:
    """What the law reads at plain columns."""
    x: dict[str, Any] = dict(at)
    if one.law.rates:
        from fits.rates import Rates

        curves = [one.x[RATES].curves[int(k)] for k in x.pop(CURVE)]
        rates = {curve.name: curve.rate for curve in curves}
        x[RATES] = Rates(rates, [curve.name for curve in curves], x.pop(STEP).astype(np.int64))
    return x


def _rate_at(one: Fit, at: Columns) -> Floats:
    curves = one.x[RATES].curves
    places = zip(at[CURVE], at[STEP], strict=True)
    return np.array([curves[int(k)].rate[int(step) - 1] for k, step in places])


def _named(one: Fit, table: "pd.DataFrame") -> "pd.DataFrame":
    """Groups and curves by name, not by number."""
    if one.law.rates:
        table[CURVE] = [one.x[RATES].curves[int(k)].name for k in table[CURVE]]
        table[STEP] = table[STEP].astype(int)
    if one.law.groups:
        table[one.law.per] = [one.law.groups[int(k)] for k in table.pop(GROUP)]
    return table


# Points and curves ----------------------------------------------------------------------------


def _points(one: Fit, every: Columns) -> "pd.DataFrame":
    import pandas as pd

    held = one.held_out
    table = pd.DataFrame(every)
    table.insert(0, "kind", ["fitted"] * one.points + ["held out"] * len(held))
    table[one.law.response.name] = np.append(one.y, [row.observed for row in held])
    law = one.problem.predict(one.params)
    table["predicted"] = np.append(law, [row.predicted for row in held])
    nothing = [np.nan] * one.points
    table["low"] = np.array([*nothing, *(row.low for row in held)], float)
    table["high"] = np.array([*nothing, *(row.high for row in held)], float)
    table["residual"] = table[one.law.response.name] - table["predicted"]
    table["residual_percent"] = 100 * table["residual"] / table["predicted"].abs()
    return table


def _strands(
    one: Fit, every: Columns, variable: str, others: tuple[str, ...]
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """(values of `others` that curves hold [K, others], each point's nearest curve, its shade).

    Few combinations of the others' values are all shown. Of many, those whose losses, at the middle
    of the variable shown, are spread most evenly; other points are shaded by theirs.
    """
    count = len(every[variable])
    table = np.column_stack([every[name] for name in others]) if others else np.zeros((count, 0))
    values, which = np.unique(table, axis=0, return_inverse=True)
    which = which.ravel()
    if one.law.rates or len(values) == 1:  # a line a curve, in the order of the table
        return values, which, which / max(len(values) - 1, 1)
    middle = np.full(len(values), np.median(every[variable]))
    height = one.problem.law.predict(
        one.params, _x(one, {variable: middle, **dict(zip(others, values.T, strict=True))})
    )
    height = np.asarray(height, float)
    if len(values) <= MAX_CURVES:
        order = np.arange(len(values)) if one.law.groups else np.argsort(-height, kind="stable")
        rank = np.argsort(order)[which]
        return values[order], rank, rank / (len(values) - 1)
    wanted = np.linspace(height.max(), height.min(), MAX_CURVES)
    chosen = np.abs(height[None] - wanted[:, None]).argmin(axis=1)
    chosen = chosen[np.diff(chosen, prepend=-1) != 0]  # from the highest curve to the lowest
    nearest = np.abs(height[which][:, None] - height[chosen][None]).argmin(axis=1)
    shade = np.interp(-height[which], -height[chosen], np.linspace(0, 1, len(chosen)))
    return values[chosen], nearest, shade


def _label(one: Fit, others: tuple[str, ...], values: Floats, varying: tuple[str, ...]) -> str:
    parts = []
    for name, value in zip(others, values, strict=True):
        if one.law.rates and name == CURVE:
            parts.append(one.x[RATES].curves[int(value)].name)
        elif name == GROUP:
            parts.append(short(one.law.groups[int(value)]))
        elif name in varying:
            parts.append(short(value))
    return ", ".join(parts)


def _line(one: Fit, variable: str, every: Floats, own: Floats) -> Floats:
    """Where a curve is drawn: over all points, of a learning-rate curve over its own."""
    values = own if one.law.rates else every
    low, high = float(values.min()), float(values.max())
    space = np.geomspace if wide(one, variable, values) else np.linspace
    line = space(low, high, LINE_POINTS)
    line[[0, -1]] = low, high
    return np.unique(np.rint(line)) if one.law.rates else line


def _inside(line: Floats, own: Floats) -> NDArray[np.bool_]:
    if not len(own):
        return np.zeros(len(line), bool)
    low, high = float(own.min()), float(own.max())
    return (line >= min(low / MARGIN, low * MARGIN)) & (line <= max(high / MARGIN, high * MARGIN))
