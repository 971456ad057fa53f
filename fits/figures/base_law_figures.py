"""Figures of the base law: losses with the law, exponents by approach, fitted floors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fits.figures.layout import abreast, legend
from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES, MARKS, ordered_colours, pt
from fits.figures.ticks import flop_axis, loss_axis, short_count, token_axis
from fits.result import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_PLACES = 80  # of a curve


def law_figure(grid: pd.DataFrame, law: Fit, larger: pd.DataFrame | None, corpus: str) -> Figure:
    """Cooled losses against tokens and the law, a curve a size; right: what the law leaves.

    grid, larger: cooled ends (`fits.base_law.cooled_ends`); `larger` was predicted, not fitted.
    """
    parts = [grid.assign(kind="fitted")]
    if larger is not None:
        parts.append(larger.assign(kind="predicted, then run"))
    data = pd.concat(parts, ignore_index=True)
    said = law.predict(data[["n_params", "n_tokens"]], "curve")
    data["law"] = said["predicted"].to_numpy()
    data["relative_error"] = data["law"] / data["loss_nats"] - 1

    def draw(canvas: "Canvas") -> None:
        left, right = abreast(canvas, 2, ratios=(1.2, 1))
        sizes = sorted(data["n_params"].unique())
        for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
            rows = data[data["n_params"] == size]
            fitted = rows["kind"] == "fitted"
            tokens = np.geomspace(
                0.9 * rows["n_tokens"].min(), 1.1 * rows["n_tokens"].max(), _PLACES
            )
            line = law.predict({"n_params": np.full(_PLACES, size), "n_tokens": tokens}, "curve")
            left.plot(tokens, line["predicted"], color=colour, linewidth=pt(0.9))
            left.plot(
                rows["n_tokens"][fitted],
                rows["loss_nats"][fitted],
                ".",
                color=colour,
                label=short_count(size) if fitted.any() else None,
            )
            new = rows[~fitted]
            label = f"{short_count(size)}, held out" if len(new) else None
            marks = {"color": CATEGORIES[1], "markerfacecolor": "white", "label": label}
            left.plot(new["n_tokens"], new["loss_nats"], "D", **marks)
            right.plot(
                rows["budget_flop"][fitted], 100 * rows["relative_error"][fitted], ".", color=colour
            )
            right.plot(new["budget_flop"], 100 * new["relative_error"], "D", **marks)
        left.set_xscale("log")
        if data["loss_nats"].max() >= 2 * data["loss_nats"].min():
            left.set_yscale("log")
            loss_axis(left)
        token_axis(left)
        left.set_xlabel("training tokens")
        left.set_ylabel("loss (nats/token)")
        right.axhline(0, color="black", linewidth=pt(0.7))
        right.set_xscale("log")
        flop_axis(right)
        right.set_xlabel("training FLOP")
        right.set_ylabel("law less measured (%)")
        legend(canvas, title="parameters")

    caption = (
        f"Loss on held-out {corpus} at the end of each cool-down, a mark a seed, and "
        f"{law.law.formula} through them. Right: what the law leaves. Open diamonds: the larger "
        "run, which took no part in the fit."
    )
    return Figure("law", caption, data, draw, height=2.7, column_height=4.6)


def exponent_figure(table: pd.DataFrame, known: Sequence[tuple[str, float]]) -> Figure:
    """a of N* ~ C^a by approach and way of counting, with intervals; `known` are lines to compare.

    table: that of `fits.base_law.exponent_table`.
    """
    shown = table[table["a"].notna()].reset_index(drop=True)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        places = np.arange(len(shown))[::-1]
        counts = list(dict.fromkeys(shown["parameters"]))
        for count, colour, mark in zip(counts, CATEGORIES, MARKS, strict=False):
            here = (shown["parameters"] == count).to_numpy()
            rows = shown[here]
            bounded = rows["low"].notna().to_numpy()
            axes.hlines(
                places[here][bounded], rows["low"][bounded], rows["high"][bounded], color=colour
            )
            axes.plot(rows["a"], places[here], mark, color=colour, label=f"N {count}")
        for (label, value), line in zip(known, ("--", ":", "-."), strict=False):
            axes.axvline(value, color="black", linewidth=pt(0.8), linestyle=line, label=label)
        axes.set_yticks(places, shown["approach"])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel("a of N* ~ C^a")
        legend(canvas)

    caption = (
        "Exponent of the compute-optimal size by each approach, on the same cooled losses, with "
        "95 % t intervals over trunk seeds; N counted with and without embedding and head."
    )
    return Figure("exponents", caption, table, draw, height=2.4, column_height=2.8)


def floor_figure(table: pd.DataFrame) -> Figure:
    """E of the law against what is known of the text: rows of `fits.base_law.irreducible`."""

    def draw(canvas: "Canvas") -> None:
        panels = list(canvas.subplots(1, len(table), squeeze=False)[0])
        for axes, (_, row) in zip(panels, table.iterrows(), strict=True):
            if pd.notna(row["low"]) and pd.notna(row["high"]):
                axes.vlines(0, row["low"], row["high"], color=CATEGORIES[0])
            axes.plot(0, row["E"], "o", color=CATEGORIES[0], label="fitted E")
            axes.plot(0.35, row["least measured"], "s", color=CATEGORIES[2], label="least measured")
            axes.axhline(row["windows allow"], color=CATEGORIES[1], label="windows allow")
            axes.axhline(
                row["entropy rate"],
                color="black",
                linestyle="--",
                linewidth=pt(0.9),
                label="entropy rate",
            )
            axes.set_xlim(-0.4, 0.75)
            axes.set_xticks([])
            # an E that is not found has an interval in which nothing else could be seen
            known = row[["E", "least measured", "windows allow", "entropy rate"]].dropna()
            low, high = float(known.min()), float(known.max())
            shown_low, shown_high = axes.get_ylim()
            margin = 0.5 * (high - low)
            axes.set_ylim(max(shown_low, low - margin), min(shown_high, high + margin))
            axes.set_title(row["text"])
        panels[0].set_ylabel("loss (nats/token)")
        legend(canvas)

    caption = (
        "Irreducible loss E of the law, with its 95 % t interval over trunk seeds, against the "
        "least loss that the evaluated windows allow, the entropy rate, and the least loss "
        "measured (mean over seeds). An interval that runs out of its panel is longer than shown."
    )
    return Figure("floors", caption, table, draw, height=2.4, column_height=2.8)
