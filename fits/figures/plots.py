"""Figures: one style, three formats, each with its data.

A figure is a value (name, caption, data, and how to draw it); nothing is drawn until it is saved.
Colours are Okabe & Ito's for categories and cividis for ordered values: both can be told apart
without red and green.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.errors import Refused
from fits.files import write_whole
from fits.result import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FORMATS = ("svg", "pdf", "png")
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLUMN_INCHES = 3.5
PAGE_INCHES = 7.0
_LOSS_TICKS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)  # in every decade

_STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "text.parse_math": False,  # names come from tables: a $ in one is a $
    "svg.hashsalt": "scaling-law-lab",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Figure:
    """A figure to be drawn. `data` holds every number it shows; `draw` fills an empty canvas."""

    name: str
    caption: str
    data: "pd.DataFrame"
    draw: "Callable[[Canvas], None]"
    inches: tuple[float, float] = (PAGE_INCHES, 2.8)

    def render(self, kind: str, seen: "Callable[[Canvas], None] | None" = None) -> bytes:
        """The picture as bytes of one of FORMATS; the same figure gives the same bytes.

        seen: is given the canvas once everything on it has its place.
        """
        from matplotlib.figure import Figure as Canvas

        with style():
            canvas = Canvas(figsize=self.inches)
            self.draw(canvas)
            stream = io.BytesIO()
            dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
            canvas.savefig(stream, format=kind, metadata=dated[kind])
            if seen is not None:
                seen(canvas)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:  # what a notebook shows
        return self.render("png")

    def save(self, path: str | Path) -> None:
        """Write one format, by the path's ending. Raises Refused, Failed."""
        path = Path(path)
        kind = path.suffix.removeprefix(".")
        if kind not in FORMATS:
            endings = ", ".join(f".{one}" for one in FORMATS)
            raise Refused(f"cannot write {path.name}: a figure ends in {endings}")
        write_whole(path, self.render(kind))


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure, while it lasts."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def ordered_colours(count: int) -> list[Any]:
    """Colours for `count` ordered values, dark to light, none too pale for white paper."""
    from matplotlib import colormaps

    return [colormaps["cividis"](x) for x in np.linspace(0.0, 0.88, count)]


def token_axis(axes: "Axes", name: str = "x") -> None:
    """Tick labels such as 120 k, 1.2 M, 20 B; log axes get ticks at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    if (axes.get_xscale() if name == "x" else axes.get_yscale()) == "log":
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        several = high / max(low, 1e-300) > 300
        axis.set_major_locator(LogLocator(subs=(1.0,) if several else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())


def loss_axis(axes: "Axes") -> None:
    """Plain numbers as ticks of a logarithmic loss axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=_LOSS_TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def flop_axis(axes: "Axes") -> None:
    """Ticks 1e18, 1e19, ...: no name is short for these, and figures parse no formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("+", "")))
    axes.xaxis.set_minor_formatter(NullFormatter())


def short_count(value: float) -> str:
    """A count as people write it: 950, 120 k, 1.2 M, 20 B."""
    for limit, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def curves_with_band(
    axes: "Axes",
    frame: "pd.DataFrame",
    x: str,
    y: str,
    by: str,
    label: Callable[[Any], str] = str,
    colours: Sequence[Any] | None = None,
) -> None:
    """A line for each value of `by`: mean of `y` at each `x`, with the range of its units."""
    values = sorted(frame[by].unique())
    shades = list(colours) if colours is not None else ordered_colours(len(values))
    for value, colour in zip(values, shades, strict=True):
        at = frame[frame[by] == value].groupby(x)[y].agg(["mean", "min", "max"])
        axes.plot(at.index, at["mean"], color=colour, label=label(value))
        axes.fill_between(at.index, at["min"], at["max"], color=colour, alpha=0.2, linewidth=0)


def fit_with_band(
    axes: "Axes", one: Fit, variable: str, colour: Any, label: str, marker: str = "o"
) -> None:
    """Points, fitted curve with its band; held-out rows are open marks."""
    x = one.x[variable]
    held = np.array([row.variables[variable] for row in one.held_out])
    every = np.concatenate([x, held])
    line = np.linspace(every.min(), every.max(), 200)
    others = {name: np.full(200, np.median(v)) for name, v in one.x.items() if name != variable}
    middle, low, high = one.band({variable: line, **others}, "curve")
    axes.plot(line, middle, color=colour, linewidth=1.1)
    if np.all(np.isfinite(low)) and np.all(np.isfinite(high)):
        axes.fill_between(line, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, one.y, marker, color=colour, label=label)
    for row, place in zip(one.held_out, held, strict=True):
        axes.plot(place, row.observed, marker, color=colour, markerfacecolor="white")
