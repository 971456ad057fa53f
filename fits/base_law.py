"""The base law read from runs that were cooled down: three approaches to the compute-optimal size.

Hoffmann et al. 2022 (2203.15556, sections 3.1 to 3.3): the envelope of loss curves, the least loss
at each budget, and L(N, D) = E + A / N^alpha + B / D^beta, whose exponent of N* ~ C^a is
beta / (alpha + beta) (eq. 4). All three read one table here: a row per run, at the end of its
cool-down. A curve of the envelope is therefore made of cooled ends, one a horizon, and never of
losses in the middle of a schedule.

The independent unit is the trunk's seed, which all horizons of a size share: every approach reads
each seed's grid by itself, and intervals are t over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fits.comparing import compare
from fits.engine.uncertainty import mean_interval
from fits.envelopes import envelope
from fits.errors import Refused
from fits.fitting import fit
from fits.frontier import Frontier
from fits.isoflops import MIN_SIZES, isoflop
from fits.quantities import prediction
from fits.result import Fit

APPROACHES = ("envelope", "isoflop", "parametric")
COUNTS = {"with embeddings": "n_params", "without embeddings": "n_params_non_embedding"}
AT_BOUND = 1e-6  # of the least possible loss
SAME_BUDGET = 0.03  # horizons are whole steps: budgets of one name differ by less


def cooled_ends(results: pd.DataFrame, corpus: str) -> pd.DataFrame:
    """One row per run that ended well: its size, tokens, FLOPs and loss on `corpus` at its end.

    `results` is the tidy table of a sweep whose runs differ in size, tokens and seed, and all end
    in a cool-down. Columns: arm, unit (the seed), n_params, n_params_non_embedding, n_tokens,
    budget_flop, epochs, loss_nats. Raises Refused.
    """
    needed = {"arm", "run", "seed", "status", "step", "tokens", "train_flops", "corpus"}
    needed |= {"loss_nats", "epochs", *COUNTS.values()}
    missing = sorted(needed - set(results.columns))
    if missing:
        raise Refused(f"the table lacks {', '.join(missing)}")
    rows = results[(results["status"] == "done") & (results["corpus"] == corpus)]
    ends = rows.sort_values("step").drop_duplicates(["arm", "seed", "run"], keep="last")
    if ends.empty:
        raise Refused(f"the table has no finished run evaluated on {corpus!r}")
    names = {"seed": "unit", "tokens": "n_tokens", "train_flops": "budget_flop"}
    kept = ["arm", "unit", *COUNTS.values(), "n_tokens", "budget_flop", "epochs", "loss_nats"]
    found = ends.rename(columns=names)[kept]
    return found.sort_values(["unit", "n_params", "n_tokens"]).reset_index(drop=True)


# The law ------------------------------------------------------------------------------------


def law_over_units(
    ends: pd.DataFrame, law: str = "chinchilla", count: str = "n_params", name: str = ""
) -> Fit:
    """A law of N and D through the cooled ends of all seeds, with t intervals over seeds.

    count: the column that is N. With one seed the intervals are profiles over the scatter about the
    law, which is no seed noise. Raises Refused.
    """
    columns = {"n_params": count} if count != "n_params" else {}
    if ends["unit"].nunique() > 1:
        return fit(law, ends, columns=columns, interval="units", by="unit", name=name)
    return fit(law, ends, columns=columns, name=name)


def of_units(ends: pd.DataFrame, one: Fit) -> dict[int, Mapping[str, float]]:
    """Parameters by seed, of a fit over seeds; none where the fit has none."""
    units = list(dict.fromkeys(ends["unit"].tolist()))
    if len(one.unit_params) != len(units):
        return {}
    return dict(zip(units, one.unit_params, strict=True))


def predicted_by_unit(
    ends: pd.DataFrame, one: Fit, n_params: float, n_tokens: float
) -> dict[int, float]:
    """The loss at one size and tokens that each seed's own fit predicts."""
    at = prediction(one.law, {"n_params": n_params, "n_tokens": n_tokens})
    return {unit: float(at(params)) for unit, params in of_units(ends, one).items()}


