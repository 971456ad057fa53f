"""The best peak rate of each width, read off a grid of rates; and what a rate copied costs.

Yang et al. 2022 (2203.03466): under the standard parametrisation the best rate falls with width,
under muP it stays. Of every parametrisation, width and seed the losses lie over log2 of the peak
rate; a parabola through those within WINDOW octaves of the least loss has its vertex at the best
rate. Over a wider range a loss is no parabola; within this one its flat bottom is smoothed over, so
that the vertex lies a little below the losses there. An exponent is spared what is so at every
width.

A least loss at the end of the rates tried, or beside a rate that diverged with too few places left,
is no optimum: it is said, and takes no part. The independent unit is the seed, which draws initial
weights and order of the data of all widths and rates alike.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fits.errors import Refused
from fits.parabola import parabola

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
Key = tuple[str, int, int]  # parametrisation, width, tokens

WINDOW = 2.0  # octaves to each side of the least loss that the parabola goes through
MIN_PLACES = 3  # of a parabola
MIN_WIDTHS = 3  # of a slope
STANDARD, MUP = "standard", "mup"
SHOWN = {STANDARD: "standard", MUP: "muP"}  # in figures and sentences
_SAME = 1e-6  # octaves: a rate so near to the end of those tried is that end


def rate_ends(results: pd.DataFrame, arms: Mapping[str, Key], corpus: str) -> pd.DataFrame:
    """One row per run that ended, or diverged: its loss on `corpus` at its end, inf if diverged.

    `results` is the tidy table of a sweep whose arms differ in parametrisation, width and tokens,
    and runs of an arm in seed and `pretrain_peak_lr`. Columns: parametrisation, width, tokens, unit
    (the seed), lr (peak), loss_nats, epochs. Raises Refused.
    """
    needed = {"arm", "run", "seed", "pretrain_peak_lr", "status", "step", "corpus"}
    missing = sorted((needed | {"loss_nats", "epochs"}) - set(results.columns))
    if missing:
        raise Refused(f"the table lacks {', '.join(missing)}")
    if twice := len(arms) - len(set(arms.values())):
        raise Refused(f"{twice} arms are of a parametrisation, width and tokens that another has")
    known = results["status"].isin(["done", "diverged"]) & results["arm"].isin(list(arms))
    rows = results[known & (results["corpus"] == corpus)]
    if rows.empty:
        raise Refused(f"the table has no finished run evaluated on {corpus!r}")
    places = ["arm", "seed", "pretrain_peak_lr"]
    ends = rows.sort_values("step").drop_duplicates(places, keep="last")
    ended = (ends["status"] == "done") & np.isfinite(ends["loss_nats"])
    found = pd.DataFrame(
        {
            "parametrisation": [arms[name][0] for name in ends["arm"]],
            "width": [arms[name][1] for name in ends["arm"]],
            "tokens": [arms[name][2] for name in ends["arm"]],
            "unit": ends["seed"].to_numpy(),
            "lr": ends["pretrain_peak_lr"].to_numpy(np.float64),
            "loss_nats": np.where(ended, ends["loss_nats"], np.inf),
            "epochs": ends["epochs"].to_numpy(np.float64),
        }
    )
    # standard before mup, in the order in which the arms were given
    order = {name: k for k, name in enumerate(dict.fromkeys(key[0] for key in arms.values()))}
    found["order"] = found["parametrisation"].map(order)
    found = found.sort_values(["order", "tokens", "width", "unit", "lr"]).drop(columns="order")
    return found.reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class RateCurve:
    """Losses [n] of one model and seed over ascending log2 rate; inf where a run diverged.

    `best` is log2 of the best rate, `least` the parabola's loss there, `bend` in nats an octave
    squared, `window` the (log2) rates that it goes through; `edge` says why there is no best rate,
    and then these are NaN.
    """

    log2_lr: Floats
    loss: Floats
    best: float
    least: float
    bend: float
    window: Bounds
    edge: str

    def cost(self, lr: float) -> Bounds:
        """(least, most) nats that a rate costs beside the best: equal where it can be read off.

        By the parabola within its window; beyond it straight between the losses measured. Where the
        next rate diverged it is the worst loss of those that did not, or more. Raises Refused where
        there is no best rate, or this one lies beyond those tried.
        """
        if self.edge:
            raise Refused(self.edge)
        x = math.log2(lr)
        low, high = self.log2_lr[0], self.log2_lr[-1]
        if not low - _SAME <= x <= high + _SAME:
            raise Refused(f"the rate {lr:.3g} lies beyond those tried, {2**low:.3g}..{2**high:.3g}")
        if self.window[0] <= x <= self.window[1]:
            value = self.bend * (x - self.best) ** 2
            return value, value
        x = min(max(x, low), high)
        after = min(int(np.searchsorted(self.log2_lr, x)), len(self.loss) - 1)
        between = {after, after if self.log2_lr[after] == x else after - 1}
        if not all(math.isfinite(self.loss[k]) for k in between):
            return float(self.loss[np.isfinite(self.loss)].max()) - self.least, math.inf
        value = float(np.interp(x, self.log2_lr, self.loss)) - self.least
        return value, value


def rate_curve(lr: Iterable[float], loss: Iterable[float]) -> RateCurve:
    """Peak rates [n] in any order, and the loss at the end of each; inf where it diverged."""
    x, y = np.log2(np.asarray([*lr], np.float64)), np.asarray([*loss], np.float64)
    order = np.argsort(x)
    x, y = x[order], y[order]
    ended = np.isfinite(y)
    none = RateCurve(x, y, math.nan, math.nan, math.nan, (math.nan, math.nan), "")

    def edge(why: str) -> RateCurve:
        return RateCurve(**{**vars(none), "edge": why})

    if ended.sum() < MIN_PLACES:
        return edge(f"{ended.sum()} rates ended well, a parabola needs {MIN_PLACES}")
    k = int(np.argmin(np.where(ended, y, np.inf)))
    if k == 0:
        return edge("the smallest rate tried is best")
    if k == len(x) - 1:
        return edge("the largest rate tried is best")
    near = ended & (np.abs(x - x[k]) <= WINDOW + _SAME)
    window = float(x[near][0]), float(x[near][-1])
    if near.sum() < MIN_PLACES or x[k] in window:
        return edge("the rates beside the best one diverged, or lie too far from it")
    found = parabola(x[near], y[near, None])
    if why := str(found.why_none(*window, "rates")[0]):
        return edge(why)
    best, least, bend = (float(one[0]) for one in (found.vertex, found.least, found.bend))
    return RateCurve(x, y, best, least, bend, window, "")


Curves = dict[str, dict[int, dict[int, RateCurve]]]  # parametrisation -> width -> seed


def rate_curves(ends: pd.DataFrame) -> Curves:
    """The curve of every parametrisation, width and seed, of rows of `rate_ends` of one length."""
    found: Curves = {}
    for (kind, width, unit), rows in ends.groupby(["parametrisation", "width", "unit"], sort=False):
        curve = rate_curve(rows["lr"], rows["loss_nats"])
        found.setdefault(str(kind), {}).setdefault(int(width), {})[int(unit)] = curve
    return found


def edges(curves: Curves) -> list[str]:
    """A line for every parametrisation, width and reason why there is no best rate."""
    said = []
    for kind, widths in curves.items():
        for width, by_seed in widths.items():
            whys = [one.edge for one in by_seed.values() if one.edge]
            for why in dict.fromkeys(whys):
                count = f"{whys.count(why)} of {len(by_seed)} seeds"
                said.append(f"{SHOWN[kind]} at width {width}, {count}: {why}; not counted")
    return said


@dataclass(frozen=True)
class PowerOfWidth:
    """Best rate = rate_at_base (width / base)^exponent, of one seed, through its `widths`."""

    exponent: float
    rate_at_base: float
    widths: int


def powers(curves: Mapping[int, Mapping[int, RateCurve]], base: int) -> dict[int, PowerOfWidth]:
    """By seed: least squares of log best rate on log width; none with fewer than MIN_WIDTHS."""
    places: dict[int, list[tuple[float, float]]] = {}
    for width, by_seed in curves.items():
        for unit, one in by_seed.items():
            places.setdefault(unit, [])
            if not one.edge:
                places[unit].append((math.log2(width / base), one.best))
    found = {}
    for unit, pairs in sorted(places.items()):
        if len(pairs) >= MIN_WIDTHS:
            wider, best = np.array(pairs).T
            slope, height = np.polyfit(wider, best, 1)
            found[unit] = PowerOfWidth(float(slope), float(2**height), len(pairs))
    return found


def copied_costs(
    curves: Mapping[int, Mapping[int, RateCurve]], base: int, width: int
) -> tuple[dict[int, Bounds], str]:
    """(nats by seed that the base's best rate costs at a width beside its own, why not others)."""
    costs, why = {}, ""
    for unit, one in curves.get(width, {}).items():
        source = curves.get(base, {}).get(unit)
        if source is None or source.edge:
            why = why or f"no best rate at width {base}: {source.edge if source else 'not run'}"
            continue
        try:
            costs[unit] = one.cost(2**source.best)
        except Refused as refusal:
            why = why or f"width {width}: {refusal}"
    return costs, why
