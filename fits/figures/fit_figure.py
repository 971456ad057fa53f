"""A fit as a figure: points, law and band above, residuals below.

Everything drawn is read from one table (`fits.figures.shown`), which is the figure's data.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.engine.objective import objective
from fits.errors import Refused
from fits.figures.plots import (
    CATEGORIES,
    COLUMN_INCHES,
    PAGE_INCHES,
    Figure,
    loss_axis,
    ordered_colours,
    token_axis,
)
from fits.figures.shown import STEP, held_names, short, shown, variable_shown, wide
from fits.result import Band, Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_BANDS: dict[Band, str] = {"curve": "the curve", "new": "new observations"}
MANY_POINTS = 100  # from which marks are small
MANY_ON_A_CURVE = 40  # points of a loss curve from which they are a line
# Tol's muted colours, for more named curves than CATEGORIES has
MUTED = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
)
GREY = GREY
SMALL = 0.005  # residuals, in nats, below which thousandths are the unit


def fit_figure(
    one: Fit, variable: str | None = None, band: Band = "curve", inches: float = COLUMN_INCHES
) -> Figure:
    """A fit over one of its variables, with its band and a panel of residuals.

    variable: of the law, by default that of most values. A few curves hold the others at values
    that the data have. Laws of loss curves are shown over the step, with the learning rate between.
    band: of the `curve`, or for a `new` observation. inches: width, such as COLUMN_INCHES or
    PAGE_INCHES. Raises Refused.
    """
    variable = variable_shown(one, variable)
    data = shown(one, variable, band)
    names = held_names(one, variable)
    return _figure([one], variable, data, ", ".join(names), band, inches)


def fits_figure(
    fits: Sequence[Fit],
    variable: str | None = None,
    band: Band = "curve",
    inches: float = COLUMN_INCHES,
) -> Figure:
    """Fits of one law in one frame, a curve each; otherwise as `fit_figure`.

    Refused: fits of several laws, or a fit whose law is more than one curve.
    """
    import pandas as pd

    if not fits:
        raise Refused("no fits to draw")
    if len({(one.law_name, objective(one.objective).log) for one in fits}) > 1:
        kinds = ", ".join(sorted({f"{one.law_name} by {one.objective}" for one in fits}))
        raise Refused(f"fits of one law and objective share a frame, not {kinds}")
    variable = variable_shown(fits[0], variable)
    parts = []
    for k, one in enumerate(fits):
        part = shown(one, variable, band)
        if part["strand"].nunique() > 1:
            several = ", ".join(held_names(one, variable))
            raise Refused(f"{one.label()} is several curves ({several}): draw it alone")
        parts.append(part.assign(strand=k, shade=k / max(len(fits) - 1, 1), label=_of_group(one)))
    title = ", ".join(fits[0].group) if fits[0].group else ""
    return _figure(fits, variable, pd.concat(parts, ignore_index=True), title, band, inches)


def _of_group(one: Fit) -> str:
    return ", ".join(map(short, one.group.values())) or one.label()


def _figure(
    fits: Sequence[Fit], variable: str, data: "pd.DataFrame", legend: str, band: Band, inches: float
) -> Figure:
    one, law = fits[0], fits[0].law
    heights = [3.0, 0.7, 1.1] if law.rates else [3.0, 1.1]
    unit = next(v.unit for v in law.variables if v.name == variable)
    worst = max(fit.max_relative_error or 0.0 for fit in fits)

    def draw(canvas: "Canvas") -> None:
        panels = canvas.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        upper, lower = panels[0], panels[-1]
        colours = _colours(data)
        x = data[variable]
        if wide(one, variable, x):
            upper.set_xscale("log")
        _law_and_points(upper, data, variable, law.response.name, colours)
        upper.set_ylabel(f"{law.response.name.removesuffix('_nats')} ({law.response.unit})")
        upper.set_title(_title(fits, inches))
        if law.rates:
            _rates(panels[1], data, colours)
        _residuals(lower, data, variable, colours, one, worst)
        lower.set_xlabel(variable if unit in ("1", "steps") else f"{variable} ({unit})")
        _count_axis(lower, x)
        canvas.align_ylabels(panels)
        _legend(canvas, data, colours, legend, inches)

    caption = (
        f"{law.title}: {law.formula} ({law.source}). Lines are the law, dotted where the curve has "
        f"no fitted point; shaded is {100 * one.level:g} % of {_BANDS[band]}. Open marks were held "
        "out, with the interval of a new observation. Below, observed less predicted; shaded is "
        "its root mean square over the fitted points."
    )
    name = one.label() if len(fits) == 1 else one.name or one.law_name
    height = 0.85 * sum(heights) + _legend_inches(data, inches)
    return Figure(name, caption, data, draw, (inches, height))


def _title(fits: Sequence[Fit], inches: float) -> str:
    """Name and group, where there is one, and the formula where it is short."""
    one = fits[0]
    letters = int(11 * inches)
    formula = textwrap.wrap(one.law.formula, letters, break_on_hyphens=False)
    group = [f"{key} {short(value)}" for key, value in one.group.items()]
    parts = [", ".join([one.name or one.law_name, *group])]
    if len(fits) > 1 or not (one.name or group):
        parts = []
    if len(formula) < 3:
        parts += formula
    return "\n".join(parts or textwrap.wrap(one.law.title, letters, break_on_hyphens=False))


def _colours(data: "pd.DataFrame") -> list[Any]:
    """A colour a curve: by name for few named ones, else from dark to light."""
    count = data["strand"].nunique()
    numbers = data["label"].str.match(r"[-\d.]").all()
    names = CATEGORIES if count <= len(CATEGORIES) else MUTED
    if count == 1 or (not numbers and count <= len(names)):
        return list(names[:count])
    return ordered_colours(count)


def _of_points(points: "pd.DataFrame", colours: list[Any]) -> Any:
    """The colour of every point, between those of two curves where the point is."""
    from matplotlib.colors import to_rgba_array

    known = to_rgba_array(colours)
    places = np.linspace(0, 1, len(colours))
    return np.column_stack([np.interp(points["shade"], places, known[:, k]) for k in range(4)])


def _law_and_points(
    axes: "Axes", data: "pd.DataFrame", variable: str, response: str, colours: list[Any]
) -> None:
    points = data[data["kind"] != "curve"]
    curves = data[data["kind"] == "curve"]
    for strand, line in curves.groupby("strand"):
        colour = colours[int(strand)]
        axes.fill_between(
            line[variable], line["low"], line["high"], color=colour, alpha=BAND, linewidth=0
        )
        axes.plot(line[variable], line["predicted"], ":", color=colour, linewidth=pt(0.9))
        inside = line["predicted"].where(line["inside"])
        axes.plot(line[variable], inside, color=colour, linewidth=pt(1.1))
    if _dense(data):
        _traces(axes, points, response, colours, 1.0, linestyle="-", linewidth=pt(3.2), alpha=0.3)
    else:
        _marks(axes, points, variable, response, colours)
    held = points[points["kind"] == "held out"]
    _intervals(axes, held, variable, held["low"], held["high"], colours)
    _loss_limits(axes, data, response)


def _dense(data: "pd.DataFrame") -> bool:
    """Whether points are loss curves logged so often that marks would run together."""
    points = data[data["kind"] != "curve"]
    return "lr" in data and len(points) > MANY_ON_A_CURVE * points["strand"].nunique()


def _loss_limits(axes: "Axes", data: "pd.DataFrame", response: str) -> None:
    """From points and curves; bands show in full unless they would flatten both."""
    low = float(np.nanmin(data[[response, "predicted"]]))
    high = float(np.nanmax(data[[response, "predicted"]]))
    room = high - low or abs(high) or 1.0
    bottom = max(np.nanmin([low, *data["low"]]), low - room)
    top = min(np.nanmax([high, *data["high"]]), high + room)
    if low > 0 and high > 2 * low:
        axes.set_yscale("log")
        axes.set_ylim(max(bottom, low / 1.5) / 1.02, top * 1.02)
        loss_axis(axes)
    else:
        axes.set_ylim(bottom - 0.04 * room, top + 0.04 * room)


def _marks(
    axes: "Axes", points: "pd.DataFrame", x: str, y: str, colours: list[Any], scale: float = 1.0
) -> None:
    """Filled marks for what was fitted, open ones for what was held out."""
    size = 14 if len(points) < MANY_POINTS else 5
    for kind, rows in points.groupby("kind"):
        edge = _of_points(rows, colours)
        look = {"s": size, "facecolors": edge, "linewidths": 0}
        if kind == "held out":
            look = {"s": 1.4 * size, "facecolors": "white", "linewidths": 0.9}
        axes.scatter(rows[x], rows[y] / scale, edgecolors=edge, zorder=3, **look)


def _traces(
    axes: "Axes", points: "pd.DataFrame", y: str, colours: list[Any], scale: float, **look: Any
) -> None:
    """Points of loss curves, too dense for marks, as lines over the step."""
    for (strand, kind), rows in points.groupby(["strand", "kind"]):
        style = ":" if kind == "held out" else "-"
        axes.plot(
            rows[STEP], rows[y] / scale, **{"linestyle": style, "color": colours[strand], **look}
        )


def _intervals(
    axes: "Axes", held: "pd.DataFrame", x: str, low: Any, high: Any, colours: list[Any]
) -> None:
    if 0 < len(held) < MANY_POINTS:
        axes.vlines(held[x], low, high, colors=_of_points(held, colours), linewidth=pt(0.8), zorder=2)


def _residuals(
    axes: "Axes", data: "pd.DataFrame", variable: str, colours: list[Any], one: Fit, worst: float
) -> None:
    """Observed less predicted: in % where the objective is of log loss, else in the loss's unit."""
    log = objective(one.objective).log
    column = "residual_percent" if log else "residual"
    points = data[data["kind"] != "curve"]
    held = points[points["kind"] == "held out"]
    rms = float(np.sqrt(np.mean(points.loc[points["kind"] == "fitted", column] ** 2)))
    largest = max(float(points[column].abs().max()), rms)
    scale = 1e-3 if not log and 0 < largest < SMALL else 1.0
    axes.axhspan(-rms / scale, rms / scale, color="#E4E4E4", linewidth=0, zorder=0)
    axes.axhline(0, color=GREY, linewidth=pt(0.7))
    if _dense(data):
        _traces(axes, points, column, colours, scale, linewidth=pt(0.9))
    else:
        _marks(axes, points, variable, column, colours, scale)
    base = held["predicted"].abs() / 100 if log else scale
    low, high = ((held[end] - held["predicted"]) / base for end in ("low", "high"))
    _intervals(axes, held, variable, low, high, colours)
    limit = 1.2 * largest / scale or 1.0
    axes.set_ylim(-limit, limit)  # an interval far wider than the errors runs out of the frame
    unit = "%" if log else one.law.response.unit.split("/")[0]
    axes.set_ylabel(f"residual\n({'1e-3 ' if scale < 1 else ''}{unit})")
    said = f"rms {rms:.2g} {unit}"
    if len(held):
        said += f"; {'dotted' if _dense(data) else '○'} held out, worst {100 * worst:.2g} %"
    axes.set_title(said, fontsize="x-small", loc="right", pad=2)


