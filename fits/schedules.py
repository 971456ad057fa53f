"""Loss curves under several learning-rate schedules: laws fitted on some, held against others.

From a tidy table (one row per run, state and corpus) with the columns arm, seed, segment, step,
corpus and loss_nats. An arm is one schedule; the independent unit is the seed, which draws the
initial weights and the order of the data, so that arms of one seed are paired. A state that a
held-out curve shares with a fitted one (the same segment) was fitted, and takes no part in the
error of the held-out curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fits.engine.uncertainty import mean_interval
from fits.errors import Refused
from fits.fitting import fit
from fits.form import RATES
from fits.rates import Rates
from fits.result import Fit

RatesByCurve = Mapping[str, Any]  # curve -> the learning rate of every step, [T]
UnitFits = Mapping[tuple[str, Any], Fit]  # (law, unit) -> the law fitted to that unit's curves

PERCENT = 100.0
DIVERGED = ("diverged", "diverged parent")
_NEEDED = ("arm", "segment", "step", "corpus", "loss_nats", "epochs")


@dataclass(frozen=True, eq=False)
class Curves:
    """Losses under several schedules.

    rows: columns curve, unit, segment, step, loss_nats, epochs, ascending in step; rates: the
    learning rate of every step, by curve.
    """

    rows: pd.DataFrame
    rates: RatesByCurve

    @cached_property
    def _by_place(self) -> dict[tuple[str, Any], pd.DataFrame]:
        return dict(iter(self.rows.groupby(["curve", "unit"], sort=True)))

    def of(self, name: str, unit: Any) -> pd.DataFrame:
        """Rows of one curve and unit, by step. Raises Refused."""
        if (name, unit) not in self._by_place:
            raise Refused(f"unit {unit} has no curve {name}")
        return self._by_place[name, unit]

    def end(self, name: str) -> int:
        """The last step of a curve. Raises Refused."""
        if name not in self.rates:
            raise Refused(f"no curve {name!r}; there are {', '.join(self.rates)}")
        return len(self.rates[name])

    def units(self, *names: str) -> list[Any]:
        """Units that have each of these curves to its last step, ascending."""
        whole = []
        for name in names:
            end = self.end(name)
            found = (place for place in self._by_place if place[0] == name)
            whole.append({u for _, u in found if self.of(name, u)["step"].iloc[-1] == end})
        return sorted(set.intersection(*whole)) if whole else []

    def last(self, name: str, unit: Any) -> float:
        """Loss at the last step that was evaluated."""
        return float(self.of(name, unit)["loss_nats"].iloc[-1])


def curves(results: pd.DataFrame, corpus: str, rates: RatesByCurve) -> Curves:
    """Losses on a corpus of the arms that `rates` names. Runs that diverged take no part.

    Raises Refused on missing columns, and where nothing is left.
    """
    if missing := [name for name in _NEEDED if name not in results.columns]:
        raise Refused(f"the table lacks {', '.join(missing)}")
    sound = results[(results["corpus"] == corpus) & results["arm"].isin(list(rates))]
    if "status" in results.columns:
        sound = sound[~sound["status"].isin(DIVERGED)]
    if sound.empty:
        raise Refused(f"the table has no loss on {corpus!r} of {', '.join(rates)}")
    unit = sound["seed"] if "seed" in sound.columns else 0
    rows = sound.assign(curve=sound["arm"], unit=unit).sort_values("step", kind="stable")
    columns = ["curve", "unit", "segment", "step", "loss_nats", "epochs"]
    return Curves(rows[columns].reset_index(drop=True), dict(rates))


def difference(data: Curves, one: str, other: str) -> dict[Any, float]:
    """Last loss of a curve less that of another, by unit: nats. Raises Refused unless both end at
    the same step."""
    if data.end(one) != data.end(other):
        raise Refused(f"{one} ends at step {data.end(one)}, {other} at {data.end(other)}")
    units = data.units(one, other)
    return {unit: data.last(one, unit) - data.last(other, unit) for unit in units}


# Laws -----------------------------------------------------------------------------------------


def unit_fits(
    data: Curves, fitted: Sequence[str], laws: Sequence[str], after: int
) -> dict[tuple[str, Any], Fit]:
    """Each law on the fitted curves of each unit, from the step `after` on. Raises Refused.

    A state that several of the curves share is fitted once.
    """
    rates = {name: data.rates[name] for name in fitted}
    found = {}
    for unit in _whole(data, fitted):
        rows = _fit_rows(data, fitted, unit, after)
        for law in laws:
            found[law, unit] = fit(law, rows, rates=rates, interval="none")
    return found


def mean_fits(
    data: Curves, fitted: Sequence[str], laws: Sequence[str], after: int
) -> dict[str, Fit]:
    """Each law on the mean curves over units, with profile intervals. Raises Refused.

    These intervals know the scatter about the law, not the noise of seeds.
    """
    every = pd.concat([_fit_rows(data, fitted, u, after) for u in _whole(data, fitted)])
    mean = every.groupby(["curve", "step"], as_index=False)["loss_nats"].mean()
    rates = {name: data.rates[name] for name in fitted}
    return {law: fit(law, mean, rates=rates, name=f"{law}, mean curves") for law in laws}


def _whole(data: Curves, fitted: Sequence[str]) -> list[Any]:
    units = data.units(*fitted)
    if not units:
        raise Refused(f"no seed has all of the curves {', '.join(fitted)} to their end")
    return units


def _fit_rows(data: Curves, fitted: Sequence[str], unit: Any, after: int) -> pd.DataFrame:
    rows = pd.concat([data.of(name, unit) for name in fitted])
    return rows[rows["step"] >= after].drop_duplicates(["segment", "step"])


def predicted_losses(one: Fit, rate: Any, steps: Any) -> NDArray[np.float64]:
    """What a fitted law says at steps [n] of a curve with this rate a step: nats, [n]."""
    at = np.asarray(steps, np.int64)
    places = Rates({"curve": rate}, ["curve"] * len(at), at)
    return np.asarray(one.law.predict(one.params, {RATES: places}), np.float64)


def errors(
    data: Curves, fits: UnitFits, fitted: Sequence[str], held: Sequence[str], after: int
) -> pd.DataFrame:
    """How far each law misses curves that it was not fitted to: a row a law, curve and unit.

    Columns: law, curve, unit, rows; loss_end, predicted_end in nats; end_error (predicted less
    measured) and curve_error (root mean square over the rows), both in % of the loss.
    """
    found = []
    for (law, unit), one in fits.items():
        seen = {segment for name in fitted for segment in data.of(name, unit)["segment"]}
        for name in held:
            if unit not in data.units(name):
                continue
            rows = data.of(name, unit)
            rows = rows[(rows["step"] >= after) & ~rows["segment"].isin(seen)]
            if rows.empty:
                continue
            predicted = predicted_losses(one, data.rates[name], rows["step"])
            miss = PERCENT * (predicted / rows["loss_nats"].to_numpy() - 1)
            found.append(
                {
                    "law": law,
                    "curve": name,
                    "unit": unit,
                    "rows": len(rows),
                    "loss_end": float(rows["loss_nats"].iloc[-1]),
                    "predicted_end": float(predicted[-1]),
                    "end_error": float(miss[-1]),
                    "curve_error": float(np.sqrt(np.mean(miss**2))),
                }
            )
    columns = ["law", "curve", "unit", "rows", "loss_end", "predicted_end", "end_error"]
    return pd.DataFrame(found, columns=[*columns, "curve_error"])


def along(data: Curves, fits: Mapping[str, Fit], names: Sequence[str], after: int) -> pd.DataFrame:
    """Mean curves over units and what laws say of them: curve, step, units, loss_nats, low, high
    (least and most over units), and a column a law."""
    parts = []
    for name in names:
        units = data.units(name)
        if not units:
            continue
        rows = pd.concat([data.of(name, unit) for unit in units])
        at = rows[rows["step"] >= after].groupby("step")["loss_nats"]
        mean = at.agg(["mean", "min", "max", "size"]).reset_index()
        mean.columns = pd.Index(["step", "loss_nats", "low", "high", "units"])
        mean.insert(0, "curve", name)
        for law, one in fits.items():
            mean[law] = predicted_losses(one, data.rates[name], mean["step"])
        parts.append(mean)
    if not parts:
        raise Refused(f"no curve is there to its end: {', '.join(names)}")
    return pd.concat(parts, ignore_index=True)


# Ranking --------------------------------------------------------------------------------------


def by_law(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Error along the named curves, mean over them: a row a unit that has all, a column a law.

    table: of `errors`.
    """
    chosen = table[table["curve"].isin(list(names))]
    if chosen.empty:
        return pd.DataFrame()
    each = chosen.pivot_table(index="unit", columns=["law", "curve"], values="curve_error")
    wanted = [(law, name) for law in dict.fromkeys(table["law"]) for name in names]
    each = each.reindex(columns=pd.MultiIndex.from_tuples(wanted, names=["law", "curve"])).dropna()
    return each.T.groupby(level="law", sort=False).mean().T


