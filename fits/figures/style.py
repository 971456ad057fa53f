"""The look of every figure: sizes, type, colours, marks and dashes, in one place.

A look is made for one way of being read: `paper` is drawn at the width of one or of two columns
of a page with type of 8 points, `talk` fills a 16:9 slide with type twice as large. Nothing is
scaled afterwards, so a figure goes into a text at its own size. Lengths in points that a figure
asks for are given for 8-point type and grow with the type (`pt`).

Colours are Okabe & Ito's for categories (jfly.uni-koeln.de/color) and cividis for ordered values
(Nunez, Anderton & Renslow 2018, doi 10.1371/journal.pone.0199239): both can be told apart without
red and green. Categories differ by mark or by dash as well, so that they can be told in grey.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fits.errors import Refused

CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
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
MARKS = ("o", "s", "D", "^", "v", "P", "X")  # of CATEGORIES, in their order
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.2)),
    (0, (1, 1)),
    (0, (6, 1.2, 1, 1.2)),
    (0, (2, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
)
GREY = "#666666"  # lines that are no data: zero, tolerances, ends of a grid
FAINT = "#E4E4E4"  # areas that are no data
BAND = 0.18  # how opaque an interval's band is
PALEST = 0.88  # where cividis ends on white paper

COLUMN_INCHES = 3.25
PAGE_INCHES = 6.75
SLIDE_INCHES = (10.0, 5.6)
STYLES = ("paper", "talk")
BASE_POINTS = 8.0


@dataclass(frozen=True)
class Look:
    """What a figure is drawn for. `height` None: as high as the figure asks at that width."""

    style: str
    columns: int
    width: float
    height: float | None
    type_points: float

    @contextmanager
    def applied(self) -> Iterator[None]:
        """matplotlib's settings of this look, while it lasts."""
        import matplotlib as mpl

        with mpl.rc_context(_settings(self.type_points)):
            yield


def look(style: str = "paper", columns: int | None = None) -> Look:
    """`paper` of 1 or 2 columns (by default 2), or `talk`, a slide, which has none. Refused."""
    if style not in STYLES:
        raise Refused(f"unknown style {style!r}; allowed: {', '.join(STYLES)}")
    if style == "talk":
        if columns is not None:
            raise Refused("a talk has no columns: they are of style paper")
        return Look(style, 2, *SLIDE_INCHES, 16.0)
    if columns not in (None, 1, 2):
        raise Refused(f"columns {columns}: a paper has 1 or 2")
    return Look(
        style, columns or 2, COLUMN_INCHES if columns == 1 else PAGE_INCHES, None, BASE_POINTS
    )


def pt(points: float) -> float:
    """A length at 8-point type, in points at the type in use."""
    import matplotlib as mpl

    return float(points * mpl.rcParams["font.size"] / BASE_POINTS)


def ordered_colours(count: int) -> list[Any]:
    """Colours for `count` ordered values, dark to light, none too pale for white paper."""
    from matplotlib import colormaps

    return [colormaps["cividis"](x) for x in np.linspace(0.0, PALEST, count)]


def _settings(points: float) -> dict[str, Any]:
    """Text is 8 and 7 points on paper; a line of data is twice a frame's, on paper 1.3 points.

    Fonts: DejaVu Sans, which comes with matplotlib, so that every machine gives the same bytes. In
    SVG, text is drawn as paths: a page that lacks the font would set other widths, and labels would
    overlap. PDF embeds the font (42: TrueType, as journals ask), so that its text can be searched.
    """
    scale = points / BASE_POINTS
    small = 7.0 * scale
    return {
        "font.family": "DejaVu Sans",
        "font.size": points,
        "figure.titlesize": points,
        "figure.labelsize": points,
        "axes.titlesize": points,
        "axes.labelsize": points,
        "legend.fontsize": small,
        "legend.title_fontsize": small,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "axes.titlepad": 4.0 * scale,
        "axes.labelpad": 2.5 * scale,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#DDDDDD",
        "grid.linewidth": 0.5 * scale,
        "axes.axisbelow": True,
        "axes.linewidth": 0.7 * scale,
        "xtick.major.width": 0.7 * scale,
        "ytick.major.width": 0.7 * scale,
        "xtick.major.size": 3.0 * scale,
        "ytick.major.size": 3.0 * scale,
        "xtick.minor.width": 0.5 * scale,
        "ytick.minor.width": 0.5 * scale,
        "xtick.minor.size": 1.8 * scale,
        "ytick.minor.size": 1.8 * scale,
        "xtick.major.pad": 2.5 * scale,
        "ytick.major.pad": 2.5 * scale,
        "lines.linewidth": 1.3 * scale,
        "lines.markersize": 4.0 * scale,
        "lines.markeredgewidth": 0.9 * scale,
        "legend.frameon": False,
        "legend.handlelength": 2.0,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.2,
        "legend.labelspacing": 0.35,
        "legend.borderpad": 0.2,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.05 * scale,
        "figure.constrained_layout.h_pad": 0.05 * scale,
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "text.parse_math": False,  # names come from tables: a $ in one is a $
        "svg.hashsalt": "scaling-law-lab",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