def rivals(ends: pd.DataFrame, laws: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Laws of N and D ranked on the mean over seeds by what was left out (`fits.comparing`)."""
    frame = compare(laws, mean_over_units(ends), level=level).table
    frame["rms_relative_error"] *= 100
    kept = ["rank", "law", "free", "difference", "standard_error", "verdict", "rms error, %"]
    names = {"rms_relative_error": "rms error, %"}
    return frame.rename(columns=names)[[*kept, "aicc", "bic", "status", "why"]]


def predictions(
    ends: pd.DataFrame, laws: Sequence[str], n_params: float, n_tokens: float, prefix: str
) -> pd.DataFrame:
    """What each law says of one larger run, a row each, named by `prefix` and the law.

    low, high: of one more seed's run, if the law holds there; a law whose parameters are not
    identified, or without such an interval, says nothing. Raises Refused where the first is silent.
    """
    rows = []
    for name in laws:
        one = law_over_units(ends, name)
        why = one.identified.unidentified
        at = {"n_params": [n_params], "n_tokens": [n_tokens]}
        said = None if why else one.predict(at).iloc[0]
        if said is None or not np.isfinite(said.to_numpy(float)).all():
            if name == laws[0]:
                raise Refused(f"law {name} gives no interval: {why or 'too few seeds'}")
            continue
        rows.append(
            {
                "name": f"{prefix}, {name}",
                "predicted": float(said["predicted"]),
                "low": float(said["low"]),
                "high": float(said["high"]),
                "unit": "nats/token",
                "how": f"{one.law.formula}, fitted to {one.points} cooled ends of "
                f"{ends['unit'].nunique()} seeds; interval of one more seed",
            }
        )
    return pd.DataFrame(rows)


def irreducible(
    ends: pd.DataFrame, one: Fit, least: float
) -> tuple[dict[str, object], list[float], str]:
    """E of a law over seeds: a row for a table, E less the `least` possible loss by seed, and why
    there is none: an E at its bound of 0 is none that the seed has measured."""
    interval = one.intervals["E"]
    row: dict[str, object] = {
        "E": one.params["E"],
        "low": interval.low,
        "high": interval.high,
        "least measured": float(mean_over_units(ends)["loss_nats"].min()),
        "seeds": int(ends["unit"].nunique()),
        "residual rms": one.residual_rms,
        "status": one.status,
    }
    each = [params["E"] for params in of_units(ends, one).values()]
    at_bound = sum(value < AT_BOUND * least for value in each)
    if at_bound:
        return row, [], f"E sits at its bound 0 in {at_bound} of {len(each)} seeds"
    why = "" if each else one.identified.unidentified or "one seed: no interval over seeds"
    return row, [value - least for value in each], why


# The exponent of N* ~ C^a --------------------------------------------------------------------


@dataclass(frozen=True)
class Exponents:
    """a of N* ~ C^a by approach: `by_unit` of every seed, or `why` there is none.

    `frontiers` are those of the mean over seeds, for pictures; their own intervals are of the
    regression or of resampled runs, not over seeds.
    """

    count: str
    by_unit: Mapping[str, Mapping[int, float]]
    why: Mapping[str, str]
    frontiers: Mapping[str, Frontier]
    law: Fit | None

    def differences(self, one: str, other: str) -> list[float]:
        """a by one approach less a by another, paired over seeds that have both."""
        mine, theirs = self.by_unit[one], self.by_unit[other]
        return [mine[unit] - theirs[unit] for unit in mine if unit in theirs]


def exponents(ends: pd.DataFrame, count: str = "n_params") -> Exponents:
    """The three approaches on the cooled ends of a grid, seed by seed.

    A seed that an approach cannot read takes no part in it, with the reason in `why`.
    """
    frame = ends.assign(n_params=ends[count])
    found: dict[str, dict[int, float]] = {name: {} for name in APPROACHES}
    why: dict[str, str] = {}
    frontiers: dict[str, Frontier] = {}
    for name, read in (("envelope", _envelope), ("isoflop", _isoflop)):
        for unit, rows in frame.groupby("unit"):
            try:
                found[name][unit] = read(rows).exponent()
            except Refused as refusal:
                why.setdefault(name, f"seed {unit}: {refusal}")
        try:
            frontiers[name] = read(mean_over_units(frame))
        except Refused as refusal:
            why.setdefault(name, str(refusal))
    law = None
    try:
        law = law_over_units(frame, name=f"loss against N ({count}) and D")
        for unit, params in of_units(frame, law).items():
            found["parametric"][unit] = params["beta"] / (params["alpha"] + params["beta"])
        if not law.unit_params:
            why["parametric"] = law.identified.unidentified or "too few seeds"
    except Refused as refusal:
        why["parametric"] = str(refusal)
    return Exponents(count, found, why, frontiers, law)


def exponent_table(read: Sequence[Exponents], level: float = 0.95) -> pd.DataFrame:
    """A row per count of parameters and approach: a with its t interval over seeds, and b."""
    rows = []
    for one in read:
        for approach in APPROACHES:
            each = list(one.by_unit[approach].values())
            interval = mean_interval(each, level)
            rows.append(
                {
                    "parameters": one.count,
                    "approach": approach,
                    "a": float(np.mean(each)) if each else np.nan,
                    "low": np.nan if interval.low is None else interval.low,
                    "high": np.nan if interval.high is None else interval.high,
                    "b": 1 - float(np.mean(each)) if each else np.nan,
                    "seeds": len(each),
                    "why not": one.why.get(approach, ""),
                }
            )
    return pd.DataFrame(rows)


def mean_over_units(ends: pd.DataFrame) -> pd.DataFrame:
    """Cooled ends averaged over seeds, of the places that every seed has."""
    places = [*dict.fromkeys(["n_params", *COUNTS.values()]), "n_tokens", "budget_flop"]
    grouped = ends.groupby(places, as_index=False)["loss_nats"].agg(["mean", "count"])
    whole = grouped[grouped["count"] == ends["unit"].nunique()]
    return whole.rename(columns={"mean": "loss_nats"}).drop(columns="count").reset_index(drop=True)


def _isoflop(ends: pd.DataFrame) -> Frontier:
    """Optima of parabolas: with few sizes and noisy losses Akima's curve follows the noise.

    Budgets with too few sizes take no part. A parabola's bias is the same factor at every budget
    (`fits.isoflops`), so that the exponent is spared.
    """
    order = ends.sort_values("budget_flop")
    steps = np.log(order["budget_flop"]).diff().fillna(0.0) > np.log1p(SAME_BUDGET)
    budget = steps.cumsum()
    several = order.groupby(budget)["n_params"].transform("nunique") >= MIN_SIZES
    if not several.any():
        raise Refused(f"no budget has {MIN_SIZES} sizes")
    return isoflop(order[several.to_numpy()], "parabola", same_budget=SAME_BUDGET)


def _envelope(ends: pd.DataFrame) -> Frontier:
    """Curves of cooled ends, a size each; a size with one horizon is no curve."""
    several = ends.groupby("n_params")["n_tokens"].transform("nunique") > 1
    curves = ends[several]
    if curves.empty:
        raise Refused("no size has two horizons")
    curves = curves.assign(run=curves["n_params"])
    return envelope(curves, columns={"train_flop": "budget_flop"}, bootstrap=0)
