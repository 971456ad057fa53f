"""Width of an interval against what was spent on it: rounds beside orders told beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.figures.plots import CATEGORIES, PAGE_INCHES, Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Floats = NDArray[np.float64]
ABOUT = 1.05  # times the grid's width: as good as it
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


def adaptive_figure(courses: Sequence[Course], smallest: float) -> Figure:
    """Median width over worlds with quartiles, and how many worlds are there, by share of FLOPs.

    smallest: the share of the grid that the size that is read takes, for a mark.
    """
    import pandas as pd

    ways = list(dict.fromkeys(one.way for one in courses))
    rows: list[dict[str, Any]] = []
    for way in ways:
        widths = np.stack([one.at(_FINE) for one in courses if one.way == way])
        quartiles = np.quantile(widths, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
        there = (widths <= ABOUT).mean(axis=0)
        columns = zip(_FINE, *quartiles, there, strict=True)
        names = ("share_of_flops", "width_p25", "width_median", "width_p75", "worlds_there")
        rows += [{"way": way, **dict(zip(names, one, strict=True))} for one in columns]
    data = pd.DataFrame(rows).replace({np.inf: np.nan})

    def draw(canvas: "Canvas") -> None:
        left, right = canvas.subplots(1, 2)
        for way, colour in zip(ways, CATEGORIES, strict=False):
            own = data[data["way"] == way]
            share = 100 * own["share_of_flops"]
            left.step(share, own["width_median"], where="post", color=colour, label=way)
            band = {"step": "post", "color": colour, "alpha": 0.15, "linewidth": 0}
            left.fill_between(share, own["width_p25"], own["width_p75"], **band)
            right.step(share, 100 * own["worlds_there"], where="post", color=colour, label=way)
        left.axhline(1.0, color="#666666", linewidth=0.7, linestyle="--")
        left.set_ylabel("width / width of the whole grid")
        left.set_ylim(bottom=0)
        right.set_ylabel("worlds with the grid's width (%)")
        for axes in (left, right):
            axes.axvline(100 * smallest, color="#666666", linewidth=0.7, linestyle=":")
            axes.set_xlim(0, 102)
            axes.set_xlabel("FLOPs spent (% of the whole grid)")
        right.legend(loc="lower right")

    worlds = len({one.world for one in courses})
    caption = (
        f"Interval of the critical ratio in {worlds} made-up worlds, against the FLOPs spent of "
        "the whole grid. Left: median width, band from first to third quartile, nothing while more "
        "than half of the worlds have an open end. Right: worlds whose width is at most "
        f"{ABOUT:g} times that of the whole grid. Dotted: what the one size that is read takes."
    )
    return Figure("adaptive", caption, data, draw, (PAGE_INCHES, 2.8))
