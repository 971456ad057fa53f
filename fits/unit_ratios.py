"""The critical ratio of every trunk seed, as bounds, and what follows from several seeds.

A seed's own reading (`fits.critical`, of one unit) lies within the grid of ratios, or beyond one of
its ends: then it is known to lie between that end and 0 or 1, and goes into a difference as those
bounds, never as a number. Differences between arms are paired by seed. Two extrapolations stand
here, to be compared with what is measured later: to more tokens, by `cmr-critical` fitted to early
horizons of each seed (Gu et al. 2024, arXiv 2407.17467), and to a larger size, along a straight
line in ln N (the paper fits each size alone and has no law in N; two sizes leave no residual that
could speak against the line).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fits.continual import MIN_HORIZONS, changes, over_units
from fits.critical import critical_ratio
from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.laws import law as law_named
from fits.result import Fit

Bounds = tuple[float, float]


def changes_by_seed(results: pd.DataFrame, arm: str, phase: str, ratio: str) -> pd.DataFrame:
    """`changes` of one arm, with the trunk's seed as the unit: arms are paired by it.

    `results` has the columns arm and seed too. Raises Refused, also on an arm without a sound run.
    """
    missing = sorted({"arm", "seed", "trunk"} - set(results.columns))
    if missing:
        raise Refused(f"the table lacks {', '.join(missing)}")
    rows = results[results["arm"] == arm]
    try:
        table = changes(rows, phase, ratio)
    except Refused as refusal:
        raise Refused(f"arm {arm}: {refusal}") from None
    seed_of = rows.drop_duplicates("trunk").set_index("trunk")["seed"]
    return table.assign(unit=table["unit"].map(seed_of))


def unit_readings(
    table: pd.DataFrame, general: str, horizons: Sequence[int], eps: Sequence[float]
) -> pd.DataFrame:
    """The critical ratio of each unit alone: a row a size, unit, horizon (tokens) and eps (nats).

    Columns: n_params, unit, horizon_tokens, eps, critical_ratio (NaN where censored), low, high
    (the reading twice, or the bounds where it is censored), censored. `table`: that of `changes`.
    Units that lack a ratio others have (a diverged run) are left out.
    """
    rows: list[dict[str, Any]] = []
    inner = table[(table["corpus"] == general) & (table["ratio"] > 0) & (table["ratio"] < 1)]
    inner = inner[inner["tokens"].isin(list(horizons))]
    for (size, horizon), here in inner.groupby(["n_params", "tokens"]):
        ratios = here["ratio"].nunique()
        for unit, own in here.groupby("unit"):
            if len(own) < ratios:
                continue
            for tolerance in eps:
                one = critical_ratio(own, tolerance)
                low, high = _bounds(one.ratio, one.censored, one.grid)
                rows.append(
                    {
                        "n_params": size,
                        "unit": unit,
                        "horizon_tokens": horizon,
                        "eps": tolerance,
                        "critical_ratio": math.nan if one.ratio is None else one.ratio,
                        "low": low,
                        "high": high,
                        "censored": one.censored,
                    }
                )
    columns = ["n_params", "unit", "horizon_tokens", "eps", "critical_ratio"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high", "censored"])


def _bounds(ratio: float | None, censored: str, grid: Sequence[float]) -> Bounds:
    if ratio is not None:
        return ratio, ratio
    return (0.0, grid[0]) if censored == "<" else (grid[-1], 1.0)


def at(readings: pd.DataFrame, size: int, horizon: int, eps: float) -> dict[Any, Bounds]:
    """Unit -> bounds of its critical ratio, at one size, horizon and tolerance."""
    here = readings[
        (readings["n_params"] == size)
        & (readings["horizon_tokens"] == horizon)
        & (readings["eps"] == eps)
    ]
    return {row.unit: (row.low, row.high) for row in here.itertuples()}


def paired(more: Mapping[Any, Bounds], less: Mapping[Any, Bounds]) -> list[Bounds]:
    """Differences `more` - `less` of the units that both have, in the order of units: bounds."""
    return [
        (more[unit][0] - less[unit][1], more[unit][1] - less[unit][0])
        for unit in sorted(set(more) & set(less))
    ]


# To a larger size -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What a straight line in ln N says of a size that it was not fitted to.

    `error` is the standard error of the line there, `spread` the standard deviation of a unit about
    the line, both with `degrees` of freedom. `why` says why there is none.
    """

    predicted: float = math.nan
    error: float = math.nan
    spread: float = math.nan
    degrees: int = 0
    why: str = ""

    def interval(self, units: int, level: float = 0.95) -> Bounds:
        """Within which the mean of `units` new units is expected."""
        half = t_quantile(level, self.degrees) * self.error_against(units)
        return self.predicted - half, self.predicted + half

    def error_against(self, units: int) -> float:
        """Standard error of the prediction less the mean of `units` new units."""
        return math.hypot(self.error, self.spread / math.sqrt(units))


