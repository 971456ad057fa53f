"""The width of a critical ratio's interval as a target: what the rounds of `cmr` narrow.

It is the full width of the 95 % interval that the report prints for the smallest size at the last
horizon: t over trunk seeds, at the smallest tolerance whose reading does not lie beyond the grid.
Only that size is trained, at ratios in (0, 1): no other run enters the reading.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lab import flops
from lab.errors import Refused
from sweeps.grid import Grid
from sweeps.plan import PlannedRun
from sweeps.sweep import Sweep
from sweeps.target import Offer, Predicted, Proposal, Reading, Target, point

if TYPE_CHECKING:
    import pandas as pd

    from fits.critical import Critical
    from fits.critical_design import Cell, Prior

PHASE, RATIO, SEED = "cpt", "cpt.ratio", "seed"
FEWEST = 3  # trunk seeds before a width counts: two that agree by chance look like no noise at all


def critical_width(prior: "Callable[[Any, float], Prior]") -> Target:
    """The target of a study with trunk seeds and ratios; `prior` by its settings and tolerance.

    Its settings have `general`, `horizons` and `eps`; its ratio is that of the phase `cpt`.
    """

    def propose(results: "pd.DataFrame", told: Any, asked: Sweep, offer: Offer) -> Proposal:
        from fits.critical_design import Belief, Choice, full_width

        arm, seeds, grid = _axes(asked)
        known, critical, eps = _known(results, told, asked)
        runs: dict[Cell, PlannedRun] = {
            (one.values[SEED], one.values[RATIO]): one
            for one in offer.runs
            if one.arm == arm and 0 < one.values[RATIO] < 1
        }
        choice = Choice(
            Belief(prior(told, eps), known),
            seeds,
            grid,
            runs.__contains__,
            lambda cells: offer.price([runs[one] for one in cells]),
        )
        step = choice.step(offer.wanted, critical)
        place = choice.belief.crossing(grid)
        expected = {
            "eps": eps,
            **_plain(step.expected),
            "seeds_needed": step.seeds,
            "place_believed": place,
            "slope_believed": choice.belief.slope(place),
            "sd_over_seeds_believed": choice.belief.seed_sd,
        }
        cells = [one for one in runs if one in set(step.cells)]  # as the grid lists them
        if not cells:
            return Proposal([], expected, full_width(critical) if critical else math.inf)
        said = zip(cells, *choice.belief.predict(cells), strict=True)
        predicted = [Predicted(runs[one], float(y), float(a), float(b)) for one, y, a, b in said]
        return Proposal(predicted, expected, step.reach)

    what = (
        "full width of the 95 % interval of the critical ratio of the smallest size at the last "
        "horizon, at the smallest eps whose reading lies within the grid"
    )
    return Target(what, _refuse, _read, propose, _measured)


def _refuse(told: Any, asked: Sweep) -> None:
    arm, seeds, _ = _axes(asked)
    if len(seeds) < 2:
        raise Refused(
            f"--until: arm {arm} has one trunk seed, so its critical ratio has no interval; give "
            f"it more with --axis {arm}:{SEED}=0,1,2"
        )


def _axes(asked: Sweep) -> tuple[str, list[int], list[float]]:
    """The smallest arm, its trunk seeds, and its ratios in (0, 1) ascending. Raises Refused."""

    def size(arm: str) -> int:
        return flops.parameters(asked.arms[arm].base.model).total

    arm = min(asked.arms, key=size)
    same = [one for one in asked.arms if size(one) == size(arm)]
    if len(same) > 1:
        raise Refused(f"--until: arms {' and '.join(same)} are of one size; run them by themselves")
    grid: Grid = asked.arms[arm]
    seeds = [int(one) for one in grid.axes.get(SEED, (grid.base.seed,))]
    return arm, seeds, sorted(one for one in grid.axes.get(RATIO, ()) if 0 < one < 1)


def _changes(results: "pd.DataFrame", told: Any, asked: Sweep) -> "pd.DataFrame | None":
    """Changes of general loss of the smallest arm at the last horizon, with the trunks' seeds."""
    from fits import continual

    arm, _, _ = _axes(asked)
    if "phase" not in results or "cpt_ratio" not in results or SEED not in results:
        return None
    own = results[results["arm"] == arm]
    sound = own[~own["status"].isin(["diverged", "diverged parent"])]
    if not (sound["phase"] == PHASE).any():
        return None
    table = continual.changes(own, PHASE, "cpt_ratio")
    here = table[(table["corpus"] == told.general) & (table["tokens"] == max(told.horizons))]
    seed_of = own.drop_duplicates("trunk").set_index("trunk")[SEED]
    return here.assign(seed=here["unit"].map(seed_of)) if len(here) else None


