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
    reading about the law, in the unit of the law's response.
    """

    what: str
    law: str
    params: Mapping[str, float]
    points: Mapping[str, Sequence[float]]
    noise: float
    prior: str


@dataclass(frozen=True)
class Sought:
    """A place that a study will read off within `low`..`high` of its grid, and is expected to
    measure at `place` with standard deviation `sd`."""

    what: str
    place: float
    sd: float
    low: float
    high: float
    prior: str

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
    """(a row a fit with condition and intervals, warnings). Raises Refused on an unknown law."""
    rows = [_expected(one) for one in believed.fits]
    warnings = [said for one in map(_doubt, rows) for said in one]
    for place in believed.places:
        below, above = place.beyond()
        for chance, side, end in ((below, "below", place.low), (above, "above", place.high)):
            if chance >= LIKELY:
                warnings.append(
                    f"{place.what}: expected at {place.place:.3g} +- {place.sd:.2g}, "
                    f"{chance:.0%} likely {side} the grid's edge {end:.3g} ({place.prior})"
                )
    return rows, warnings


def _expected(one: Expected) -> dict[str, Any]:
    import pandas as pd

    from fits.engine.identify import ILL_CONDITIONED
    from fits.expected import expected_intervals
    from fits.laws import law

    points = pd.DataFrame(dict(one.points))
    row: dict[str, Any] = {
        "what": one.what,
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
    known = expected_intervals(one.law, one.params, points, one.noise)
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


def _doubt(row: dict[str, Any]) -> list[str]:
    """One line, if the plan leaves something of a law open."""
    params = row["params"]
    wide = [name for name, one in params.items() if one["wide"]]
    if row["identified"] and not wide:
        return []
    head = f"{row['what']}: {row['law']} from {row['points']} points"
    if row["points"] <= len(params):
        why = f"has {len(params)} parameters: none gets an interval"
    elif not row["identified"]:
        condition = "infinite" if row["condition"] is None else f"{row['condition']:.1e}"
        why = f"is not identified (condition {condition})"
    else:
        shown = [f"{name} {params[name]['value']:.3g} {_interval(params[name])}" for name in wide]
        why = f"will hardly bound {', '.join(shown)} (condition {row['condition']:.1e})"
    return [f"{head} {why}, expecting noise {row['noise']:.2g} ({row['prior']})"]


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


def mixed_rates(plan: Plan) -> list[str]:
    """A line for every arm whose losses, at horizons and ends of the phase that the study reads,
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
    said = []
    for arm, found in shares.items():
        low, high = min(found), max(found)
        if high > MIXED_RATES * low:
            said.append(
                f"arm {arm}: losses would be read off at {low:.2g} to {high:.2g} of the phase's "
                "peak rate: decayed and undecayed ones do not belong in one fit"
            )
    return said


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