def along_size(by_size: Mapping[int, Mapping[Any, Bounds]], size: int, slope: bool = True) -> Line:
    """Least squares through every unit of the smaller sizes, against ln N; at `size`.

    by_size: N -> unit -> bounds of what was read off. Units are taken as independent, of one
    spread; what a seed has in common at all sizes (its order of the data) cancels in the prediction
    less what is measured, so that intervals are rather too wide. slope False: the rival that size
    does not matter, the mean of the largest of the smaller sizes.
    """
    below = sorted(one for one in by_size if one < size and by_size[one])
    if not slope:
        below = below[-1:]
    if len(below) < 1 + slope:
        return Line(why=f"{len(below)} smaller sizes")
    points = [(math.log(n), low, high) for n in below for low, high in by_size[n].values()]
    if any(low < high for _, low, high in points):
        return Line(why="a seed of a smaller size is censored")
    degrees = len(points) - 1 - slope
    if degrees < 1:
        return Line(why="one seed a size: the noise cannot be measured")
    place, y, _ = np.array(points).T
    design = np.stack([np.ones_like(y), place - math.log(size)][: 1 + slope], axis=1)
    found, *_ = np.linalg.lstsq(design, y, rcond=None)
    square = float(((y - design @ found) ** 2).sum()) / degrees
    share = float(np.linalg.inv(design.T @ design)[0, 0])  # of the line at `size` itself
    return Line(float(found[0]), math.sqrt(square * share), math.sqrt(square), degrees)


# To more tokens -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Late:
    """`cmr-critical` fitted to early horizons, and its predictions of the late ones.

    `errors`: horizon -> predicted less measured of each unit, by its own fit. `still`: the same for
    the rival prediction that the ratio stays what it was at the last fitted horizon.
    """

    fit: Fit
    errors: dict[int, dict[Any, float]]
    still: dict[int, dict[Any, float]]


def late_horizons(readings: pd.DataFrame, until: int) -> tuple[list[Late], list[str]]:
    """R_CMR(T) of every size and eps from horizons up to `until` tokens; and who has too few.

    A horizon counts where no unit is censored: a mean over the others would be too low or too high.
    """
    found: list[Late] = []
    without: list[str] = []
    for (size, eps), rows in readings.groupby(["n_params", "eps"]):
        sound = rows.groupby("horizon_tokens").filter(lambda one: (one["censored"] == "").all())
        early = sorted(set(sound[sound["horizon_tokens"] <= until]["horizon_tokens"]))
        late = sorted(set(sound[sound["horizon_tokens"] > until]["horizon_tokens"]))
        who = f"R_CMR(T) at {size:,} parameters, eps {eps:g}"
        if len(early) < MIN_HORIZONS or not late:
            without.append(
                f"{who}: {len(early)} early horizons without a censored seed, {len(late)} late; "
                f"predicted only from {MIN_HORIZONS} or more"
            )
            continue
        options = {
            "columns": {"cpt_tokens": "horizon_tokens"},
            "holdout": f"horizon_tokens > {until}",
            "group": {"n_params": int(size), "eps": float(eps)},
            "name": "critical ratio against tokens, late horizons predicted",
        }
        one = over_units("cmr-critical", sound, "critical_ratio", "horizon_tokens", options)
        note = f"fitted up to {until:,} tokens; horizons of one sweep share their runs"
        one = dataclasses.replace(one, notes=(*one.notes, note))
        found.append(Late(one, *_unit_errors(one, sound, early[-1], late)))
    return found, without


_Errors = dict[int, dict[Any, float]]


def _unit_errors(
    one: Fit, sound: pd.DataFrame, last: int, late: Sequence[int]
) -> tuple[_Errors, _Errors]:
    wide = sound.pivot_table(index="unit", columns="horizon_tokens", values="critical_ratio")
    wide = wide.dropna()  # the units that `over_units` fits, in its order
    law = law_named("cmr-critical")
    errors: _Errors = {horizon: {} for horizon in late}
    still: _Errors = {horizon: {} for horizon in late}
    for place, (unit, own) in enumerate(wide.iterrows()):
        for horizon in late:
            still[horizon][unit] = float(own[last] - own[horizon])
            if one.unit_params:
                there = {"cpt_tokens": np.array([float(horizon)])}
                predicted = float(law.predict(one.unit_params[place], there)[0])
                errors[horizon][unit] = predicted - float(own[horizon])
    return errors, still
