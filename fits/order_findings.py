"""What a study of order against decay found: tables, figures, evidence for its claims."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fits.comparing import Comparison
from fits.engine.uncertainty import mean_interval
from fits.figures.order_figures import gain_figure, interaction_figure, payoff_figure
from fits.order_gain import (
    ASCENDING,
    STATE,
    UNIFORM,
    best_ends,
    effects,
    gains,
    lines,
    payoff,
    rank_laws,
)
from fits.report import Findings, Table
from fits.verdicts import Evidence, by_unit, nothing


def findings(
    ends: pd.DataFrame,
    sides: Mapping[str, float],
    shape: str,
    average: str,
    text: str,
    epochs: float,
    notes: Sequence[str],
) -> Findings:
    """The findings on `fits.order_gain.order_ends`.

    sides: side of the line -> its peak; shape: of the decay of the factorial; average: the one that
    claims speak of; epochs: of the text that is trained on.
    """
    pays = payoff(ends, shape)
    gained = gains(ends)
    found = {side: effects(ends, side, shape, average) for side in sides}
    ranked = {side: rank_laws(gained, side, shape) for side in sides}
    begins = lines(pays)
    pay_rows = _grouped(pays, ["peak"], "pays_nats", "pays")
    gain_rows = _grouped(
        gained[gained["average"] == STATE],
        ["side", "order", "shape", "end_ratio"],
        "gain_nats",
        "gain",
    )
    averages = _averages(ends, shape)
    best = _best_table(ends, sides, shape)
    tables = [
        Table(
            "gains",
            "Nats that an order gains over the uniform one on clean text, by side of the line, "
            "shape of decay and end rate (as a share of the peak): means over seeds with 95 % t "
            "intervals. last: only what is read while the rate falls is sorted.",
            gain_rows,
        ),
        Table(
            "best_ends",
            "Best end rate, as a share of the peak: vertex of a parabola in its root through "
            "the least loss and its neighbours (mean over seeds with t intervals); and the least "
            "loss among the end rates tried.",
            best,
        ),
        Table(
            "averages",
            "Nats by which averaging the last states lowers the loss (positive: it helps).",
            averages,
        ),
        Table(
            "where decay pays",
            "Loss at a constant rate less that at an end rate of 0, uniform order.",
            pay_rows,
        ),
        Table(
            "losses",
            "Mean and standard deviation of the loss at the end over the seeds that ended.",
            _losses(ends),
        ),
    ]
    laws = _law_table({side: one for side, (one, _) in ranked.items()})
    if len(laws):
        caption = (
            "Laws of the gain of ascending order against the end rate, ranked by held-out loss: "
            "each end rate is left out in turn. order-gain is the hypothesis."
        )
        tables.insert(1, Table("laws", caption, laws))
    comparisons = {side: one for side, (one, _) in ranked.items()}
    return Findings(
        headline=_headline(found, gain_rows, begins),
        tables=tables,
        fits=[
            one.fits["order-gain"]
            for one in comparisons.values()
            if one is not None and "order-gain" in one.fits
        ],
        figures=[
            interaction_figure(ends, shape, average, text),
            gain_figure(gained, shape, comparisons),
            payoff_figure(pays, sides),
        ],
        notes=[
            *notes,
            *_notes(pays, sides, begins, {side: why for side, (_, why) in ranked.items()}),
        ],
        readings={
            "line_log2_peak": {str(unit): _plain(one) for unit, one in begins.items()},
            "gains": gain_rows.replace({np.nan: None}).to_dict("records"),
            "best_ends": best.replace({np.nan: None}).to_dict("records"),
        },
        evidence=evidence(found, epochs),
    )


def evidence(
    found: Mapping[str, Mapping[str, Sequence[float]]], epochs: float
) -> dict[str, Evidence]:
    """What the seeds say of each statement, a side at a time: `shrinks_low`, ..."""
    return {
        f"{name}_{side}": by_unit(each, epochs) if each else nothing("no seed has all it needs")
        for side, by_name in found.items()
        for name, each in by_name.items()
    }


# Tables ---------------------------------------------------------------------------------------


def _grouped(rows: pd.DataFrame, keys: list[str], column: str, name: str) -> pd.DataFrame:
    """Mean of a column over units with its t interval, a row for each value of the keys."""
    out = []
    for values, part in rows.groupby(keys, sort=False):
        out.append({**dict(zip(keys, values, strict=True)), **_mean(name, part[column].tolist())})
    columns = [*keys, name, f"{name} low", f"{name} high", "seeds"]
    return pd.DataFrame(out, columns=columns)


def _mean(name: str, each: list[float]) -> dict[str, Any]:
    interval = mean_interval(each)
    return {
        name: float(np.mean(each)) if each else math.nan,
        f"{name} low": math.nan if interval.low is None else interval.low,
        f"{name} high": math.nan if interval.high is None else interval.high,
        "seeds": len(each),
    }


def _averages(ends: pd.DataFrame, shape: str) -> pd.DataFrame:
    keys = ["side", "order", "peak", "end_ratio", "unit"]
    rows = ends[(ends["shape"] == shape) & np.isfinite(ends["loss_nats"])]
    states = rows[rows["average"] == STATE][[*keys, "loss_nats"]]
    both = rows[rows["average"] != STATE].merge(states, on=keys, suffixes=("", "_state"))
    both["lowers"] = both["loss_nats_state"] - both["loss_nats"]
    return _grouped(both, ["side", "peak", "order", "end_ratio", "average"], "lowers", "lowers")


def _best_table(ends: pd.DataFrame, sides: Mapping[str, float], shape: str) -> pd.DataFrame:
    rows = []
    for side, peak in sides.items():
        for order in (UNIFORM, ASCENDING):
            each = best_ends(ends, side, order, shape)
            mine = (ends["side"] == side) & (ends["order"] == order) & (ends["shape"] == shape)
            mine &= (ends["average"] == STATE) & np.isfinite(ends["loss_nats"])
            least = ends[mine].groupby("unit")["loss_nats"].min()
            rows.append(
                {
                    "side": side,
                    "peak": peak,
                    "order": order,
                    **_mean("best end", [*each.values()]),
                    "least loss": float(least.mean()) if len(least) else math.nan,
                }
            )
    return pd.DataFrame(rows)


def _losses(ends: pd.DataFrame) -> pd.DataFrame:
    keys = ["side", "peak", "order", "shape", "end_ratio", "average"]
    shown = ends.assign(loss_nats=ends["loss_nats"].replace(np.inf, np.nan))
    found = shown.groupby(keys, sort=False)["loss_nats"].agg(["mean", "std", "count", "size"])
    found["diverged"] = found["size"] - found["count"]
    names = {"mean": "loss_nats", "std": "sd_over_seeds", "count": "seeds"}
    return found.reset_index().rename(columns=names).drop(columns="size")


def _law_table(ranked: Mapping[str, Comparison | None]) -> pd.DataFrame:
    parts = []
    for side, one in ranked.items():
        if one is not None:
            table = one.table[["rank", "law", "free", "loss", "difference", "verdict", "why"]]
            rms = np.sqrt(table["loss"].to_numpy(np.float64))
            parts.append(table.assign(side=side, rms_nats=rms).drop(columns="loss"))
    if not parts:
        return pd.DataFrame()
    joined = pd.concat(parts, ignore_index=True)
    return joined[["side", "rank", "law", "free", "rms_nats", "difference", "verdict", "why"]]


# Words ----------------------------------------------------------------------------------------


def _headline(
    found: Mapping[str, Mapping[str, Sequence[float]]],
    gain_rows: pd.DataFrame,
    begins: Mapping[int, float],
) -> str:
    said = []
    for side in found:
        mine = (gain_rows["side"] == side) & (gain_rows["order"] == ASCENDING)
        at = gain_rows[mine].groupby("end_ratio")["gain"].first()
        if {0.0, 1.0} <= set(at.index):
            said.append(
                f"at the {side} peak ascending order gains {at[1.0]:.3f} nats at a constant rate "
                f"and {at[0.0]:.3f} where the rate falls to 0"
            )
    inside = [one for one in begins.values() if math.isfinite(one)]
    if inside:
        said.append(f"decay begins to pay at a peak of {2 ** np.mean(inside):.2g}")
    text = "; ".join(said) or "No seed has what the statements need"
    return f"{text[0].upper()}{text[1:]}."


def _notes(
    pays: pd.DataFrame,
    sides: Mapping[str, float],
    begins: Mapping[int, float],
    why: Mapping[str, str],
) -> list[str]:
    said = []
    for side, peak in sides.items():
        each = pays[pays["peak"] == peak]["pays_nats"].tolist()
        if not each:
            continue
        one = mean_interval(each)
        text = (
            f"Side {side}, peak {peak:.3g}: in uniform order decay to 0 pays {np.mean(each):+.3f}"
        )
        if one.low is not None and one.high is not None:
            text += f" nats ({one.low:+.3f} .. {one.high:+.3f})"
            apart = one.high < 0 if side == "low" else one.low > 0
            if not apart:
                text += f": it is not shown to lie on the {side} side of the line"
        said.append(f"{text}.")
    outside = [one for one in begins.values() if not math.isfinite(one)]
    if outside:
        below = sum(one < 0 for one in outside)
        said.append(
            f"The line lies beyond the peaks of the map for {len(outside)} of {len(begins)} seeds "
            f"({below} below, {len(outside) - below} above)."
        )
    said += [f"No law of the gain on side {side}: {one}." for side, one in why.items() if one]
    return said


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
