"""Figures of order against decay: the interaction, the gain and its law, where decay pays."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fits.comparing import Comparison
from fits.engine.uncertainty import mean_interval
from fits.figures.layout import abreast, label_below, label_left, legend
from fits.figures.plots import Figure
from fits.figures.style import BAND, CATEGORIES, GREY, MARKS, pt
from fits.figures.ticks import values_axis
from fits.order_gain import ASCENDING, STATE, UNIFORM

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_PLACES = 200  # of a line
_LAWS = {"order-gain": "-", "order-gain-linear": ":"}  # shown, and how


def interaction_figure(ends: pd.DataFrame, shape: str, average: str, text: str) -> Figure:
    """Loss against the end rate by order, a panel a side of the line; averages are dashed."""
    mine = ends["order"].isin([UNIFORM, ASCENDING]) & (ends["shape"] == shape)
    mine &= ends["average"].isin([STATE, average]) & (ends["side"] != "map")
    rows = ends[mine & np.isfinite(ends["loss_nats"])]
    sides = _sides(rows)

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, max(1, len(sides)))
        for axes, (side, peak) in zip(panels, sides.items(), strict=False):
            here = rows[rows["side"] == side]
            places = sorted(here["end_ratio"].unique())
            for order, colour, mark in zip((UNIFORM, ASCENDING), CATEGORIES, MARKS, strict=False):
                for kind, line, name in (
                    (STATE, "-", order),
                    (average, "--", f"{order}, {average}"),
                ):
                    part = here[(here["order"] == order) & (here["average"] == kind)]
                    at = part.groupby("end_ratio")["loss_nats"].agg(["mean", "min", "max"])
                    x = [places.index(end) for end in at.index]
                    axes.plot(x, at["mean"], line, marker=mark, color=colour, label=name)
                    axes.fill_between(
                        x, at["min"], at["max"], color=colour, alpha=BAND, linewidth=0
                    )
            axes.set_xticks(range(len(places)), [f"{end:g}" for end in places])
            axes.set_title(f"{side}: peak {peak:.2g}")
        label_below(canvas, "end rate / peak")
        label_left(canvas, f"loss on {text}\n(nats/token)")
        legend(canvas)

    caption = (
        "Loss on clean text at the end of training against the end rate (1: constant), in uniform "
        f"order and with the best text last: mean over seeds and their range. Dashed: {average} of "
        "the last states."
    )
    return Figure("interaction", caption, rows, draw, 2.8, 4.6)


def gain_figure(table: pd.DataFrame, shape: str, ranked: Mapping[str, Comparison | None]) -> Figure:
    """Gain of ascending order against the end rate with the law and its linear rival, by side."""
    mine = (table["order"] == ASCENDING) & (table["shape"] == shape) & (table["side"] != "map")
    rows = table[mine & (table["average"] == STATE)]
    sides = _sides(rows)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        shown: dict[str, str] = {}
        for (side, peak), colour, mark in zip(sides.items(), CATEGORIES, MARKS, strict=False):
            here = rows[rows["side"] == side]
            for end, part in here.groupby("end_ratio"):
                one = mean_interval(part["gain_nats"].tolist())
                if one.low is not None and one.high is not None:
                    axes.vlines(end, one.low, one.high, color=colour)
            mean = here.groupby("end_ratio")["gain_nats"].mean()
            axes.plot(mean.index, mean, mark, color=colour, label=f"{side}: peak {peak:.2g}")
            found = ranked.get(side)
            line = np.linspace(0.0, 1.0, _PLACES)
            for name, style in _LAWS.items():
                if found is not None and name in found.fits:
                    law = found.fits[name]
                    values: Any = law.law.predict(law.params, {"end_ratio": line})
                    axes.plot(line, values, style, color=colour)
                    shown[law.law.formula] = style
        for formula, style in shown.items():
            axes.plot([], [], style, color=GREY, label=formula)
        axes.axhline(0.0, color="black", linewidth=pt(0.7))
        axes.set_xlabel("end rate / peak")
        axes.set_ylabel("gain (nats/token)")
        legend(canvas)

    caption = (
        "What ascending order gains over uniform order (loss on clean text) against the end rate: "
        "mean over seeds with 95 % t intervals, the law and its linear rival."
    )
    return Figure("gain", caption, rows, draw, 2.6, 3.0)


def payoff_figure(pays: pd.DataFrame, chosen: Mapping[str, float]) -> Figure:
    """What decay pays in uniform order against the peak rate; `chosen` peaks are marked."""

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        at = pays.groupby("peak")["pays_nats"].agg(["mean", "min", "max"])
        axes.plot(at.index, at["mean"], "o-", color=CATEGORIES[0])
        axes.fill_between(
            at.index, at["min"], at["max"], color=CATEGORIES[0], alpha=BAND, linewidth=0
        )
        axes.axhline(0.0, color="black", linewidth=pt(0.7))
        for side, peak in chosen.items():
            axes.axvline(peak, color=CATEGORIES[1], linestyle="--", linewidth=pt(0.9))
            axes.annotate(
                side, (peak, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom"
            )
        axes.set_xscale("log", base=2)
        values_axis(axes, [*at.index], as_text="{:.2g}".format)
        axes.set_xlabel("peak rate")
        axes.set_ylabel("gain of decay to 0\n(nats/token)")

    caption = (
        "What decay to 0 pays in uniform order against the peak rate (loss at a constant rate less "
        "that at an end rate of 0): mean over seeds and their "
        "range. Decay pays above zero. Dashed: the peaks at which orders are compared."
    )
    return Figure("where_decay_pays", caption, pays, draw, columns=1)


def _sides(rows: pd.DataFrame) -> dict[str, float]:
    """Side -> its peak, in the order of the peaks."""
    pairs = rows[["side", "peak"]].drop_duplicates().sort_values("peak")
    return dict(zip(pairs["side"], pairs["peak"], strict=True))