def _rates(axes: "Axes", data: "pd.DataFrame", colours: list[Any]) -> None:
    for strand, line in data[data["kind"] == "curve"].groupby("strand"):
        axes.plot(line[STEP], line["lr"], color=colours[int(strand)], linewidth=pt(1.0))
    peak = data["lr"].max()
    axes.set_ylim(0, 1.05 * peak)
    axes.set_yticks([0, peak], ["0", f"{peak:.3g}"])
    axes.set_ylabel("rate")


def _legend(
    canvas: "Canvas", data: "pd.DataFrame", colours: list[Any], title: str, inches: float
) -> None:
    """Outside the panels, where it hides nothing: beside a wide figure, above a narrow one."""
    from matplotlib.lines import Line2D

    labels = data.groupby("strand")["label"].first()
    if len(labels) == 1:
        return
    mark = None if _dense(data) else "o"
    handles = [
        Line2D([], [], color=colours[int(strand)], marker=mark, label=label)
        for strand, label in labels.items()
    ]
    place: dict[str, Any] = {"loc": "outside right upper"}
    if not _is_wide(inches):
        columns = _legend_columns(labels)
        place = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.0}
    canvas.legend(handles=handles, title=title or None, handlelength=1.4, **place)


def _legend_columns(labels: "pd.Series") -> int:
    return 4 if labels.str.len().max() < 10 else 2


def _legend_inches(data: "pd.DataFrame", inches: float) -> float:
    """Height of a legend above the panels."""
    labels = data.groupby("strand")["label"].first()
    if _is_wide(inches) or len(labels) == 1:
        return 0.0
    return 0.16 * (1 + -(-len(labels) // _legend_columns(labels)))


def _is_wide(inches: float) -> bool:
    return inches > (COLUMN_INCHES + PAGE_INCHES) / 2


def _count_axis(axes: "Axes", values: "pd.Series") -> None:
    """Ticks of counts (120 k, 20 B) or of shares."""
    if values.max() > 1e3 or axes.get_xscale() == "log":
        token_axis(axes)
