"""Where panels and legends go: by the room that the look leaves, measured in ems of its type.

A page of two columns has 61 ems, a slide 45, one column 29. Panels that stand side by side on a
page stand below each other in a column; a legend stands beside the panels where they keep their
room, else above them: never on them, where it could cover what was measured.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Canvas = Figure | SubFigure

Name = TypeVar("Name")

NARROW = 40.0  # ems of a canvas below which panels are stacked
PANEL_ROOM = 19.0  # ems that a panel keeps beside a legend
FEW = 3  # entries from which a legend is worth a place beside the panels


def ems(canvas: "Canvas") -> float:
    """Width of a canvas in ems of the type in use."""
    import matplotlib as mpl

    inches = canvas.bbox.width / canvas.dpi  # a subfigure's own
    return float(72 * inches / mpl.rcParams["font.size"])


def narrow(canvas: "Canvas") -> bool:
    """Whether panels are to be stacked."""
    return ems(canvas) < NARROW


def abreast(
    canvas: "Canvas", count: int, share: str = "", ratios: Sequence[float] = ()
) -> list[Any]:
    """`count` panels side by side, or below each other on a narrow canvas.

    share: "x", "y" or "xy", axes in common; ratios: widths where they stand side by side.
    """
    common: dict[str, Any] = {"sharex": "x" in share, "sharey": "y" in share, "squeeze": False}
    if narrow(canvas):
        return list(canvas.subplots(count, 1, **common)[:, 0])
    return list(canvas.subplots(1, count, width_ratios=ratios or None, **common)[0])


def halves(canvas: "Canvas", down: bool) -> "list[SubFigure]":
    """Two parts of a canvas, each with a legend of its own: below each other, or side by side."""
    parts: Any = canvas.subfigures(2, 1) if down else canvas.subfigures(1, 2)
    return list(parts)


def across(canvas: "Canvas", most: int, least_ems: float) -> int:
    """How many panels fit side by side, each at least so wide, with room for labels."""
    return max(1, min(most, int((ems(canvas) - 5) // least_ems)))


def grid(
    canvas: "Canvas",
    names: Sequence[Name],
    columns: int,
    sharex: bool = True,
    sharey: bool = True,
) -> "dict[Name, Axes]":
    """Axes by name, in rows of `columns`; places that are left over stay empty.

    A panel above an empty place shows its own ticks.
    """
    down = -(-len(names) // columns)
    every = canvas.subplots(down, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axes in every[len(names) :]:
        axes.set_axis_off()
    for axes in every[max(0, len(names) - columns) : len(names)]:
        axes.tick_params(axis="x", labelbottom=True)
    return dict(zip(names, every, strict=False))


def label_left(canvas: "Canvas", text: str) -> None:
    """A label for every panel that has none to its left."""
    for axes in canvas.axes:
        spec = axes.get_subplotspec()
        if spec is not None and spec.is_first_col():
            axes.set_ylabel(text)


def label_below(canvas: "Canvas", text: str) -> None:
    """A label for every panel that has none below it."""
    for axes in canvas.axes:
        spec = axes.get_subplotspec()
        if spec is not None and spec.is_last_row():
            axes.set_xlabel(text)


def entries(panels: "Iterable[Axes]") -> "tuple[list[Artist], list[str]]":
    """What the panels' legend names: handles and labels, each label once."""
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(str(label), handle)
    return list(found.values()), list(found)


def legend(
    canvas: "Canvas",
    handles: "Sequence[Artist] | None" = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """One legend of a canvas, by default of all its panels, beside them or above."""
    if handles is None or labels is None:
        handles, labels = entries(canvas.axes)
    if not labels:
        return
    widest = max(_entry_ems(one) for one in labels)
    specs = [axes.get_subplotspec() for axes in canvas.axes]
    panels = max(spec.get_gridspec().ncols for spec in specs if spec is not None)
    room = ems(canvas)
    beside = room - max(widest, _text_ems(title or "")) >= PANEL_ROOM * panels
    if beside and len(labels) >= FEW and not narrow(canvas):
        canvas.legend(handles, labels, title=title, loc="outside right upper", alignment="left")
        return
    count = _columns(labels, room)
    # a legend fills its columns from top to bottom; read along rows, order is kept
    turned = [k for j in range(count) for k in range(j, len(labels), count)]
    canvas.legend(
        [handles[k] for k in turned],
        [labels[k] for k in turned],
        title=title,
        loc="outside upper center",
        ncols=count,
    )


def legend_inches(labels: Sequence[str], width: float, title: bool = False) -> float:
    """Height at 8-point type of a legend that stands above panels of this width."""
    rows = -(-len(labels) // _columns(labels, 9 * width)) + title
    return 0.14 * rows + 0.06


def _columns(labels: Sequence[str], room: float) -> int:
    """Most columns that fit; as few as give as many rows."""
    widest = max(_entry_ems(one) for one in labels)
    most = max(1, min(len(labels), int((room - 1) // widest)))
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows)


def _entry_ems(label: str) -> float:
    """Width of an entry: handle, gap, text, and the gap to the next."""
    return 0.875 * (2.0 + 0.5 + 1.2) + _text_ems(label)


def _text_ems(text: str) -> float:
    """Width of the longest line of a text at a legend's size, in ems of the type in use."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans")
    lines = [line for line in text.replace("$", "S").split("\n") if line.strip()]
    widths = [TextPath((0, 0), line, size=1, prop=font).get_extents().width for line in lines]
    return 0.875 * float(np.max(widths)) if widths else 0.0