def ranking(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Laws by their mean error along unseen curves, the best first. Raises Refused.

    Columns: rank, law, curve_error (%, mean over curves and units), more_than_best (paired by
    unit) with low, high (t over units), worst_end_error (%, of one curve and unit), units.
    """
    each = by_law(table, names)
    if each.empty:
        raise Refused(f"no seed has all of the curves {', '.join(names)}")
    order = each.mean().sort_values()
    rows = []
    for rank, (law, error) in enumerate(order.items(), start=1):
        more = each[law] - each[order.index[0]]
        interval = mean_interval(list(more)) if rank > 1 else None
        ends = table[(table["law"] == law) & table["curve"].isin(list(names))]["end_error"]
        rows.append(
            {
                "rank": rank,
                "law": law,
                "curve_error": float(error),
                "more_than_best": float(more.mean()),
                "low": np.nan if interval is None or interval.low is None else interval.low,
                "high": np.nan if interval is None or interval.high is None else interval.high,
                "worst_end_error": float(ends.loc[ends.abs().idxmax()]),
                "units": len(each),
            }
        )
    return pd.DataFrame(rows)


def gain(table: pd.DataFrame, worse: str, better: str, names: Sequence[str]) -> dict[Any, float]:
    """Error along the named curves, of law `worse` less that of `better`, by unit: %."""
    each = by_law(table, names)
    if not {worse, better} <= set(each.columns):
        return {}
    return {unit: float(value) for unit, value in (each[worse] - each[better]).items()}
