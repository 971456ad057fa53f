"""The critical ratio between arms: how it moves with the horizon, and with size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fits.figures.layout import abreast, label_left, legend
from fits.figures.plots import Figure, held_out_mark
from fits.figures.style import CATEGORIES, MARKS, pt
from fits.figures.ticks import short_count, token_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLUMNS = (
    "arm", "n_params", "horizon_tokens", "eps", "critical_ratio", "low", "high", "censored",
    "seeds", "kind",
)  # fmt: skip


def critical_arms_figure(
    readings: pd.DataFrame,
    foretold: pd.DataFrame,
    labels: Mapping[str, str],
    eps: float,
    grid: Sequence[float],
) -> Figure:
    """Left: against the horizon at the smallest size, a colour an arm. Right: against size.

    readings: those of `fits.continual.readings` with a column `arm`, at one eps. foretold: columns
    arm, n_params, critical_ratio, low, high: what smaller sizes said of a size at the last horizon.
    labels: arm -> as named in the legend, in order. grid: the ratios between which readings lie;
    bars that are open end there.
    """
    shown = readings[readings["eps"] == eps].assign(kind="measured")
    last = shown["horizon_tokens"].max()
    told = foretold.assign(horizon_tokens=last, eps=eps, censored="", kind="foretold")
    parts = [one for one in (shown, told) if len(one)]
    data = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    inner = [ratio for ratio in grid if 0 < ratio < 1]
    ends = min(inner), max(inner)
    colours = dict(zip(labels, zip(CATEGORIES, MARKS, strict=True), strict=False))

    def draw(canvas: "Canvas") -> None:
        left, right = abreast(canvas, 2, "y")
        measured = data[data["kind"] == "measured"]
        smallest = measured["n_params"].min()
        here = measured[measured["n_params"] == smallest]
        arms = [arm for arm in labels if arm in set(here["arm"])]
        for place, arm in enumerate(arms):
            shift = 1 + 0.02 * (place - (len(arms) - 1) / 2)  # so that bars do not overlap
            _readings(left, here[here["arm"] == arm], "horizon_tokens", shift, colours[arm], ends)
            colour, mark = colours[arm]
            left.plot([], [], mark, linestyle="-", color=colour, label=labels[arm])
        left.set_xscale("log")
        token_axis(left)
        left.set_xlabel("horizon (tokens since the branch)")
        label_left(canvas, "critical mixture ratio")
        left.set_title(f"{short_count(smallest)} parameters")
        left.set_ylim(0, 1)

        at_last = measured[measured["horizon_tokens"] == last]
        several = at_last.groupby("arm")["n_params"].nunique()
        for arm in [arm for arm in labels if several.get(arm, 0) > 1]:
            _readings(right, at_last[at_last["arm"] == arm], "n_params", 1.0, colours[arm], ends)
        for one in data[data["kind"] == "foretold"].itertuples():
            place = one.n_params * 1.06
            colour, _ = colours[one.arm]
            right.vlines(place, one.low, one.high, color=colour, linewidth=pt(1.0), alpha=0.6)
            right.plot(place, one.critical_ratio, "d", color=colour, markerfacecolor="white")
        right.set_xscale("log")
        token_axis(right)
        right.set_xlabel("parameters")
        right.set_title(f"after {short_count(last)} tokens")
        handles, names = left.get_legend_handles_labels()
        if (data["kind"] == "foretold").any():
            handles, names = [*handles, held_out_mark("d")], [*names, "foretold"]
        legend(canvas, handles, names)

    caption = (
        f"Critical mixture ratio at eps = {eps:g} nats. Left: against the horizon at the smallest "
        "size, by domain and by how the trunk is continued. Right: against size at the last "
        "horizon; open diamonds were written down before that size was trained. Bars are 95 % "
        "intervals over trunk seeds, open ones up to the ends of the grid of ratios; triangles lie "
        "beyond it."
    )
    return Figure("critical_ratio_by_arm", caption, data, draw, 2.8, 4.8)


def _readings(
    axes: "Axes",
    rows: pd.DataFrame,
    x: str,
    shift: float,
    look: tuple[str, str],
    ends: tuple[float, float],
) -> None:
    colour, mark = look
    rows = rows.sort_values(x)
    place = rows[x].to_numpy(float) * shift
    middle = rows["critical_ratio"].to_numpy(float)
    axes.plot(place, middle, mark, linestyle="-", color=colour, linewidth=pt(0.8))
    low = rows["low"].to_numpy(float)
    high = rows["high"].to_numpy(float)
    several = rows["seeds"].to_numpy() > 1
    bottom = np.where(np.isnan(low), ends[0], low)
    top = np.where(np.isnan(high), ends[1], high)
    axes.vlines(place[several], bottom[several], top[several], color=colour, linewidth=pt(1.0))
    for censored, marker, end in (("<", "v", ends[0]), (">", "^", ends[1])):
        beyond = (rows["censored"] == censored).to_numpy()
        axes.plot(
            place[beyond], np.full(beyond.sum(), end), marker, color=colour, markerfacecolor="white"
        )
