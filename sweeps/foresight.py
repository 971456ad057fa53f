"""What a plan will not be able to show, said before anything runs.

A study states the fits it will make as if the truth were known: law, parameters, noise of a reading
and where the readings will lie (`Expected`), and the places it will look for within its grid, such
as an optimum (`Sought`). From these follow the intervals that the plan can give, linear and by
least squares (`fits.expected`), and how likely a place lies at the grid's edge. What the plan tells
by itself is added: text read more than once, and losses at decayed rates beside undecayed ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.spec import RunSpec
from sweeps.plan import MAX_EPOCHS, Plan, rates_of

LIKELY = 0.25  # chance of lying beyond the grid from which on it is said
WIDE = math.log(10.0)  # half width of a scale's logarithm that says nothing: a factor of ten
OPEN = math.log(1e12)  # half width of one that is shown as open
MIXED_RATES = 2.0  # rates apart by more than this factor count as decayed and undecayed


@dataclass(frozen=True)
class Expected:
    """One fit that a study will make. `prior` says where parameters and noise come from.

    `points` holds the law's variables, a value a reading; `noise` is the standard deviation of a
    reading about the law, in the unit of the law's response. `arms` are those for which it is made.
    `rates` are learning-rate curves by name, for a law that reads them (`points` then name the
    `curve` as well).
    """

    what: str
    law: str
    params: Mapping[str, float]
    points: Mapping[str, Sequence[Any]]
    noise: float
    prior: str
    arms: tuple[str, ...] = ()
    rates: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sought:
    """A place that a study will read off within `low`..`high` of its grid, and is expected to
    measure at `place` with standard deviation `sd`. `where` tells readings of one kind apart."""

    what: str
    place: float
    sd: float
    low: float
    high: float
    prior: str
    arms: tuple[str, ...] = ()
    where: str = ""

    def beyond(self) -> tuple[float, float]:
        """Chances that the reading lies below the grid, and above it."""

        def below(end: float) -> float:
            return 0.5 * (1 + math.erf((end - self.place) / (self.sd * math.sqrt(2))))

        return below(self.low), 1 - below(self.high)


@dataclass(frozen=True)
class Foreseen:
    """What a study believes of its own reading, before it runs."""

    fits: tuple[Expected, ...] = ()
    places: tuple[Sought, ...] = ()


def foresee(believed: Foreseen) -> tuple[list[dict[str, Any]], list[str]]:
    """(a row a fit with condition and intervals, warnings: one for all arms and places of a kind).

    Raises Refused on an unknown law.
    """
    rows = [_expected(one) for one in believed.fits]
    doubts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one, row in zip(believed.fits, rows, strict=True):
        if why := _doubt(row):
            kind = f"{one.what}: {one.law}", one.prior
            doubts.setdefault(kind, {}).setdefault(why, []).extend(one.arms)
    edges: dict[tuple[str, str], dict[str, list[str]]] = {}
    for sought in believed.places:
        below, above = sought.beyond()
        for chance, side, end in ((below, "below", sought.low), (above, "above", sought.high)):
            if chance >= LIKELY:
                kind = f"{sought.what} may lie {side} the grid's edge {end:.3g}:", sought.prior
                where = f" {sought.where}" if sought.where else ""
                at = f"{chance:.0%} likely{where} ({sought.place:.3g} +- {sought.sd:.2g})"
                edges.setdefault(kind, {}).setdefault(", ".join(sought.arms), []).append(at)
    said = []
    for (what, prior), whys in doubts.items():
        parts = [f"{why} in {', '.join(arms)}" if arms else why for why, arms in whys.items()]
        said.append(f"{what} {'; '.join(parts)} ({prior})")
    for (what, prior), places in edges.items():
        parts = [
            f"{arms}: {', '.join(at)}" if arms else ", ".join(at) for arms, at in places.items()
        ]
        said.append(f"{what} {'; '.join(parts)} ({prior})")
    return rows, said


def _expected(one: Expected) -> dict[str, Any]:
    import pandas as pd

    from fits.engine.identify import ILL_CONDITIONED
    from fits.expected import expected_intervals
    from fits.laws import law

    points = pd.DataFrame(dict(one.points))
    row: dict[str, Any] = {
        "what": ": ".join(filter(None, (", ".join(one.arms), one.what))),
        "law": one.law,
        "points": len(points),
        "noise": one.noise,
        "prior": one.prior,
        "condition": None,
        "identified": False,
        "params": {name: {"value": one.params[name]} for name in law(one.law).names},
    }
    for found in row["params"].values():
        found.update(low=None, high=None, by_log=False, wide=True)
    if points.empty:
        return row
    known = expected_intervals(one.law, one.params, points, one.noise, rates=one.rates)
    row["condition"] = known.condition if math.isfinite(known.condition) else None
    row["identified"] = known.condition < ILL_CONDITIONED
    for name, value, by_log, half in known.table()[
        ["parameter", "value", "by_log", "half_width"]
    ].itertuples(index=False):
        found = row["params"][name]
        found["by_log"] = bool(by_log)
        if half < (OPEN if by_log else math.inf):
            ends = (value * math.exp(-half), value * math.exp(half)) if by_log else None
            low, high = ends or (value - half, value + half)
            found["low"], found["high"] = float(low), float(high)
            found["wide"] = bool(half > (WIDE if by_log else abs(value)))
    return row


def _doubt(row: dict[str, Any]) -> str | None:
    """What a fit will leave open of its law, if anything."""
    params = row["params"]
    wide = [name for name, one in params.items() if one["wide"]]
    if row["identified"] and not wide:
        return None
    head = f"from {row['points']} points"
    if row["points"] <= len(params):
        return f"{head} has {len(params)} parameters: none gets an interval"
    if not row["identified"]:
        condition = "infinite" if row["condition"] is None else f"{row['condition']:.1e}"
        return f"{head} is not identified, condition {condition}"
    return f"{head} will hardly bound {', '.join(wide)}"


def expected_text(row: Mapping[str, Any]) -> str:
    """The parameters of a row of `foresee`, with their expected intervals."""
    return ", ".join(
        f"{name} {one['value']:.3g} {_interval(one)}" for name, one in row["params"].items()
    )


def _interval(one: Mapping[str, Any]) -> str:
    if one["low"] is None:
        return "(open)"
    return f"({one['low']:.2g} .. {one['high']:.2g})"


# What the plan tells by itself ----------------------------------------------------------------


def repeats(epochs: Mapping[str, float]) -> list[str]:
    """A line for every corpus that a run would read more than once."""
    said = []
    for name, most in epochs.items():
        if most > 1:
            verdict = "; lab run will refuse" if most > MAX_EPOCHS else ""
            said.append(f"corpus {name} would be read {most:,.1f} times{verdict}")
    return said


def other_orders(plan: Plan) -> list[str]:
    """A line for every adopted checkpoint whose text some run may read again, in another order."""
    runs = [(run.path.origin, run.path) for run in plan.runs]
    said: dict[str, list[int]] = {}
    for origin, path in runs:
        if origin is not None and origin.seed != path.run.seed:
            used = {digest for one in path.stretches for digest, _ in one.shares}
            if used & {one.corpus for one in origin.read}:
                seeds = said.setdefault(origin.digest[:12], [])
                seeds += [path.run.seed] if path.run.seed not in seeds else []
    return [
        f"start {digest}...: read its text in an order that is not that of seed "
        f"{', '.join(map(str, seeds))}: what a run reads as new it may have read already"
        for digest, seeds in said.items()
    ]


def mixed_rates(plan: Plan) -> list[str]:
    """A line for all arms whose losses, at horizons and ends of the phase that the study reads,
    are at rates more than MIXED_RATES apart, each against the highest rate of its phase so far.

    A loss falls while its rate decays: a fit through both kinds takes the schedule for the law.
    """
    name = plan.sweep.evaluate.phase
    shares: dict[str, list[float]] = {}
    seen: set[Any] = set()
    for run in plan.runs:
        key = run.arm, rates_of(run.path.run)
        if key in seen or name not in [phase.name for phase in run.path.run.phases]:
            continue
        seen.add(key)
        rates = run.path.lr
        begun, steps = _read_off(plan, run.path.run)
        shares.setdefault(run.arm, []).extend(
            float(rates[step - 1] / max(rates[begun:step].max(), np.float32(1e-30)))
            for step in steps
        )
    mixed: dict[str, list[str]] = {}
    for arm, found in shares.items():
        low, high = min(found), max(found)
        if high > MIXED_RATES * low:
            mixed.setdefault(f"{low:.2g} to {high:.2g}", []).append(arm)
    return [
        f"{named(arms)}: losses would be read off at {rates} of the phase's peak rate: decayed and "
        "undecayed ones do not belong in one fit"
        for rates, arms in mixed.items()
    ]


def named(arms: Sequence[str]) -> str:
    """`arm a`, or `arms a, b`."""
    return f"{'arm' if len(arms) == 1 else 'arms'} {', '.join(arms)}"


def _read_off(plan: Plan, run: RunSpec) -> tuple[int, list[int]]:
    """First step of the phase that is read off, and the steps at its horizons and its end."""
    evaluate = plan.sweep.evaluate
    begun = run.phase_start(evaluate.phase)
    length = next(
        steps
        for phase, steps in zip(run.phases, run.phase_steps(), strict=True)
        if phase.name == evaluate.phase
    )
    ends = {run.steps_in(horizon, "horizon") for horizon in evaluate.horizons} | {length}
    return begun, [begun + step for step in sorted(ends)]
