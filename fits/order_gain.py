"""What an order of quality gains over the uniform one, how that depends on decay, and on averaging.

The independent unit is the seed: runs of one seed draw the same initial weights and read the same
windows whatever their order, so gains are paired. Effects are nats of loss on clean text; a best
end rate lies between 0 and a constant rate, which is as far as a decay can go.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fits.comparing import Comparison, compare
from fits.errors import Refused

UNIFORM, ASCENDING, LAST = "uniform", "ascending", "last"
STATE = ""  # of the column `average`: no average, the state itself
RIVALS = ("order-gain", "order-gain-linear", "order-gain-saturating", "order-gain-log")
MIN_ENDS = 5  # of the law: one is left out, three parameters, and one to spare


@dataclass(frozen=True)
class Arm:
    """What the runs of an arm have in common. `side` is that of the line, or `map`."""

    order: str
    side: str
    peak: float
    shape: str


def order_ends(results: pd.DataFrame, arms: Mapping[str, Arm], text: str) -> pd.DataFrame:
    """A row per run and average at the run's end: its loss on `text`, inf if it diverged.

    Columns: order, side, peak, shape, unit (the seed), end_ratio (end rate over peak), average,
    loss_nats. `results` is the tidy table of a sweep whose runs differ, within an arm, in seed and
    end rate. Raises Refused.
    """
    needed = {"arm", "seed", "pretrain_end_lr", "status", "step", "corpus", "loss_nats", "average"}
    if missing := sorted(needed - set(results.columns)):
        raise Refused(f"the table lacks {', '.join(missing)}")
    known = results["status"].isin(["done", "diverged"]) & results["arm"].isin(list(arms))
    rows = results[known & (results["corpus"] == text)]
    if rows.empty:
        raise Refused(f"the table has no finished run evaluated on {text!r}")
    rows = rows.assign(average=rows["average"].fillna(STATE))  # as a CSV has it
    places = ["arm", "seed", "pretrain_end_lr", "average"]
    ends = rows.sort_values("step", kind="stable").drop_duplicates(places, keep="last")
    ended = (ends["status"] == "done") & np.isfinite(ends["loss_nats"])
    told = [arms[name] for name in ends["arm"]]
    peak = np.array([one.peak for one in told])
    found = pd.DataFrame(
        {
            "order": [one.order for one in told],
            "side": [one.side for one in told],
            "peak": peak,
            "shape": [one.shape for one in told],
            "unit": ends["seed"].to_numpy(),
            "end_ratio": (ends["pretrain_end_lr"] / peak).round(6),
            "average": ends["average"].to_numpy(),
            "loss_nats": np.where(ended, ends["loss_nats"], np.inf),
        }
    )
    order = {name: k for k, name in enumerate(dict.fromkeys(one.order for one in arms.values()))}
    found["place"] = found["order"].map(order)
    keys = ["peak", "shape", "place", "end_ratio", "average", "unit"]
    return found.sort_values(keys).drop(columns="place").reset_index(drop=True)


def gains(ends: pd.DataFrame) -> pd.DataFrame:
    """Loss in uniform order less that in every other, run by run: column `gain_nats`.

    Runs that diverged, or whose pair did, are left out.
    """
    keys = ["peak", "shape", "unit", "end_ratio", "average"]
    finite = ends[np.isfinite(ends["loss_nats"])]
    uniform = finite[finite["order"] == UNIFORM][[*keys, "loss_nats"]]
    others = finite[finite["order"] != UNIFORM]
    both = others.merge(uniform, on=keys, suffixes=("", "_uniform"), validate="m:1")
    return both.assign(gain_nats=both["loss_nats_uniform"] - both["loss_nats"])


def payoff(ends: pd.DataFrame, shape: str) -> pd.DataFrame:
    """What decay to 0 pays in uniform order, by peak and unit: column `pays_nats`."""
    uniform = ends[(ends["order"] == UNIFORM) & (ends["shape"] == shape)]
    wide = uniform[uniform["average"] == STATE].pivot_table(
        index=["peak", "unit"], columns="end_ratio", values="loss_nats"
    )
    if not {0.0, 1.0} <= set(wide.columns):
        raise Refused("no run in uniform order has ended at a constant rate and at 0")
    pays = (wide[1.0] - wide[0.0]).replace([np.inf, -np.inf], np.nan).dropna()
    return pays.rename("pays_nats").reset_index()


def lines(pays: pd.DataFrame) -> dict[int, float]:
    """By unit log2 of the peak from which on decay pays, between two peaks of the map.

    -inf where it pays at all of them, inf where at none.
    """
    found = {}
    for unit, rows in pays.groupby("unit"):
        rows = rows.sort_values("peak")
        x, y = np.log2(rows["peak"].to_numpy()), rows["pays_nats"].to_numpy()
        below = np.flatnonzero(y <= 0)
        if not len(below):
            found[int(unit)] = -math.inf
        elif (k := int(below[-1])) == len(y) - 1:
            found[int(unit)] = math.inf
        else:  # from here on it pays
            found[int(unit)] = float(x[k] - y[k] * (x[k + 1] - x[k]) / (y[k + 1] - y[k]))
    return found


def best_ends(ends: pd.DataFrame, side: str, order: str, shape: str) -> dict[int, float]:
    """By unit the end rate e of the least loss, as a share of the peak, without averaging.

    The vertex of the parabola in sqrt(e), a scale on which the end rates lie about evenly, through
    the least loss and its neighbours; a least loss at 0 or 1 is there, since no rate lies beyond.
    """
    mine = (ends["side"] == side) & (ends["order"] == order) & (ends["shape"] == shape)
    rows = ends[mine & (ends["average"] == STATE) & np.isfinite(ends["loss_nats"])]
    found = {}
    for unit, each in rows.groupby("unit"):
        each = each.sort_values("end_ratio")
        x, y = np.sqrt(each["end_ratio"].to_numpy()), each["loss_nats"].to_numpy()
        best = float(x[k := int(y.argmin())])
        if 0 < k < len(x) - 1:
            around = slice(k - 1, k + 2)
            bend, slope, _ = np.polyfit(x[around] - best, y[around], 2)
            best -= slope / (2 * bend) if bend > 0 else 0.0  # flat: all three are alike
        found[int(unit)] = float(best**2)
    return found


Losses = Mapping[tuple[str, float, str], Mapping[int, float]]  # order, end ratio, average -> unit


def losses(ends: pd.DataFrame, side: str, shape: str) -> Losses:
    """Finite losses of a side by (order, end ratio, average) and unit."""
    rows = ends[(ends["side"] == side) & (ends["shape"] == shape) & np.isfinite(ends["loss_nats"])]
    found: dict[tuple[str, float, str], dict[int, float]] = {}
    for one in rows.itertuples():
        key = str(one.order), float(one.end_ratio), str(one.average)
        found.setdefault(key, {})[int(one.unit)] = float(one.loss_nats)
    return found


def effects(ends: pd.DataFrame, side: str, shape: str, average: str) -> dict[str, list[float]]:
    """By statement its effect at every unit that has all that it needs, on one side of the line."""
    at = losses(ends, side, shape)

    def over_units(
        *terms: tuple[float, tuple[str, float, str]],
    ) -> list[float]:
        """The sum of weighted losses, unit by unit."""
        parts = [(weight, at.get(key, {})) for weight, key in terms]
        units = set.intersection(*(set(part) for _, part in parts))
        return [sum(w * part[unit] for w, part in parts) for unit in sorted(units)]

    def pair(
        end: float, kind: str, sign: float = 1.0
    ) -> list[tuple[float, tuple[str, float, str]]]:
        """Gain of ascending order at an end rate."""
        return [(sign, (UNIFORM, end, kind)), (-sign, (ASCENDING, end, kind))]

    best = {order: best_ends(ends, side, order, shape) for order in (UNIFORM, ASCENDING)}
    return {
        "shrinks": over_units(*pair(1.0, STATE), *pair(0.0, STATE, -1.0)),
        "best_end": [
            best[ASCENDING][unit] - best[UNIFORM][unit]
            for unit in sorted(set(best[ASCENDING]) & set(best[UNIFORM]))
        ],
        "averaging": over_units(*pair(1.0, average), *pair(1.0, STATE, -1.0)),
        "instead": over_units((1.0, (UNIFORM, 0.0, STATE)), (-1.0, (ASCENDING, 1.0, average))),
        "last": over_units((1.0, (UNIFORM, 1.0, STATE)), (-1.0, (LAST, 1.0, STATE))),
    }


def rank_laws(table: pd.DataFrame, side: str, shape: str) -> tuple[Comparison | None, str]:
    """(rival laws of the gain of ascending order against the end rate, why there are none).

    On the mean over the units that have every end rate; each end rate is left out in turn.
    """
    mine = (table["side"] == side) & (table["order"] == ASCENDING) & (table["shape"] == shape)
    rows = table[mine & (table["average"] == STATE)]
    ends = rows["end_ratio"].nunique()
    whole = rows[rows.groupby("unit")["end_ratio"].transform("nunique") == ends]
    if whole.empty or ends < MIN_ENDS:
        return None, f"{ends} end rates; laws are ranked from {MIN_ENDS} on"
    mean = whole.groupby("end_ratio", as_index=False)["gain_nats"].mean()
    try:
        return compare(RIVALS, mean, by="end_ratio"), ""
    except Refused as refusal:
        return None, str(refusal)
