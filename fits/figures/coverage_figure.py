"""Measured coverage as a figure: a row a method and design, a mark a parameter."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from fits.coverage import ACCEPTED, LEVEL, Coverage
from fits.figures.layout import legend
from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES, FAINT, GREY, MARKS, pt

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LOWEST = 0.75  # share at the left end; lower ones are drawn there


def coverage_figure(rows: Sequence[Coverage]) -> Figure:
    """Shares with binomial error bars (95 %), against what is accepted of a 95 % interval."""
    import pandas as pd

    data = pd.DataFrame([{**asdict(one), "share": one.share} for one in rows])
    data["low"], data["high"] = zip(*(one.error_bar for one in rows), strict=True)
    lines = list(dict.fromkeys(_line(one) for one in rows))
    columns = (False, True)  # parameters, predictions
    names = [list(dict.fromkeys(o.quantity for o in rows if _predicts(o) is k)) for k in columns]

    def draw(canvas: "Canvas") -> None:
        panels = canvas.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        for k, axes in zip(columns, panels, strict=True):
            axes.axvspan(*(100 * end for end in ACCEPTED), color=FAINT, linewidth=0)
            axes.axvline(100 * LEVEL, color=GREY, linewidth=pt(0.8))
            for j, name in enumerate(names[k]):
                own = [one for one in rows if _predicts(one) is k and one.quantity == name]
                at = [lines.index(_line(one)) + 0.13 * (j - (len(names[k]) - 1) / 2) for one in own]
                share = [100 * max(one.share, LOWEST) for one in own]
                below = [
                    max(s - 100 * o.error_bar[0], 0.0) for s, o in zip(share, own, strict=True)
                ]
                above = [
                    max(100 * o.error_bar[1] - s, 0.0) for s, o in zip(share, own, strict=True)
                ]
                place = j + k * len(names[False])  # a look a quantity, in both panels
                colour, mark = CATEGORIES[place % len(CATEGORIES)], MARKS[place % len(MARKS)]
                style = {
                    "fmt": mark,
                    "markersize": pt(3),
                    "elinewidth": pt(0.7),
                    "color": colour,
                }
                axes.errorbar(share, at, xerr=[below, above], label=name, **style)
            axes.set_xlim(100 * LOWEST, 100.5)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(lines)), lines)
        panels[0].set_ylim(len(lines) - 0.4, -0.6)
        for axes in panels:
            for place in range(1, len(lines)):
                axes.axhline(place - 0.5, color="#EEEEEE", linewidth=pt(0.5))
        canvas.supxlabel("intervals that hold the truth (%)")
        legend(canvas)

    sets = min(one.sets for one in rows)
    caption = (
        f"Share of at least {sets} synthetic data sets whose 95 % interval holds the truth, with "
        "binomial error bars; grey: 90 to 98 %. Left: parameters. Right: the law's value and a new "
        "observation at a point held out."
    )
    height = 0.8 + 0.31 * len(lines)
    return Figure("coverage", caption, data, draw, height, 1.15 * height)


def _predicts(one: Coverage) -> bool:
    return one.quantity in ("curve", "new")


def _line(one: Coverage) -> str:
    return f"{one.design}\n{one.objective}, {one.method.removesuffix(', band')}"
