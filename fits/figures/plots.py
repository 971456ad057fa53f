"""Figures: one style, three formats, each with its data.

A figure is a value (name, caption, data, and how to draw it); nothing is drawn until it is saved,
in a look of `fits.figures.style`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.errors import Refused
from fits.figures.style import BAND, GREY, Look, look, ordered_colours, pt
from fits.files import write_whole
from fits.result import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

FORMATS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class Figure:
    """A figure to be drawn. `data` holds every number it shows; `draw` fills an empty canvas.

    height, column_height: inches on a page's two columns and on one; columns: of a paper, unless
    another look is asked for.
    """

    name: str
    caption: str
    data: "pd.DataFrame"
    draw: "Callable[[Canvas], None]"
    height: float = 2.8
    column_height: float = 2.6
    columns: int = 2

    def size(self, shown: Look | None = None) -> tuple[float, float]:
        """Width and height in inches."""
        shown = shown or look("paper", self.columns)
        own = self.column_height if shown.columns == 1 else self.height
        return shown.width, shown.height or own

    def render(
        self,
        kind: str,
        shown: Look | None = None,
        seen: "Callable[[Canvas], None] | None" = None,
    ) -> bytes:
        """The picture as bytes of one of FORMATS; the same figure gives the same bytes.

        seen: is given the canvas once everything on it has its place.
        """
        from matplotlib.figure import Figure as Canvas

        shown = shown or look("paper", self.columns)
        with shown.applied():
            canvas = Canvas(figsize=self.size(shown))
            self.draw(canvas)
            stream = io.BytesIO()
            dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
            canvas.savefig(stream, format=kind, metadata=dated[kind])
            if seen is not None:
                seen(canvas)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:  # what a notebook shows
        return self.render("png")

    def save(self, path: str | Path, shown: Look | None = None) -> None:
        """Write one format, by the path's ending, in a look (`fits.figures.style.look`).

        Raises Refused, Failed.
        """
        path = Path(path)
        refuse_ending(path)
        write_whole(path, self.render(path.suffix.removeprefix("."), shown))


def refuse_ending(path: Path) -> None:
    """Refused, unless the path ends in one of FORMATS."""
    if path.suffix.removeprefix(".") not in FORMATS:
        endings = ", ".join(f".{one}" for one in FORMATS)
        raise Refused(f"cannot write {path.name}: a figure ends in {endings}")


def curves_with_band(
    axes: "Axes",
    frame: "pd.DataFrame",
    x: str,
    y: str,
    by: str,
    label: Callable[[Any], str] = str,
) -> None:
    """A line for each value of `by`: mean of `y` at each `x`, with the range of its units."""
    values = sorted(frame[by].unique())
    for value, colour in zip(values, ordered_colours(len(values)), strict=True):
        at = frame[frame[by] == value].groupby(x)[y].agg(["mean", "min", "max"])
        axes.plot(at.index, at["mean"], color=colour, label=label(value))
        axes.fill_between(at.index, at["min"], at["max"], color=colour, alpha=BAND, linewidth=0)


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
    axes.plot(line, middle, color=colour, linewidth=pt(1.1))
    if np.all(np.isfinite(low)) and np.all(np.isfinite(high)):
        axes.fill_between(line, low, high, color=colour, alpha=BAND, linewidth=0)
    axes.plot(x, one.y, marker, color=colour, label=label)
    seen = [row.observed for row in one.held_out]
    axes.plot(held, seen, marker, color=colour, markerfacecolor="white", zorder=3)


def held_out_mark(marker: str = "o", label: str = "held out") -> "Line2D":
    """What a legend shows for marks that took no part in a fit: hollow ones."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"linestyle": "none", "color": GREY, "markerfacecolor": "white"}
    return Line2D([], [], marker=marker, label=label, **look)
