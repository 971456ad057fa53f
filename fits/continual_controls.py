"""Controls of a continual pre-training sweep, and which of the two criteria binds.

How far a domain lies from the trunk, what continuing is worth against starting afresh, whether the
general loss still falls at the critical ratio, and the critical ratio by tolerance and by turning
point side by side (Gu et al. 2024, arXiv 2407.17467, whose figures leave open which of the two set
the published numbers).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fits.critical import critical_ratio, turning_ratio
from fits.critical_laws import Tolerance, criteria
from fits.errors import Refused
from fits.result import Fit
from fits.turning import turning_ratio_by_laws
from fits.unit_ratios import Bounds

ENDS = ("done",)  # statuses of runs whose last row is their end


def trunk_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Loss of the trunk on every corpus before it is continued: how far each lies from it.

    Columns: n_params, corpus, loss_nats (mean over units), sd_over_seeds, seeds.
    """
    once = table.drop_duplicates(["n_params", "unit", "corpus"])
    grouped = once.groupby(["n_params", "corpus"])["loss_before"].agg(["mean", "std", "count"])
    names = {"mean": "loss_nats", "std": "sd_over_seeds", "count": "seeds"}
    return grouped.rename(columns=names).reset_index()


def end_losses(results: pd.DataFrame, arm: str, corpus: str) -> dict[Any, float]:
    """Seed -> loss (nats/token) on a corpus at the end of the arm's run, one run a seed.

    Raises Refused where the arm has several runs of a seed: choose among them first.
    """
    rows = results[(results["arm"] == arm) & (results["corpus"] == corpus)]
    rows = rows[rows["status"].isin(ENDS)]
    last = rows.sort_values("step").groupby(["seed", "run"])["loss_nats"].last().reset_index()
    if last["seed"].duplicated().any():
        raise Refused(f"arm {arm} has several runs of a seed")
    return dict(zip(last["seed"], last["loss_nats"], strict=True))


def branch_losses(
    table: pd.DataFrame,
    corpus: str,
    size: int,
    ratio: float,
    horizon: int,
    column: str = "loss_nats",
) -> dict[Any, float]:
    """Unit -> loss (or its `change`; nats/token) on a corpus at one ratio and horizon."""
    here = table[
        (table["corpus"] == corpus)
        & (table["n_params"] == size)
        & (table["ratio"] == ratio)
        & (table["tokens"] == horizon)
    ]
    return dict(zip(here["unit"], here[column].astype(float), strict=True))


def falls_at_critical(
    table: pd.DataFrame,
    general: str,
    size: int,
    critical: dict[Any, Bounds],
    earlier: int,
    horizon: int,
) -> dict[Any, Bounds]:
    """Unit -> fall of its general loss (nats) from `earlier` to `horizon` tokens, at its own R*.

    Interpolated in R between the ratios that ran (PCHIP). A fall says that the turning point is
    passed. Fixed horizons, and not the peak: the largest of several noisy losses lies above the
    last of them even where nothing turns. Unbounded where the unit's critical ratio is censored.
    """
    from scipy.interpolate import PchipInterpolator

    here = table[(table["corpus"] == general) & (table["n_params"] == size)]
    here = here[(here["ratio"] > 0) & (here["ratio"] < 1)]
    falls: dict[Any, Bounds] = {}
    for unit, (low, high) in critical.items():
        own = here[here["unit"] == unit].pivot_table(
            index="ratio", columns="tokens", values="change"
        )
        if low < high:
            falls[unit] = (-math.inf, math.inf)
            continue
        fall = (own[earlier] - own[horizon]).dropna()
        value = float(PchipInterpolator(fall.index.to_numpy(float), fall.to_numpy())(low))
        falls[unit] = (value, value)
    return falls


def both_criteria(
    table: pd.DataFrame, general: str, horizon: int, eps: Sequence[float]
) -> pd.DataFrame:
    """Tolerance and turning point at one horizon, and which is the lesser: a row a size and eps.

    Columns: n_params, eps, tolerance, interval, turning_point, binds, critical_ratio (of both; a
    text). Both are read off the measured losses, means over units.
    """
    loss = table[table["corpus"] == general]
    rows: list[dict[str, Any]] = []
    for size, of_size in loss.groupby("n_params"):
        here = of_size[of_size["tokens"] == horizon]
        turning = turning_ratio(of_size, horizon)
        for tolerance in eps:
            one = critical_ratio(here, tolerance)
            both = criteria(Tolerance(one, tolerance, None, "t over units"), turning, {})
            if both.ratio is not None:
                joint = f"{both.ratio:.3f}"
            else:
                joint = one.text() if both.binds != "turning point" else "none"
            rows.append(
                {
                    "n_params": size,
                    "eps": tolerance,
                    "tolerance": one.text(),
                    "interval": one.interval_text(),
                    "turning_point": turning.text(),
                    "binds": both.binds or "neither within the grid",
                    "critical_ratio": joint,
                }
            )
    return pd.DataFrame(rows)


def turning_by_laws(
    fits: Sequence[Fit], size: int, lams: Sequence[float], horizon: int
) -> pd.DataFrame:
    """The paper's own second criterion: where its two token laws turn, a row a lam and ratio.

    Columns: n_params, lam, ratio, turns, within_horizon, rms_nats (of the law of the general loss).
    `fits`: those of `fits.continual.token_laws`; sizes other than `size` take no part.
    """
    own = [one for one in fits if one.group.get("n_params") == size]
    general = [one for one in own if one.law_name == "cmr-general-tokens"]
    domain = [one for one in own if one.law_name == "cmr-domain-tokens"]
    columns = ["n_params", "lam", "ratio", "turns", "within_horizon", "rms_nats"]
    shared = {one.group["ratio_domain"] for one in general} & {
        one.group["ratio_domain"] for one in domain
    }
    general = [one for one in general if one.group["ratio_domain"] in shared]
    domain = [one for one in domain if one.group["ratio_domain"] in shared]
    rows: list[dict[str, Any]] = []
    for lam in lams if shared else ():
        _, points = turning_ratio_by_laws(general, domain, lam, horizon=float(horizon))
        for one in general:
            ratio = float(one.group["ratio_domain"])
            rows.append(
                {
                    "n_params": size,
                    "lam": lam,
                    "ratio": ratio,
                    "turns": points[ratio].text(),
                    "within_horizon": points[ratio].feasible,
                    "rms_nats": one.residual_rms,
                }
            )
    return pd.DataFrame(rows, columns=columns)


def mean_and_sd(values: dict[Any, float]) -> dict[str, float | int]:
    """loss_nats, sd_over_seeds, seeds of one row of a table of controls."""
    each = np.array(list(values.values()))
    return {
        "loss_nats": float(each.mean()) if len(each) else math.nan,
        "sd_over_seeds": float(each.std(ddof=1)) if len(each) > 1 else math.nan,
        "seeds": len(each),
    }
