"""The figure of a compute-optimal frontier: the curves it was read from, and its power laws."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fits.figures.layout import abreast, legend
from fits.figures.plots import Figure
from fits.figures.style import BAND, CATEGORIES, MARKS, ordered_colours, pt
from fits.figures.ticks import flop_axis, loss_axis, short_count, short_power, token_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from fits.frontier import Frontier

_MANY = 60  # optima beyond which marks would hide the line they lie on


def frontier_figure(frontier: "Frontier") -> Figure:
    """Left: loss over sizes (IsoFLOP) or over FLOP (envelope). Right: N* and D* over the budget."""
    isoflop = frontier.method.startswith("isoflop")
    data = _data(frontier)

    def draw(canvas: "Canvas") -> None:
        left, right = abreast(canvas, 2, ratios=(1.15, 1))
        (_isoflop_curves if isoflop else _training_curves)(left, frontier)
        left.set_ylabel("loss (nats/token)" if _in_nats(frontier) else frontier.loss_name)
        _power_laws(right, frontier)
        legend(canvas)

    caption = (
        f"{frontier.method}: "
        + ("loss against size at each budget, with its minimum" if isoflop else "training curves")
        + ("" if isoflop else " by size, and the least loss at each budget")
        + "; compute-optimal parameters and tokens against the budget, with "
        f"{100 * frontier.level:g} % of the line ({_how(frontier)}). "
        + ("Open marks" if isoflop else "Dotted and faint")
        + " are optima on the edge of the sizes tried: they are left out of the laws."
    )
    return Figure("frontier", caption, data, draw, 2.9, 4.8)


def _in_nats(frontier: "Frontier") -> bool:
    return frontier.loss_name.endswith("nats")


def _how(frontier: "Frontier") -> str:
    return frontier.laws["n_opt"].intervals(frontier.level)[0].method


def _data(frontier: "Frontier") -> pd.DataFrame:
    """Every number shown: measured and interpolated losses, optima, and the laws' lines."""
    optima = frontier.optima.rename(
        columns={"n_opt": "n_params", "d_opt": "n_tokens", "loss_opt": "loss"}
    )
    optima = optima.drop(columns=["tokens_per_param"]).assign(kind="optimum")
    line = frontier.predict(_budget_line(frontier))
    line = line.rename(columns={"n_opt": "n_params", "d_opt": "n_tokens"}).assign(kind="law")
    curves = frontier.curves.rename(columns={"train_flop": "budget_flop"})
    return pd.concat([curves, optima, line], ignore_index=True)


def _budget_line(frontier: "Frontier") -> Any:
    budget = frontier.optima["budget_flop"]
    return np.geomspace(budget.min(), budget.max(), 60)


def _isoflop_curves(axes: "Axes", frontier: "Frontier") -> None:
    budgets = frontier.optima["budget_flop"].to_numpy()
    colours = ordered_colours(len(budgets))
    for budget, colour in zip(budgets, colours, strict=True):
        here = frontier.curves[frontier.curves["curve"] == budget]
        measured = here[here["kind"] == "measured"]
        between = here[here["kind"] == "interpolated"]
        axes.plot(between["n_params"], between["loss"], color=colour, linewidth=pt(1.0))
        axes.plot(measured["n_params"], measured["loss"], ".", color=colour, markersize=pt(3))
    axes.set_xscale("log")
    _scale_loss(axes, frontier)
    xlim = axes.get_xlim()
    marks = frontier.optima
    for edge, face in ((False, CATEGORIES[1]), (True, "white")):
        rows = marks[marks["edge"] == edge]
        axes.plot(
            rows["n_opt"],
            rows["loss_opt"],
            "o",
            color=CATEGORIES[1],
            markerfacecolor=face,
            zorder=3,
            label=("on the edge" if edge else "optimum") if len(rows) else None,
        )
    axes.set_xlim(xlim)  # a vertex far outside the sizes tried does not stretch the panel
    axes.set_xlabel("parameters")
    axes.set_title(f"{short_power(budgets[0])} (dark) to {short_power(budgets[-1])} FLOP")
    token_axis(axes)


def _training_curves(axes: "Axes", frontier: "Frontier") -> None:
    sizes = sorted(frontier.curves["n_params"].unique())
    colours = dict(zip(sizes, ordered_colours(len(sizes)), strict=True))
    for _, rows in frontier.curves.groupby("curve", sort=False):
        colour = colours[rows["n_params"].iloc[0]]
        axes.plot(rows["train_flop"], rows["loss"], color=colour, linewidth=pt(0.7))
    axes.set_xscale("log")
    _scale_loss(axes, frontier)
    for edge, style in ((False, "-"), (True, ":")):
        # one line with gaps, so that no stretch is joined across another's
        loss = frontier.optima["loss_opt"].where(frontier.optima["edge"] == edge)
        stretch = loss.notna() & loss.shift().notna()
        axes.plot(
            frontier.optima["budget_flop"],
            loss,
            style,
            color=CATEGORIES[1],
            linewidth=pt(2.0),
            label=("on the edge" if edge else "envelope") if stretch.any() else None,
        )
    axes.set_xlabel("training FLOP")
    axes.set_title(f"{short_count(sizes[0])} (dark) to {short_count(sizes[-1])} parameters")
    flop_axis(axes)


def _scale_loss(axes: "Axes", frontier: "Frontier") -> None:
    """Log where losses span more than a doubling, with plain numbers as ticks."""
    loss = frontier.curves["loss"]
    if loss.max() >= 2 * loss.min():
        axes.set_yscale("log")
        loss_axis(axes)


def _power_laws(axes: "Axes", frontier: "Frontier") -> None:
    line = frontier.predict(_budget_line(frontier))
    optima, used = frontier.optima, frontier.used
    looks = (("n", CATEGORIES[0], MARKS[1], "-"), ("d", CATEGORIES[2], MARKS[2], "--"))
    for short, colour, mark, dash in looks:
        law = frontier.laws[f"{short}_opt"]
        name = {"n": "parameters", "d": "tokens"}[short]
        axes.plot(
            line["budget_flop"],
            line[f"{short}_opt"],
            dash,
            color=colour,
            label=f"{name}, exponent {law.exponent:.3f}",
        )
        axes.fill_between(
            line["budget_flop"],
            line[f"{short}_low"],
            line[f"{short}_high"],
            color=colour,
            alpha=BAND,
            linewidth=0,
        )
        edge = optima[optima["edge"]]
        y = f"{short}_opt"
        if len(optima) <= _MANY:
            axes.plot(used["budget_flop"], used[y], mark, color=colour)
            axes.plot(edge["budget_flop"], edge[y], mark, color=colour, markerfacecolor="white")
        else:
            axes.plot(used["budget_flop"], used[y], ".", color=colour, markersize=pt(1.5))
            axes.plot(edge["budget_flop"], edge[y], ".", color=colour, markersize=pt(1), alpha=0.1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    token_axis(axes, "y")
    flop_axis(axes)
    axes.set_xlabel("budget (FLOP)")
    axes.set_ylabel("N*, D* at the budget")
