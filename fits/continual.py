"""Reads a continual pre-training sweep: changes from the branch point, noise, ratios, laws.

Everything starts from a tidy table (one row per run, state and corpus) with the columns
n_params, trunk, phase, step_in_phase, tokens_in_phase, corpus, loss_nats and a ratio column. The
independent unit is the trunk: branches off one trunk share its seed and are no replicates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fits.critical import critical_ratio, turning_ratio
from fits.engine.uncertainty import mean_interval, unit_intervals
from fits.errors import Refused
from fits.fitting import fit
from fits.interval import Interval
from fits.laws import law as law_named
from fits.result import Fit, HeldOut

MIN_HORIZONS = 5  # uncensored ones, before R_CMR(T) is fitted: it has three parameters


def changes(results: pd.DataFrame, phase: str, ratio: str) -> pd.DataFrame:
    """Change of loss since the branch point, one row per size, unit, ratio, corpus and state.

    Columns: n_params, unit, ratio, corpus, tokens, loss_nats, loss_before, change, and
    against_control (change less that of the same trunk's R = 0 branch; NaN without one); and run,
    where the table has it.
    Runs that diverged take no part. Raises Refused on missing columns.
    """
    needed = {"n_params", "trunk", "phase", "step", "tokens_in_phase", "corpus", "loss_nats", ratio}
    missing = sorted(needed - set(results.columns))
    if missing:
        raise Refused(f"the table lacks {', '.join(missing)}")
    sound = results
    if "status" in results.columns:
        sound = results[~results["status"].isin(["diverged", "diverged parent"])]
    inside = sound[sound["phase"] == phase]
    if inside.empty:
        raise Refused(f"the table has no finished run with a phase {phase!r}")
    branch = ["n_params", "trunk", "corpus"]
    begun = inside.groupby(branch)["step"].min().rename("begun")
    before = sound[sound["phase"] != phase].join(begun, on=branch)
    before = before[before["step"] <= before["begun"]]  # not what comes after the phase
    at_branch = before.sort_values("step").groupby(branch)["loss_nats"].last()
    out = pd.DataFrame(
        {
            "n_params": inside["n_params"],
            "unit": inside["trunk"],
            "ratio": inside[ratio].astype(float),
            "corpus": inside["corpus"],
            "tokens": inside["tokens_in_phase"],
            "loss_nats": inside["loss_nats"],
        }
    )
    if "run" in inside.columns:
        out["run"] = inside["run"]
    keys = pd.MultiIndex.from_frame(inside[branch])
    out["loss_before"] = at_branch.reindex(keys).to_numpy()
    out["change"] = out["loss_nats"] - out["loss_before"]
    places = ["n_params", "unit", "corpus", "tokens"]
    control = out[out["ratio"] == 0].drop_duplicates(places).set_index(places)["change"]
    own = control.reindex(pd.MultiIndex.from_frame(out[places])).to_numpy()
    out["against_control"] = out["change"] - own
    return out.drop_duplicates([*places, "ratio"]).reset_index(drop=True)


def readings(
    table: pd.DataFrame, general: str, horizons: Sequence[int], eps: Sequence[float]
) -> pd.DataFrame:
    """The critical ratio of every size, horizon and tolerance: value, interval, censoring.

    `table` is that of `changes`. The turning-point criterion stands beside it, and the change of
    the control (R = 0): where it alone is below eps - change, the tolerance is not used up by the
    domain.
    """
    rows: list[dict[str, Any]] = []
    loss = table[table["corpus"] == general]
    for size, of_size in loss.groupby("n_params"):
        for horizon in horizons:
            here = of_size[of_size["tokens"] == horizon]
            if here.empty:
                continue
            turning = turning_ratio(of_size, horizon)
            control = here[here["ratio"] == 0]["change"]
            for tolerance in eps:
                one = critical_ratio(here, tolerance)
                rows.append(
                    {
                        "n_params": size,
                        "horizon_tokens": horizon,
                        "eps": tolerance,
                        "critical_ratio": one.ratio if one.ratio is not None else np.nan,
                        "low": one.low if one.low is not None else np.nan,
                        "high": one.high if one.high is not None else np.nan,
                        "reading": one.text(),
                        "interval": one.interval_text(),
                        "censored": one.censored,
                        "seeds": one.units,
                        "turning_point": turning.text(),
                        "control_change": control.mean() if len(control) else np.nan,
                    }
                )
    return pd.DataFrame(rows)


@dataclasses.dataclass(frozen=True)
class Growth:
    """Interval of the change of a critical ratio between two horizons, paired over trunk seeds."""

    first_tokens: int
    last_tokens: int
    low: float
    high: float
    units: int


def growth(table: pd.DataFrame, general: str, horizons: Sequence[int], eps: float) -> Growth | None:
    """Growth of the critical ratio over the horizons at which no seed is censored.

    Of the smallest size with several seeds. None with fewer than two such horizons.
    """
    loss = table[table["corpus"] == general]
    seeds = loss.groupby("n_params")["unit"].nunique()
    several = loss[loss["n_params"] == seeds[seeds > 1].index.min()]
    each: dict[int, dict[Any, float]] = {}
    for horizon in horizons:
        of_units = several[several["tokens"] == horizon].groupby("unit")
        ratios = {unit: critical_ratio(rows, eps).ratio for unit, rows in of_units}
        if ratios and None not in ratios.values():
            each[horizon] = {unit: ratio for unit, ratio in ratios.items() if ratio is not None}
    if len(each) < 2:
        return None
    first, last = min(each), max(each)
    rises = [each[last][unit] - ratio for unit, ratio in each[first].items() if unit in each[last]]
    one = mean_interval(rises)
    if one.low is None or one.high is None:
        return None
    return Growth(first, last, one.low, one.high, len(rises))


def seed_noise(table: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Mean change and its standard deviation over trunk seeds, by size, corpus and ratio."""
    here = table[table["tokens"] == horizon]
    grouped = here.groupby(["n_params", "corpus", "ratio"])
    out = grouped["change"].agg(["mean", "std", "count"]).reset_index()
    out["against_control"] = grouped["against_control"].mean().to_numpy()
    names = {"mean": "change_nats", "std": "sd_over_seeds", "count": "seeds"}
    return out.rename(columns=names)[
        ["n_params", "corpus", "ratio", "change_nats", "against_control", "sd_over_seeds", "seeds"]
    ]


def pooled_sd(noise: pd.DataFrame, corpus: str) -> float:
    """Root mean square of the standard deviation over seeds, ratios below 1; NaN with one seed."""
    rows = noise[(noise["corpus"] == corpus) & (noise["seeds"] > 1) & (noise["ratio"] < 1)]
    spread = rows["sd_over_seeds"]
    return float(np.sqrt(np.mean(spread**2))) if len(spread) else float("nan")


# Laws ---------------------------------------------------------------------------------------


def ratio_laws(table: pd.DataFrame, horizon: int, held_out: float) -> list[Fit]:
    """`cmr-ratio` for every size and corpus at one horizon, the ratio nearest `held_out` predicted.

    Ratios 0 and 1 take no part. With several seeds each is fitted alone and the intervals are t
    over seeds; with one they are profiles over the scatter around the law, which is no seed noise.
    """
    fits: list[Fit] = []
    inner = table[(table["tokens"] == horizon) & (table["ratio"] > 0) & (table["ratio"] < 1)]
    for (size, corpus), rows in inner.groupby(["n_params", "corpus"]):
        ratios = np.sort(rows["ratio"].unique())
        away = ratios[np.argmin(np.abs(ratios - held_out))]
        if len(ratios) < 4:  # three parameters, and one ratio to predict
            continue
        options = {
            "columns": {"ratio_domain": "ratio"},
            "holdout": f"ratio == {float(away)!r}",
            "group": {"n_params": int(size), "corpus": str(corpus), "cpt_tokens": int(horizon)},
            "name": f"{corpus} loss against ratio",
        }
        fits.append(over_units("cmr-ratio", rows, "loss_nats", "ratio", options))
    return fits


def token_laws(table: pd.DataFrame, general: str, domain: str, after: int) -> list[Fit]:
    """Change of domain loss, and two-term change of general loss, against tokens.

    For every size and ratio in (0, 1) that was evaluated more often than the law has parameters;
    points at `after` tokens or fewer (the rewarm) are left out.
    """
    fits: list[Fit] = []
    inner = table[(table["tokens"] > after) & (table["ratio"] > 0) & (table["ratio"] < 1)]
    for law, corpus in (("cmr-domain-tokens", domain), ("cmr-general-tokens", general)):
        for (size, ratio), rows in inner[inner["corpus"] == corpus].groupby(["n_params", "ratio"]):
            options = {
                "columns": {"cpt_tokens": "tokens", "change_nats": "change"},
                "group": {"n_params": int(size), "ratio_domain": float(ratio)},
                "name": f"change of {corpus} loss against tokens",
            }
            if rows["tokens"].nunique() > len(law_named(law).names):
                fits.append(over_units(law, rows, "change", "tokens", options))
    return fits


def critical_laws(read: pd.DataFrame) -> tuple[list[Fit], list[str]]:
    """`cmr-critical` per size and tolerance with enough uncensored horizons; and who has not."""
    fits: list[Fit] = []
    without: list[str] = []
    for (size, eps), rows in read.groupby(["n_params", "eps"]):
        sound = rows[rows["censored"] == ""]
        group = {"n_params": int(size), "eps": float(eps)}
        if len(sound) < MIN_HORIZONS:
            without.append(
                f"R_CMR(T) at {size:,} parameters, eps {eps:g}: {len(sound)} uncensored horizons, "
                f"fitted only through {MIN_HORIZONS} or more"
            )
            continue
        columns, name = {"cpt_tokens": "horizon_tokens"}, "critical ratio against tokens"
        one = fit("cmr-critical", sound, columns=columns, group=group, name=name)
        note = "horizons of one sweep share their runs: the interval is too narrow for new runs"
        fits.append(dataclasses.replace(one, notes=(*one.notes, note)))
    return fits, without


def over_units(
    law: str, rows: pd.DataFrame, response: str, place: str, options: dict[str, Any]
) -> Fit:
    """Fit the mean over units; intervals are t over the units' own fits when there are several.

    rows: a row a unit and `place`, with the `response`; options: those of `fit`. Units that lack a
    place take no part. `unit_params` of the fit are in the order of the units.
    """
    places = rows[place].nunique()
    complete = [one for _, one in rows.groupby("unit") if one[place].nunique() == places]
    if complete:  # a mean over other seeds at one place than at the next would bend the curve
        rows = pd.concat(complete)
    mean = rows.groupby(place, as_index=False)[response].mean()
    if len(complete) < 2:
        note = "one seed: the interval knows the scatter around the law, not that of seeds"
        one = fit(law, mean, **options)
        return dataclasses.replace(one, notes=(*one.notes, note))
    centre = fit(law, mean, interval="none", **options)
    per_unit = [fit(law, one, interval="none", near=centre.params, **options) for one in complete]
    intervals = unit_intervals([one.params for one in per_unit], centre.params, centre.level)
    flat = sum(bool(one.identified.unidentified) for one in per_unit)
    if flat:
        reason = f"not identified in {flat} of {len(per_unit)} seeds"
        intervals = {name: Interval(None, None, "none", reason) for name in intervals}
    params = tuple(one.params for one in per_unit)
    held_out = tuple(
        _bounded(row, [one.held_out[k].predicted for one in per_unit], centre.level)
        for k, row in enumerate(centre.held_out)
    )
    return dataclasses.replace(centre, intervals=intervals, unit_params=params, held_out=held_out)


def _bounded(row: HeldOut, predicted: list[float], level: float) -> HeldOut:
    """The held-out row with a t interval over the units' predictions."""
    each = [{"predicted": value} for value in predicted]
    one = unit_intervals(each, {"predicted": row.predicted}, level)["predicted"]
    return dataclasses.replace(row, low=one.low, high=one.high)
