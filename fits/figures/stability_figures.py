"""Figures of the stability gap: the curves behind the switch, the dips, what each arm trades."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from fits.dip_arms import ALL, BEST, CLEAN, MIXED, PLAIN, SAME, SUBSET, SUBSET_BEST
from fits.dips import Measured, Of
from fits.figures.layout import abreast, label_below, legend
from fits.figures.plots import Figure
from fits.figures.style import BAND, CATEGORIES, DASHES, MARKS, pt
from fits.figures.ticks import step_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SHOWN = (PLAIN, SUBSET, SUBSET_BEST, MIXED, ALL, SAME)
_COLOURS = dict(zip(SHOWN, (*CATEGORIES[:5], CATEGORIES[6]), strict=True))
_MARKS = {
    **{arm: (_COLOURS[arm], mark) for arm, mark in zip(SHOWN, MARKS, strict=False)},
    BEST: (_COLOURS[SUBSET_BEST], "<"),
    CLEAN: (CATEGORIES[5], "X"),
}
_MEASURES: dict[Of, str] = {"accuracy": "accuracy", "loss_nats": "loss (nats/token)"}


def curve_figure(m: Measured) -> Figure:
    """Accuracy (above) and loss (below) on both texts from the switch on, by arm."""
    texts = {"general": m.general, "domain": m.domain}
    parts = []
    for of in _MEASURES:
        for text, corpus in texts.items():
            for arm in SHOWN:
                grouped = m.curve(arm, corpus, of).groupby("step")["value"]
                one = grouped.agg(["mean", "min", "max"]).reset_index()
                parts.append(one.assign(measure=of, text=text, arm=arm))
    data = pd.concat(parts, ignore_index=True)

    def draw(canvas: "Canvas") -> None:
        panels = canvas.subplots(2, 2, sharex=True)
        for line, (of, label) in zip(panels, _MEASURES.items(), strict=True):
            for axes, (text, corpus) in zip(line, texts.items(), strict=True):
                for (arm, colour), dash in zip(_COLOURS.items(), DASHES, strict=False):
                    rows = data[(data["arm"] == arm) & (data["text"] == text)]
                    rows = rows[rows["measure"] == of]
                    axes.plot(rows["step"], rows["mean"], color=colour, linestyle=dash, label=arm)
                    axes.fill_between(
                        rows["step"], rows["min"], rows["max"], color=colour, alpha=BAND,
                        linewidth=0,
                    )  # fmt: skip
                step_axis(axes)
                for k in range(1, m.passes):
                    axes.axvline(k * m.first, color="black", linewidth=pt(0.5), linestyle=":")
                if of == "accuracy":
                    axes.set_title(f"{text} text: {corpus}")
            line[0].set_ylabel(label)
        canvas.supxlabel("steps since the switch")
        legend(canvas)

    caption = (
        "Accuracy of the next token and loss on general text and on clean text of the domain: mean "
        "over trunk seeds and their range. Step 0 is the state before the switch; dotted lines: "
        "a pass ends, and repeated arms read its windows again."
    )
    return Figure("curves", caption, data, draw, 4.4, 4.2)


def gap_figure(dips: pd.DataFrame) -> Figure:
    """Depth of the dip in accuracy by arm, on both texts, with its interval.

    dips: `fits.dips.dip_table`.
    """
    rows = dips[dips["measure"] == "accuracy"]
    arms = list(dict.fromkeys(rows["arm"]))

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, 2, "y")
        for axes, text in zip(panels, ("general", "domain"), strict=True):
            mine = rows[rows["text"] == text].set_index("arm")
            for place, arm in enumerate(arms):
                row = mine.loc[arm]
                axes.plot(100 * row["depth"], place, "o", color=CATEGORIES[0])
                axes.hlines(
                    place, 100 * row["depth low"], 100 * row["depth high"], color=CATEGORIES[0]
                )
                axes.annotate(
                    _return(row), (1.02, place), xycoords=("axes fraction", "data"), va="center",
                    fontsize="small",
                )  # fmt: skip
            axes.axvline(0.0, color="black", linewidth=pt(0.7))
            axes.set_yticks(range(len(arms)), arms)
            axes.set_title(f"{text} text")
        panels[0].invert_yaxis()
        label_below(canvas, "points of accuracy lost")

    caption = (
        "How far accuracy falls at first, by arm: mean over trunk seeds with 95 % t intervals "
        "(left of 0: it never fell below its start), and the step by which half of that was back, "
        "where all seeds came so far."
    )
    return Figure("depths", caption, rows, draw, 2.6, 4.6)


def trade_figure(ends: pd.DataFrame) -> Figure:
    """Loss at the end on the domain against that on general text, a mark an arm.

    ends: `fits.dips.end_table`.
    """
    data = ends.pivot_table(index="arm", columns="text", values="loss", sort=False).reset_index()

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        for _, row in data.iterrows():
            colour, mark = _MARKS[row["arm"]]
            axes.plot(
                row["domain"],
                row["general"],
                mark,
                color=colour,
                label=row["arm"],
                markersize=pt(5),
            )
        axes.margins(0.1)
        legend(canvas)
        axes.set_xlabel("loss on the domain (nats/token)")
        axes.set_ylabel("loss on general text\n(nats/token)")

    caption = "Both losses of the last state by arm, means over trunk seeds: lower left is better."
    return Figure("trade", caption, data, draw, column_height=3.0, columns=1)


def _return(row: "pd.Series[Any]") -> str:
    """When half of a dip was back, in words."""
    if row["dips"] == 0:
        return "no dip"
    if row["not back"]:
        return f"not back: {row['not back']} of {row['dips']}"
    return f"half back at {row['back']:.0f}"
