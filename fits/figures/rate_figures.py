"""Figures of rates against width: losses by peak rate, best rates, a coordinate check."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fits.figures.layout import abreast, across, grid, label_below, label_left, legend
from fits.figures.plots import Figure
from fits.figures.style import BAND, CATEGORIES, MARKS, ordered_colours, pt
from fits.figures.ticks import short_count, values_axis
from fits.rate_rule import Rule
from fits.rate_transfer import MUP, SHOWN, STANDARD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_PLACES = 60  # of a line


def rate_figure(ends: pd.DataFrame, best: pd.DataFrame, corpus: str) -> Figure:
    """Loss against peak rate, a panel a parametrisation and length, and a line a width.

    ends: `fits.rate_transfer.rate_ends`; best: `fits.rate_transfer_findings.best_table`.
    """
    # standard before muP, in each the shorter length first
    order = list(dict.fromkeys(ends["parametrisation"]))
    kinds = dict.fromkeys(zip(ends["parametrisation"], ends["tokens"], strict=True))
    shown = sorted(kinds, key=lambda kind: (order.index(kind[0]), kind[1]))
    widths = sorted(ends["width"].unique())
    ended = ends[np.isfinite(ends["loss_nats"])]

    def draw(canvas: "Canvas") -> None:
        panels = grid(canvas, shown, across(canvas, len(shown), 12))
        for (kind, tokens), axes in panels.items():
            for width, colour in zip(widths, ordered_colours(len(widths)), strict=True):
                rows = ended[_of(ended, kind, tokens) & (ended["width"] == width)]
                at = rows.groupby("lr")["loss_nats"].agg(["mean", "min", "max"])
                axes.plot(at.index, at["mean"], ".-", color=colour, label=f"{width}")
                axes.fill_between(
                    at.index, at["min"], at["max"], color=colour, alpha=BAND, linewidth=0
                )
                mine = best[_of(best, kind, tokens) & (best["width"] == width)]
                axes.plot(
                    mine["best rate"], mine["least loss"], "D", color=colour,
                    markeredgecolor="white", markersize=pt(6),
                )  # fmt: skip
            axes.set_title(f"{SHOWN[kind]},\n{short_count(tokens)} tokens")
            axes.set_xscale("log", base=2)
            _powers_of_two(axes, "x", (ends["lr"].min(), ends["lr"].max()))
        label_below(canvas, "peak rate")
        label_left(canvas, f"loss on {corpus}\n(nats/token)")
        legend(canvas, title="width")

    caption = (
        "Loss at the end of training against the peak rate, by width: mean over seeds and their "
        "range; rates of muP are those of the base width. Diamonds: vertex of the parabola through "
        "the losses around the least, mean over seeds."
    )
    return Figure("loss_against_rate", caption, ends, draw, 2.9, 4.8)


def best_rate_figure(best: pd.DataFrame, slopes: pd.DataFrame, base: int, rule: Rule) -> Figure:
    """Best rate against width: powers of width of each parametrisation; longer runs; the rule.

    best, slopes: the tables of `fits.rate_transfer_findings`.
    """
    lengths = sorted(best["tokens"].unique())
    longer = [(STANDARD, tokens) for tokens in lengths[1:]]

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        shown = [(kind, lengths[0]) for kind in slopes["parametrisation"]] + longer
        looks = zip(shown, CATEGORIES, MARKS, strict=False)
        for k, ((kind, tokens), colour, mark) in enumerate(looks):
            rows = best[_of(best, kind, tokens) & best["best rate"].notna()]
            width = rows["width"] * (1.012 if kind == MUP else 1 / 1.012)
            axes.vlines(width, rows["best rate low"], rows["best rate high"], color=colour)
            label = f"{SHOWN[kind]}, {short_count(tokens)} tokens"
            if k < len(slopes):
                power = slopes.iloc[k]
                label += "\nno exponent"
                if math.isfinite(power["p"]):
                    label = label.replace("no exponent", f"width^{power['p']:.2f}")
                    if math.isfinite(power["p low"]):
                        label += f" ({power['p low']:.2f} .. {power['p high']:.2f})"
                    line = np.geomspace(best["width"].min(), best["width"].max(), _PLACES)
                    axes.plot(line, power["c"] * (line / base) ** power["p"], color=colour)
            axes.plot(width, rows["best rate"], mark, color=colour, label=label)
        widths = sorted(best["width"].unique())
        for tokens, dashes in zip(lengths, ("--", ":", "-."), strict=False):
            axes.plot(
                widths, [rule(int(one), tokens) for one in widths], color="black",
                linestyle=dashes, linewidth=pt(0.9), label=f"rule, {short_count(tokens)} tokens",
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        values_axis(axes, widths)
        _powers_of_two(axes, "y", axes.get_ylim())
        axes.set_xlabel("width")
        axes.set_ylabel("best peak rate")
        legend(canvas)

    caption = (
        "Best peak rate against width with 95 % t intervals over seeds, and the power of width "
        "through each seed's best rates at the shorter length (mean exponent, 95 % t interval). "
        "Black: the rule of the other studies. Rates of muP are those of the base width. Best "
        "rates at the edge of those tried are left out."
    )
    return Figure("best_rate", caption, best, draw, 2.8, 3.6)


def _of(table: pd.DataFrame, kind: str, tokens: int) -> "pd.Series[bool]":
    return (table["parametrisation"] == kind) & (table["tokens"] == tokens)


def coordinate_figure(check: pd.DataFrame) -> Figure:
    """How far the first steps move each layer's output, against width: a coordinate check.

    check: rows of `lab.coordinate_check`, with columns parametrisation, width, seed, step, place,
    size, change; the last step is shown, as the geometric mean over seeds.
    """
    last = check[check["step"] == check["step"].max()]
    kinds = list(dict.fromkeys(last["parametrisation"]))
    places = sorted(last["place"].unique(), key=_depth)
    table = coordinate_slopes(check)

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, len(kinds), "xy")
        for axes, kind in zip(panels, kinds, strict=True):
            for place, colour in zip(places, ordered_colours(len(places)), strict=True):
                rows = last[(last["parametrisation"] == kind) & (last["place"] == place)]
                mean = np.exp(np.log(rows["change"]).groupby(rows["width"]).mean())
                logits = place == "logits"
                shown = {"color": CATEGORIES[1] if logits else colour}
                axes.plot(mean.index, mean, "o-", **shown, label=place)
            axes.set_title(SHOWN[kind])
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            widths = sorted(last["width"].unique())
            values_axis(axes, widths)
        _powers_of_two(panels[0], "y", panels[0].get_ylim())
        label_below(canvas, "width")
        label_left(canvas, f"change of output, step {last['step'].max()}")
        legend(canvas)

    caption = (
        "Mean magnitude by which the first steps, at one rate, change what each layer puts out, "
        "against width (mean over seeds)."
    )
    return Figure("coordinate_check", caption, table, draw, 2.8, 4.8)


def _depth(place: str) -> tuple[bool, int, str]:
    """Order of a model's places: embedding, attention 1, MLP 1, ..., logits."""
    name, _, number = place.partition(" ")
    return name == "logits", int(number or 0), name.lower()


def coordinate_slopes(check: pd.DataFrame) -> pd.DataFrame:
    """Slope of log change on log width after the last step, by parametrisation and place."""
    last = check[check["step"] == check["step"].max()]
    rows = []
    for (kind, place), mine in last.groupby(["parametrisation", "place"], sort=False):
        slope = np.polyfit(np.log(mine["width"]), np.log(mine["change"]), 1)[0]
        rows.append({"parametrisation": kind, "place": place, "slope": float(slope)})
    return pd.DataFrame(rows)


def _powers_of_two(axes: "Axes", name: str, ends: tuple[float, float]) -> None:
    """Powers of two as ticks of a rate axis, as many as there is room for."""
    low, high = (math.log2(end) for end in ends)
    powers = [2.0**k for k in range(math.ceil(low - 0.01), math.floor(high + 0.01) + 1)]
    values_axis(axes, powers, name, "{:.2g}".format)
