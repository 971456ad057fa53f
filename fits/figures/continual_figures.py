"""The three figures of a critical-mixture-ratio sweep."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fits.critical import fraction
from fits.figures.layout import abreast, entries, label_below, label_left, legend, narrow
from fits.figures.plots import Figure, curves_with_band, fit_with_band, held_out_mark
from fits.figures.style import CATEGORIES, GREY, MARKS, pt
from fits.figures.ticks import short_count, token_axis
from fits.result import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def general_loss_figure(table: pd.DataFrame, general: str, eps: Sequence[float]) -> Figure:
    """Change of general loss over tokens, a line a ratio, a panel a size; bands span the seeds."""
    loss = table[(table["corpus"] == general) & (table["tokens"] > 0)]
    shown = ["n_params", "ratio", "unit", "run", "tokens", "change"]
    loss = loss[[name for name in shown if name in loss.columns]].reset_index(drop=True)
    sizes = sorted(loss["n_params"].unique())

    inner = loss[loss["ratio"] < 1]["change"]
    room = 0.35 * (inner.max() - inner.min())  # R = 1 may leave the panel: it is a cliff
    low, high = inner.min() - 0.1 * room, inner.max() + 1.6 * room
    outside = bool((~loss["change"].between(low, high)).any())

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, len(sizes), "xy")
        for axes, size in zip(panels, sizes, strict=True):
            here = loss[loss["n_params"] == size]
            curves_with_band(axes, here, "tokens", "change", "ratio", _ratio_label)
            for tolerance in eps:
                axes.axhline(tolerance, color=GREY, linewidth=pt(0.7), linestyle="--")
            axes.set_xscale("log")
            between = " " if narrow(canvas) else "\n"
            axes.set_title(f"{short_count(size)} parameters,{between}{_seeds(here)}")
            token_axis(axes)
        label_below(canvas, "tokens since the branch")
        label_left(canvas, "change of general\nloss (nats/token)")
        legend(canvas, title="domain share R")
        panels[0].set_ylim(low, high)

    caption = (
        "Change of general loss since the branch point, for each domain share R of the mixture. "
        f"Lines are means over trunk seeds, bands their range; dashed: eps = {_list(eps)} nats."
    ) + (" R = 1 leaves the frame." if outside else "")
    return Figure("general_loss_over_tokens", caption, loss, draw, 2.7, 5.8)


def ratio_figure(fits: Sequence[Fit], table: pd.DataFrame, general: str, domain: str) -> Figure:
    """Domain and general loss against the ratio at the last horizon, with the law and its band."""
    horizon = fits[0].group["cpt_tokens"]
    data = table[table["tokens"] == horizon]
    data = data[["n_params", "corpus", "ratio", "unit", "tokens", "loss_nats"]]
    sizes = sorted({one.group["n_params"] for one in fits})

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, 2)
        for axes, corpus in zip(panels, (domain, general), strict=True):
            for size, colour, mark in zip(sizes, CATEGORIES, MARKS, strict=False):
                for one in fits:
                    if one.group["n_params"] == size and one.group["corpus"] == corpus:
                        label = f"{short_count(size)} parameters"
                        fit_with_band(axes, one, "ratio_domain", colour, label, mark)
            kind = "domain" if corpus == domain else "general"
            axes.set_title(f"{kind} loss ({corpus})")
            axes.set_xlabel("domain share R of the mixture")
        label_left(canvas, "validation loss (nats/token)")
        handles, labels = entries(panels)
        if any(one.held_out for one in fits):
            handles, labels = [*handles, held_out_mark()], [*labels, "held out"]
        legend(canvas, handles, labels)

    caption = (
        f"Loss after {short_count(horizon)} tokens of continual pre-training against the domain "
        "share R, and the law L = alpha R^s + beta. Open marks were held out and are predicted. "
        "Bands are 95 % of the curve: t over seeds where there are several, else from the scatter "
        "around it."
    )
    return Figure("loss_against_ratio", caption, data, draw, 2.8, 4.8)


def critical_figure(read: pd.DataFrame, grid: Sequence[float], laws: Sequence[Fit]) -> Figure:
    """Critical ratio against horizon for every size, a panel a tolerance; arrows are censored."""
    tolerances = sorted(read["eps"].unique())
    inner = [ratio for ratio in grid if 0 < ratio < 1]

    def draw(canvas: "Canvas") -> None:
        panels = abreast(canvas, len(tolerances), "xy")
        for axes, eps in zip(panels, tolerances, strict=True):
            here = read[read["eps"] == eps]
            sizes = sorted(here["n_params"].unique())
            for place, (size, colour) in enumerate(zip(sizes, CATEGORIES, strict=False)):
                rows = here[here["n_params"] == size].sort_values("horizon_tokens")
                shift = 1 + 0.025 * (place - (len(sizes) - 1) / 2)  # so that bars do not overlap
                _size_readings(axes, rows, size, colour, MARKS[place], shift, inner)
                for one in laws:
                    if one.group == {"n_params": int(size), "eps": float(eps)}:
                        _law_line(axes, one, colour)
            axes.set_xscale("log")
            axes.set_title(f"eps = {eps:g} nats")
            token_axis(axes)
            for end in (inner[0], inner[-1]):
                axes.axhline(end, color=GREY, linewidth=pt(0.7), linestyle=":")
        label_below(canvas, "horizon (tokens since the branch)")
        panels[0].set_ylim(0, 1)
        label_left(canvas, "critical mixture ratio")
        legend(canvas)

    caption = (
        "Critical mixture ratio against the horizon, by model size. Bars are 95 % intervals over "
        "trunk seeds (sizes with one seed have none); arrows lie beyond the grid of ratios, whose "
        "ends are dotted; lines are R = a T^s + b where enough horizons are uncensored, dashed "
        "where they were predicted."
    )
    return Figure("critical_ratio", caption, read, draw, 2.8, 4.6)


def _size_readings(
    axes: "Axes",
    rows: pd.DataFrame,
    size: float,
    colour: Any,
    mark: str,
    shift: float,
    grid: Sequence[float],
) -> None:
    x = rows["horizon_tokens"].to_numpy(float) * shift
    middle = rows["critical_ratio"].to_numpy(float)
    several = rows["seeds"].to_numpy() > 1
    low = np.where(np.isnan(rows["low"]), grid[0], rows["low"])
    high = np.where(np.isnan(rows["high"]), grid[-1], rows["high"])
    axes.vlines(x[several], low[several], high[several], color=colour, linewidth=pt(1.0))
    label = f"{short_count(size)} parameters, {_count_seeds(int(rows['seeds'].max()))}"
    axes.plot(x, middle, mark, color=colour, label=label)
    for censored, marker, end in (("<", "v", grid[0]), (">", "^", grid[-1])):
        beyond = (rows["censored"] == censored).to_numpy()
        axes.plot(
            x[beyond], np.full(beyond.sum(), end), marker, color=colour, markerfacecolor="white"
        )


def _law_line(axes: "Axes", one: Fit, colour: Any) -> None:
    tokens = one.x["cpt_tokens"]
    line = np.geomspace(tokens.min(), tokens.max(), 100)
    middle, _, _ = one.band({"cpt_tokens": line}, "curve")
    axes.plot(line, middle, color=colour, linewidth=pt(0.9), alpha=0.8)
    if one.held_out:
        late = max(float(row.variables["cpt_tokens"]) for row in one.held_out)
        line = np.geomspace(tokens.max(), late, 100)
        middle, _, _ = one.band({"cpt_tokens": line}, "curve")
        axes.plot(line, middle, "--", color=colour, linewidth=pt(0.9), alpha=0.8)


def _ratio_label(ratio: float) -> str:
    return fraction(ratio) if ratio > 0 else "0"


def _seeds(rows: pd.DataFrame) -> str:
    return _count_seeds(rows["unit"].nunique())


def _count_seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