def _known(
    results: "pd.DataFrame", told: Any, asked: Sweep
) -> "tuple[dict[Cell, float], Critical | None, float]":
    """Changes by (seed, ratio) in (0, 1), the reading if there is one, and its tolerance."""
    from fits.critical import critical_ratio
    from fits.errors import Refused

    _, _, grid = _axes(asked)
    here, tolerances = _changes(results, told, asked), sorted(told.eps)
    if here is None:
        return {}, None, tolerances[0]
    inner = here[(here["ratio"] > 0) & (here["ratio"] < 1)]
    known = {
        (int(seed), float(ratio)): float(change)
        for seed, ratio, change in zip(inner["seed"], inner["ratio"], inner["change"], strict=True)
    }
    for eps in tolerances:
        try:
            one = critical_ratio(here, eps)
        except Refused:  # no two ratios that its seeds have in common
            return known, None, tolerances[0]
        beyond = (one.censored == "<" and one.grid[0] == grid[0]) or (
            one.censored == ">" and one.grid[-1] == grid[-1]
        )
        if not beyond:
            break
    return known, one, eps


def _read(results: "pd.DataFrame", told: Any, asked: Sweep) -> Reading:
    from fits.critical import fraction
    from fits.critical_design import full_width

    _, seeds, grid = _axes(asked)
    _, one, eps = _known(results, told, asked)
    if one is None:
        return Reading(math.inf, "nothing is read yet", {"eps": eps})
    gaps = [r for r in grid if one.grid[0] < r < one.grid[-1] and r not in one.grid]
    if one.low is not None and one.high is not None:  # only where the interval is interpolated
        first = max(r for r in one.grid if r <= one.low)
        last = min(r for r in one.grid if r >= one.high)
        gaps = [ratio for ratio in gaps if first < ratio < last]
    doubts = []
    if gaps:
        doubts.append(f"R = {', '.join(map(fraction, gaps))} of the grid was skipped")
    if one.units < min(FEWEST, len(seeds)):
        doubts.append(f"fewer than {min(FEWEST, len(seeds))} trunk seeds")
    text = f"critical ratio {one.text()} ({one.interval_text()}) at eps {eps:g}, {one.units} seeds"
    values = {"eps": eps, **_plain(one), "seeds": one.units, "ratios": list(one.grid)}
    return Reading(full_width(one), text, values, "; ".join(doubts))


def _plain(one: "Critical") -> dict[str, Any]:
    return {
        "critical_ratio": one.ratio,
        "low": one.low,
        "high": one.high,
        "censored": one.censored,
    }


def _measured(results: "pd.DataFrame", told: Any, asked: Sweep) -> Mapping[str, float]:
    """Changes of general loss (nats) by run."""
    here = _changes(results, told, asked)
    if here is None:
        return {}
    arm, _, _ = _axes(asked)
    return {
        point(arm, {SEED: int(seed), RATIO: float(ratio)}): float(change)
        for seed, ratio, change in zip(here["seed"], here["ratio"], here["change"], strict=True)
    }
