"""Width of an interval against what was spent on it: rounds beside orders told beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.figures.layout import abreast, legend
from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES, DASHES, GREY, pt

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Floats = NDArray[np.float64]
ABOUT = 1.05  # times the grid's width: as good as it
ADAPTIVE = "adaptive rounds"
_NAMES = ("share_of_flops", "width_p25", "width_median", "width_p75", "worlds_there")
_FINE = np.linspace(0.0, 1.0, 401)


@dataclass(frozen=True)
class Course:
    """One way through one world: (share of the grid's FLOPs, width by that of the whole grid).

    A width holds from its share on; before the first it is infinite.
    """

    way: str
    world: int
    steps: Sequence[tuple[float, float]]

    def at(self, shares: Floats) -> Floats:
        """The width at each share."""
        places = np.array([share for share, _ in self.steps])
        widths = np.array([np.inf, *(width for _, width in self.steps)])
        return np.asarray(widths[np.searchsorted(places, shares, side="right")], np.float64)


def adaptive_figure(
    courses: Sequence[Course], smallest: float, wider: Sequence[Course], wanted: float
) -> Figure:
    """How many worlds have the grid's width, and where rounds towards a wanted width end.

    courses: of the default grid, widths by that of the whole. smallest: the share of the grid that
    the size that is read takes, for a mark. wider: of a grid with more seeds, widths as they are;
    rounds went on until `wanted`.
    """
    import pandas as pd

    ways = list(dict.fromkeys(one.way for one in courses))
    rows: list[dict[str, Any]] = []
    for panel, every in (("default", courses), ("more seeds", wider)):
        for way in ways:
            widths = np.stack([one.at(_FINE) for one in every if one.way == way])
            quartiles = np.quantile(widths, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
            limit = ABOUT if panel == "default" else wanted
            columns = zip(_FINE, *quartiles, (widths <= limit).mean(axis=0), strict=True)
            rows += [
                {"grid": panel, "way": way, **dict(zip(_NAMES, c, strict=True))} for c in columns
            ]
    data = pd.DataFrame(rows).replace({np.inf: np.nan})
    ends = [one.steps[-1] for one in wider if one.way == ADAPTIVE]

    def draw(canvas: "Canvas") -> None:
        left, right = abreast(canvas, 2)
        for way, colour, dash in zip(ways, CATEGORIES, DASHES, strict=False):
            own = data[data["way"] == way]
            here, there = (own[own["grid"] == name] for name in ("default", "more seeds"))
            share = 100 * here["share_of_flops"]
            look = {"where": "post", "color": colour, "linestyle": dash}
            left.step(share, 100 * here["worlds_there"], **look, label=way)
            if way == ADAPTIVE:
                right.plot(*zip(*[(100 * s, w) for s, w in ends], strict=True), "o", color=colour)
                continue
            share = 100 * there["share_of_flops"]
            right.step(share, there["width_median"], **look)
            band = {"step": "post", "color": colour, "alpha": 0.15, "linewidth": 0}
            right.fill_between(share, there["width_p25"], there["width_p75"], **band)
        left.axvline(100 * smallest, color=GREY, linewidth=pt(0.7), linestyle=":")
        left.set_ylabel("worlds there (%)")
        right.axhline(wanted, color=GREY, linewidth=pt(0.7), linestyle="--")
        right.set_ylabel("width of the interval, in R")
        right.set_ylim(0, 4 * wanted)
        for axes in (left, right):
            axes.set_xlim(0, 102)
            axes.set_xlabel("FLOPs spent (% of the whole grid)")
        legend(canvas)

    drawn = len({one.world for one in courses})
    caption = (
        f"Interval of the critical ratio in made-up worlds. Left: of {drawn} worlds, those whose "
        f"width is at most {ABOUT:g} times that of the whole default grid, by the FLOPs spent; "
        "dotted: what the one size that is read takes. Right: a grid with more trunk seeds; dots: "
        f"where rounds until a width of {wanted:g} ended; lines: median over {len(ends)} worlds, "
        "band from first to third quartile, nothing while an end is open in half of them."
    )
    return Figure("adaptive", caption, data, draw, height=2.8, column_height=4.6)
