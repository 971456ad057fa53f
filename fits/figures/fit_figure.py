"""A fit as a figure: points, law and band above, residuals below.

Everything drawn is read from one table (`fits.figures.shown`), which is the figure's data.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.engine.objective import objective
from fits.errors import Refused
from fits.figures.layout import legend, legend_inches
from fits.figures.plots import Figure, held_out_mark
from fits.figures.shown import STEP, held_names, short, shown, variable_shown, wide
from fits.figures.style import (
    BAND,
    CATEGORIES,
    COLUMN_INCHES,
    FAINT,
    GREY,
    MARKS,
    MUTED,
    ordered_colours,
    pt,
)
from fits.figures.ticks import loss_axis, token_axis
from fits.result import Band, Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

_BANDS: dict[Band, str] = {"curve": "the curve", "new": "new observations"}
MANY_POINTS = 100  # from which marks are small
MANY_ON_A_CURVE = 40  # points of a loss curve from which they are a line
SMALL = 0.005  # residuals, in nats, below which thousandths are the unit


def fit_figure(
    one: Fit, variable: str | None = None, band: Band = "curve", columns: int = 1
) -> Figure:
    """A fit over one of its variables, with its band and a panel of residuals.

    variable: of the law, by default that of most values. A few curves hold the others at values
    that the data have. Laws of loss curves are shown over the step, with the learning rate between.
    band: of the `curve`, or for a `new` observation. columns: of a page that it is made for, 1 or
    2. Raises Refused.
    """
    variable = variable_shown(one, variable)
    data = shown(one, variable, band)
    names = held_names(one, variable)
    return _figure([one], variable, data, ", ".join(names), band, columns)


def fits_figure(
    fits: Sequence[Fit],
    variable: str | None = None,
    band: Band = "curve",
    columns: int = 1,
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
    return _figure(fits, variable, pd.concat(parts, ignore_index=True), title, band, columns)


def _with_unit(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} ({unit})"


def _of_group(one: Fit) -> str:
    return ", ".join(map(short, one.group.values())) or one.label()


def _figure(
    fits: Sequence[Fit],
    variable: str,
    data: "pd.DataFrame",
    legend_title: str,
    band: Band,
    columns: int,
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
        upper.set_ylabel(_with_unit(law.response.name.removesuffix("_nats"), law.response.unit))
        if law.rates:
            _rates(panels[1], data, colours)
        _residuals(lower, data, variable, colours, one, worst)
        lower.set_xlabel(variable if unit == "steps" else _with_unit(variable, unit))
        _count_axis(lower, x)
        canvas.align_ylabels(panels)
        handles = _legend_handles(data, colours)
        legend(canvas, handles, [str(one.get_label()) for one in handles], legend_title or None)

    group = ", ".join(f"{key} {short(value)}" for key, value in one.group.items())
    of = f"{group}: " if group and len(fits) == 1 else ""
    caption = (
        f"{of}{law.title}: {law.formula} ({law.source}). Lines are the law, dotted where the curve "
        f"has no fitted point; shaded is {100 * one.level:g} % of {_BANDS[band]}. Open marks were "
        "held out, with the interval of a new observation. Below, observed less predicted; shaded "
        "is its root mean square over the fitted points; dotted, where runs were repeated, the "
        "standard deviation of one."
    )
    name = one.label() if len(fits) == 1 else one.name or one.law_name
    height = 0.72 * sum(heights)
    names = [*data["label"].unique(), "held out"]
    above = legend_inches(names, COLUMN_INCHES, bool(legend_title))
    return Figure(name, caption, data, draw, height, height + above, columns)


def _colours(data: "pd.DataFrame") -> list[Any]:
    """A colour a curve: by name for few named ones, else from dark to light."""
    count = data["strand"].nunique()
    numbers = data["label"].str.match(r"[-\d.]").all()
    names = CATEGORIES if count <= len(CATEGORIES) else MUTED
    if count == 1 or (not numbers and count <= len(names)):
        return list(names[:count])
    return ordered_colours(count)


def _marks_of(data: "pd.DataFrame", colours: list[Any]) -> list[str]:
    """A mark a curve where colours are of names; of ordered ones lightness tells them apart."""
    named = tuple(colours) == CATEGORIES[: len(colours)]
    return [MARKS[k] if named else "o" for k in range(len(colours))]


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
    if not _dense(data):
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
    size = pt(3.7 if len(points) < MANY_POINTS else 2.2) ** 2
    marks = _marks_of(points, colours)
    shape = points["strand"].map(lambda strand: marks[int(strand)])
    for (kind, mark), rows in points.groupby(["kind", shape]):
        edge = _of_points(rows, colours)
        look: dict[str, Any] = {"s": size, "facecolors": edge, "linewidths": 0}
        if kind == "held out":
            look = {"s": 1.4 * size, "facecolors": "white", "linewidths": pt(0.9)}
        axes.scatter(rows[x], rows[y] / scale, marker=mark, edgecolors=edge, zorder=3, **look)


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
        axes.vlines(
            held[x], low, high, colors=_of_points(held, colours), linewidth=pt(0.8), zorder=2
        )


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
    axes.axhspan(-rms / scale, rms / scale, color=FAINT, linewidth=0, zorder=0)
    axes.axhline(0, color=GREY, linewidth=pt(0.7))
    noise = repeats_sd(points, column, _places(one))
    if noise is not None:
        for end in (-noise, noise):
            axes.axhline(end / scale, color=GREY, linewidth=pt(0.7), linestyle=":")
    if _dense(data):
        _traces(axes, points, column, colours, scale, linewidth=pt(0.9))
    else:
        _marks(axes, points, variable, column, colours, scale)
    base = held["predicted"].abs() / 100 if log else scale
    low, high = ((held[end] - held["predicted"]) / base for end in ("low", "high"))
    if _dense(data):
        for strand, end in held.assign(low=low, high=high).groupby("strand"):
            look = {"color": colours[int(strand)], "alpha": BAND, "linewidth": 0}
            axes.fill_between(end[variable], end["low"], end["high"], **look)
    else:
        _intervals(axes, held, variable, low, high, colours)
    limit = 1.2 * largest / scale or 1.0
    axes.set_ylim(-limit, limit)  # an interval far wider than the errors runs out of the frame
    unit = "%" if log else one.law.response.unit.split("/")[0].replace("1", "")
    measure = f"{'1e-3 ' if scale < 1 else ''}{unit}".strip()
    axes.set_ylabel(f"residual\n({measure})" if measure else "residual")
    said = f"rms {rms:.2g} {unit}".strip()
    if noise is not None:
        said += f" (repeats {noise:.2g})"
    if len(held):
        said += f"; {'dotted' if _dense(data) else '○'} worst {100 * worst:.2g} %"
    axes.set_title(said, fontsize="small", loc="right", pad=pt(2))


def _rates(axes: "Axes", data: "pd.DataFrame", colours: list[Any]) -> None:
    for strand, line in data[data["kind"] == "curve"].groupby("strand"):
        axes.plot(line[STEP], line["lr"], color=colours[int(strand)], linewidth=pt(1.0))
    peak = data["lr"].max()
    axes.set_ylim(0, 1.05 * peak)
    axes.set_yticks([0, peak], ["0", f"{peak:.3g}"])
    axes.set_ylabel("rate")


def _places(one: Fit) -> list[str]:
    """Columns in which runs that were repeated are alike."""
    names = [STEP] if one.law.rates else [v.name for v in one.law.variables]
    return [*names, "strand"]  # of its own group or learning-rate curve


def repeats_sd(points: "pd.DataFrame", column: str, places: Sequence[str]) -> float | None:
    """Noise of a run: pooled sd of fitted points at one place, None where no place has two."""
    fitted = points[points["kind"] == "fitted"]
    groups = fitted.groupby(list(places))[column]
    freedom = len(fitted) - groups.ngroups
    if not freedom:
        return None
    return float(np.sqrt(np.sum((fitted[column] - groups.transform("mean")) ** 2) / freedom))


def _legend_handles(data: "pd.DataFrame", colours: list[Any]) -> "list[Line2D]":
    """A handle a curve, where there are several, and one for what was held out."""
    from matplotlib.lines import Line2D

    labels = data.groupby("strand")["label"].first()
    dense = _dense(data)
    marks = ["" if dense else mark for mark in _marks_of(data, colours)]
    handles = []
    if len(labels) > 1:
        handles = [
            Line2D([], [], color=colours[int(k)], marker=marks[int(k)], label=label)
            for k, label in labels.items()
        ]
    if (data["kind"] == "held out").any():
        held = Line2D([], [], color=GREY, linestyle=":", label="held out")
        handles.append(held if dense else held_out_mark())
    return handles


def _count_axis(axes: "Axes", values: "pd.Series") -> None:
    """Ticks of counts (120 k, 20 B) or of shares."""
    if values.max() > 1e3 or axes.get_xscale() == "log":
        token_axis(axes)
