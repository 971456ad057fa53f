"""Figures of re-warming: losses along a continuation, what replay buys, the law and what came."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fits.figures.layout import abreast, halves, label_below, label_left, legend
from fits.figures.plots import Figure
from fits.figures.style import BAND, CATEGORIES, MARKS, ordered_colours, pt
from fits.figures.ticks import step_axis
from fits.rewarm import Measured
from fits.rewarm_arms import CONSTANT, LENGTHS, PEAKS, STRONG, UNSEEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from fits.rewarm_law import OfText


def rate_figure(m: Measured) -> Figure:
    """Both losses over the continuation, by peak (above) and by length of the rewarm (below)."""
    by_peak = {"constant": CONSTANT, **{f"peak x {p:g}": arm for p, arm in sorted(PEAKS.items())}}
    by_length = {f"{100 * s:g} %": arm for s, arm in sorted(LENGTHS.items())}
    texts = {"old text": m.general, "new text": m.texts[STRONG]}
    parts = []
    for rows, arms in (("peak", by_peak), ("length", by_length)):
        for label, arm in arms.items():
            for what, corpus in texts.items():
                curve = m.curve(arm, corpus).groupby("step")["loss_nats"]
                one = curve.agg(["mean", "min", "max"]).reset_index()
                parts.append(one.assign(by=rows, label=label, text=what))
    data = pd.concat(parts, ignore_index=True)

    def draw(canvas: "Canvas") -> None:
        kinds = (("peak", by_peak, "rewarm to"), ("length", by_length, "rewarm over"))
        for half, (by, arms, title) in zip(halves(canvas, down=True), kinds, strict=True):
            panels = half.subplots(1, 2, sharex=True)
            for axes, what in zip(panels, texts, strict=True):
                looks = zip(arms, ordered_colours(len(arms)), MARKS, strict=False)
                for label, colour, mark in looks:
                    rows = data[(data["by"] == by) & (data["label"] == label)]
                    rows = rows[rows["text"] == what]
                    axes.plot(
                        rows["step"], rows["mean"], marker=mark, markersize=pt(2.5), color=colour,
                        label=label,
                    )  # fmt: skip
                    axes.fill_between(
                        rows["step"], rows["min"], rows["max"], color=colour, alpha=BAND,
                        linewidth=0,
                    )  # fmt: skip
                step_axis(axes)
                axes.set_title(f"{what}: {texts[what]}")
            panels[0].set_ylabel("loss (nats/token)")
            if by == "length":
                half.supxlabel("steps since the transfer")
            legend(half, title=title)

    caption = (
        "Loss on the trunk's text and on the new one over the continuation: mean over trunk seeds "
        "and their range. Above by the peak that the rate is warmed to again, in units of the "
        "trunk's; below by the length of the rewarm, as a share of the continuation."
    )
    return Figure("losses_by_rewarm", caption, data, draw, 4.4, 5.0)


def replay_figure(table: pd.DataFrame, unions: Mapping[str, tuple[float, float]]) -> Figure:
    """Old loss against new loss by share of replay, a panel a shift, with the union's run.

    table: `fits.rewarm.replay_table`; unions: shift -> (old, new) loss.
    """
    shifts = list(dict.fromkeys(table["shift"]))

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, len(shifts))
        for axes, shift in zip(panels, shifts, strict=True):
            rows = table[table["shift"] == shift].sort_values("replay")
            axes.errorbar(
                rows["new text"], rows["old text"], xerr=rows["new text sd"].fillna(0.0),
                yerr=rows["old text sd"].fillna(0.0), fmt="o-", color=CATEGORIES[0],
                linewidth=pt(1.0), elinewidth=pt(0.8),
            )  # fmt: skip
            for _, row in rows.iterrows():
                axes.annotate(
                    f"{100 * row['replay']:g} %", (row["new text"], row["old text"]),
                    textcoords="offset points", xytext=(pt(5), pt(4)), fontsize="small",
                )  # fmt: skip
            if shift in unions:
                old, new = unions[shift]
                axes.plot(new, old, "*", color=CATEGORIES[1], markersize=pt(9))
                axes.annotate(
                    "union", (new, old), textcoords="offset points", xytext=(pt(6), pt(-9)),
                    fontsize="small", color=CATEGORIES[1],
                )  # fmt: skip
            axes.margins(0.12)
            axes.set_title(f"{shift} shift")
        label_below(canvas, "loss on the new text (nats/token)")
        label_left(canvas, "loss on the old text\n(nats/token)")

    caption = (
        "Both losses at the end of the continuation, by the share of general text that is replayed "
        "(means over trunk seeds, bars their standard deviation), and of a run from scratch on the "
        "union of the texts."
    )
    return Figure("replay", caption, table, draw, 2.8, 4.6)


def law_figure(m: Measured, found: "Mapping[str, OfText]") -> Figure:
    """The law and the losses of the base cell, the constant rate and the unseen rewarm."""
    arms = {"base cell": STRONG, "constant rate": CONSTANT, "unseen rewarm": UNSEEN}
    parts = []
    for what, law in found.items():
        for label, arm in arms.items():
            begun = m.transfer[arm]
            steps = np.unique(np.rint(np.geomspace(1, len(m.rates[arm]) - begun, 60)))
            places = (begun + steps).astype(int)
            said = np.mean([*law.along(m, arm, places).values()], axis=0)
            one = pd.DataFrame({"step": steps, "law": said})
            points = m.curve(arm, law.text).groupby("step")["loss_nats"].mean()
            came = points[points.index > 0].rename("measured").reset_index()
            both = pd.concat([one, came]).assign(arm=label, text=what)
            parts.append(both)
    data = pd.concat(parts, ignore_index=True)

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, len(found))
        for axes, (what, law) in zip(panels, found.items(), strict=True):
            for label, colour, mark in zip(arms, CATEGORIES, MARKS, strict=False):
                rows = data[(data["arm"] == label) & (data["text"] == what)]
                own = rows.dropna(subset=["law"])
                axes.plot(own["step"], own["law"], "-", color=colour)
                points = rows.dropna(subset=["measured"])
                hollow = "white" if label == "unseen rewarm" else colour
                held = " (held out)" if hollow == "white" else ""
                mine = {"marker": mark, "color": colour, "markerfacecolor": hollow}
                axes.plot(points["step"], points["measured"], linestyle="none", **mine)
                axes.plot([], [], label=f"{label}{held}", **mine)
            axes.set_title(f"{what}: {law.text}")
            step_axis(axes)
        label_below(canvas, "steps since the transfer")
        label_left(canvas, "loss (nats/token)")
        legend(canvas)

    caption = (
        "The law of the loss curve (lines, mean over trunk seeds) and the losses (marks). Open "
        "marks are of the rewarm that no fitted arm had, of which only the rates were known."
    )
    return Figure("law", caption, data, draw, 2.7, 4.6)
