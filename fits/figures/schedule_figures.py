"""Figures of learning-rate schedules: the rates, loss curves with laws, errors of the laws."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fits.figures.layout import across, ems, grid, halves, legend, narrow
from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES, DASHES, MARKS, pt
from fits.figures.ticks import number_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from fits.schedules import RatesByCurve

_PLACES = 400  # of a curve of rates that is drawn
LEVEL_ROOM = 5.5  # ems from which a name on an axis stands level
_MOST = 3.0  # % of the loss that a panel of errors shows


def rate_figure(rates: "RatesByCurve") -> Figure:
    """The rate of every step, a panel a schedule, on common axes."""
    parts = []
    for name, rate in rates.items():
        every = np.asarray(rate, float)
        moves = np.flatnonzero(np.diff(every)) + 1
        some = np.linspace(1, len(every), _PLACES).round().astype(int)
        corners = moves[(np.diff(moves, prepend=-9) > 1) | (np.diff(moves, append=1 << 40) > 1)]
        step = np.unique(np.concatenate([some, corners, corners + 1]))
        step = step[step <= len(every)]
        parts.append(pd.DataFrame({"curve": name, "step": step, "lr": every[step - 1]}))
    table = pd.concat(parts, ignore_index=True)

    def draw(canvas: "Canvas") -> None:
        panels = grid(canvas, list(rates), across(canvas, 5, 9))
        for name, axes in panels.items():
            rows = table[table["curve"] == name]
            axes.plot(rows["step"], rows["lr"], color=CATEGORIES[0])
            axes.set_title(name)
            axes.set_ylim(bottom=0)
        canvas.supxlabel("step")
        canvas.supylabel("learning rate")

    caption = "Schedules: the learning rate of every step."
    return Figure("schedules", caption, table, draw, 2.6, 3.8)


def loss_figure(
    lines: pd.DataFrame, fitted: Sequence[str], law: str, names: Sequence[str], corpus: str
) -> Figure:
    """Losses along fitted and unseen curves with one law through them.

    lines: of `fits.schedules.along`; names: the curves to show.
    """
    table = lines[lines["curve"].isin(names)][["curve", "step", "units", "loss_nats", law]]

    def draw(canvas: "Canvas") -> None:
        parts = halves(canvas, down=narrow(canvas))
        every = table[["loss_nats", law]]
        low, high = float(every.min(axis=None)), float(every.max(axis=None))
        shown = {
            "fitted": [name for name in names if name in fitted],
            "foretold": [name for name in names if name not in fitted],
        }
        for part, (title, mine) in zip(parts, shown.items(), strict=True):
            axes = part.subplots()
            axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            looks = zip(mine, CATEGORIES, DASHES, strict=False)
            for k, (name, colour, dash) in enumerate(looks):
                rows = table[table["curve"] == name]
                at: dict[str, Any] = {
                    "color": colour,
                    "zorder": 3 - 0.1 * k,
                }  # the first lies on top
                axes.plot(rows["step"], rows["loss_nats"], ".", markersize=pt(2.5), **at)
                axes.plot(rows["step"], rows[law], linestyle=dash, label=name, **at)
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.set_ylabel(f"loss on {corpus}\n(nats/token)")
            legend(part)

    caption = (
        f"Loss on {corpus}, mean over seeds (points), and {law}, the law that misses unseen curves "
        "least, fitted to the mean of the curves on the left (lines)."
    )
    return Figure("loss_curves", caption, table, draw, 3.0, 5.0)


def curve_figure(
    lines: pd.DataFrame, fitted: Sequence[str], laws: Sequence[str], corpus: str
) -> Figure:
    """Error of each law along each curve, a panel a curve; lines: of `fits.schedules.along`.

    Errors and not losses: laws differ by a hundredth of the fall of a loss.
    """
    names = list(dict.fromkeys(lines["curve"]))
    table = lines.copy()
    for law in laws:
        table[f"{law} error"] = 100 * (lines[law] / lines["loss_nats"] - 1)

    def draw(canvas: "Canvas") -> None:
        panels = grid(canvas, names, across(canvas, 4, 11))
        for name, axes in panels.items():
            rows = table[table["curve"] == name]
            low, high = (100 * (rows[end] / rows["loss_nats"] - 1) for end in ("low", "high"))
            axes.fill_between(
                rows["step"], low, high, color="#CCCCCC", linewidth=0, label="range of seeds"
            )
            for law, colour, dash in zip(laws, CATEGORIES, DASHES, strict=False):
                look = {"color": colour, "linestyle": dash, "linewidth": pt(1.1)}
                axes.plot(rows["step"], rows[f"{law} error"], label=law, **look)
            axes.set_title(f"{name}, fitted" if name in fitted else name)
            axes.set_xscale("log")
            axes.set_ylim(-_MOST, _MOST)
            number_axis(axes, "x")
        canvas.supxlabel("step")
        canvas.supylabel("predicted less measured (% of the loss)")
        legend(canvas)

    caption = (
        f"Laws fitted to the mean loss on {corpus} over seeds of the curves marked as fitted: "
        "predicted less measured, in % of the loss, along these and unseen curves; grey, the range "
        f"of the seeds. Beyond {_MOST:g} % not shown."
    )
    return Figure("law_curves", caption, table, draw, 4.2, 6.0)


def error_figure(missed: pd.DataFrame, ranked: Sequence[str]) -> Figure:
    """Error along each unseen curve by law, a mark a seed; missed: of `fits.schedules.errors`."""
    laws = list(dict.fromkeys(missed["law"]))
    names = list(dict.fromkeys(missed["curve"]))

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        width = 0.8 / len(laws)
        room = (ems(canvas) - 15) / len(names)  # for a name, beside a legend
        shown = [name + ("" if name in ranked else " *") for name in names]
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        if room > LEVEL_ROOM:
            shown, turned = [name.replace("-", "-\n") for name in shown], {}
        for k, law in enumerate(laws):
            colour, marker = CATEGORIES[k], MARKS[k]
            for place, name in enumerate(names):
                rows = missed[(missed["law"] == law) & (missed["curve"] == name)]
                at = place + (k - (len(laws) - 1) / 2) * width
                axes.plot(
                    [at] * len(rows), rows["curve_error"], marker, color=colour, alpha=0.7,
                    markersize=pt(3), markeredgewidth=0, label=law if place == 0 else None,
                )  # fmt: skip
                mean = rows["curve_error"].mean()
                axes.hlines(
                    mean, at - width * 0.4, at + width * 0.4, color=colour, linewidth=pt(1.8)
                )
        axes.set_xticks(range(len(names)), shown, **turned)
        axes.grid(visible=False, axis="x")
        axes.set_yscale("log")
        number_axis(axes, "y")
        axes.set_ylabel("error along the curve\n(% of the loss)")
        legend(canvas)

    caption = (
        "Error (root mean square, % of the loss) of each law along curves that it was not fitted "
        "to: a mark a seed, a bar their mean. Starred curves take no part in the ranking."
    )
    return Figure("law_errors", caption, missed, draw, 2.6, 3.2)
