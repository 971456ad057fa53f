"""`lab bench adaptive`: what rounds save, on made-up worlds in which the truth is known.

A world has a curve of the change of general loss against the ratio, drawn about the prior of `cmr`,
and the README's noise: between trunk seeds, and between branches off one. Its trainer fills the
index of the default grid with the losses of that world; everything else is what `lab run` does.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fits.figures.adaptive_figure import ABOUT, ADAPTIVE, Course, adaptive_figure
from fits.figures.plots import Figure
from lab.store import EvaluationRow, Index
from sweeps.adaptive import Aim, of_runs, price
from sweeps.plan import Plan, PlannedRun, make_plan
from sweeps.remaining import Remaining, remaining
from sweeps.results import table
from sweeps.rounds import Round, expected_run, predictions
from sweeps.run import open_corpora
from sweeps.studies import cmr
from sweeps.study import ask
from sweeps.target import Condition, Reading

NAME = "cmr_width"
LOSS_BEFORE = 2.0  # nats at the branch point: only changes are read
SEED_SD = (0.006, 0.007)  # nats between trunk seeds, drawn evenly between
BRANCH_SD = 0.001  # between branches off one trunk
SEEDS, WANTED = 12, 0.1  # of the second question: how many seeds does a width need?


@dataclass(frozen=True)
class World:
    """The truth: alpha (R^s - place^s) is the change at eps = 0, and what noise there is."""

    place: float
    alpha: float
    s: float
    seed_sd: float
    number: int

    def change(self, seed: int, ratio: float) -> float:
        """As measured, in nats: the same whenever it is asked."""
        trunk = np.random.default_rng([self.number, seed]).normal(0.0, self.seed_sd)
        of_branch = [self.number, seed, round(ratio * 1000)]
        branch = np.random.default_rng(of_branch).normal(0.0, BRANCH_SD)
        return float(self.alpha * (ratio**self.s - self.place**self.s) + trunk + branch)

    def held_by(self, values: Mapping[str, Any]) -> bool:
        """Whether a reading's interval holds the true place; open ends hold all beyond them."""
        low, high = values.get("low"), values.get("high")
        return (low is None or low <= self.place) and (high is None or self.place <= high)


def world(number: int) -> World:
    """The world of a number: its place anywhere from .16 to .45, shapes about the prior's."""
    random = np.random.default_rng(number)
    general, _ = cmr.RATIO_LAWS["general"]
    return World(
        random.uniform(0.16, 0.45),
        general["alpha"] * math.exp(random.normal(0.0, 0.2)),
        general["s"] + random.normal(0.0, 0.25),
        random.uniform(*SEED_SD),
        number,
    )


@dataclass(frozen=True, eq=False)
class Grid:
    """The default grid of `cmr`, or one with more trunk seeds of its smallest size."""

    plan: Plan
    settings: Any

    @cached_property
    def smallest(self) -> list[PlannedRun]:
        """Runs of the size that the target reads, as listed."""
        first = next(iter(self.plan.sweep.arms))
        return [run for run in self.plan.runs if run.arm == first]

    @cached_property
    def read(self) -> list[PlannedRun]:
        """Those of them that enter the reading."""
        return [run for run in self.smallest if 0 < run.values["cpt.ratio"] < 1]

    @cached_property
    def _nothing_done(self) -> Remaining:
        return remaining(self.plan, Index())

    def flops(self, runs: Sequence[PlannedRun]) -> float:
        """Of some runs, stretches that they share once."""
        return price(self.plan, self._nothing_done, runs)

    def reading(self, index: Index) -> Reading:
        """What the study reads off an index."""
        target = cmr.STUDY.targets[NAME]
        return target.read(table(self.plan, index), self.settings, self.plan.sweep)


def grid_of(seeds: int | None = None) -> Grid:
    """As `lab run cmr` asks for it, or with `seeds` trunk seeds of the smallest size."""
    axes = [] if seeds is None else [f"w24:seed={','.join(map(str, range(seeds)))}"]
    settings, sweep = ask(cmr.STUDY, "tiny", axes=axes)
    return Grid(make_plan(sweep, open_corpora(sweep)), settings)


def train(one: World, grid: Grid, index: Index, runs: Sequence[PlannedRun]) -> None:
    """Fill in what the runs would have measured."""
    for run in runs:
        for k in run.segments:
            segment = grid.plan.segments[k]
            change = one.change(run.values["seed"], run.values["cpt.ratio"])
            loss = LOSS_BEFORE + (0.0 if segment.parent is None else change)
            index.states[segment.end_id] = Path(segment.end_id)
            index.state_steps.add(segment.stop)
            for step, state in segment.stop_ids.items():
                for each in grid.plan.sets_for(segment.path.run):
                    row = EvaluationRow(state, step, each.set_id, loss, loss, 0.0)
                    index.evaluations[state, each.set_id] = row


Spent = list[tuple[float, float]]  # (FLOPs spent, width then)


@dataclass(frozen=True)
class Trial:
    """An adaptive sweep of a world; `inside` says of each prediction whether it held."""

    reached: bool
    reading: Reading
    path: Spent
    rounds: list[Round]
    inside: list[bool]

    @property
    def flops(self) -> float:
        return self.path[-1][0]


def adaptive(one: World, grid: Grid, wanted: float) -> Trial:
    """Rounds until the width is at most `wanted`, or nothing is left that would narrow it."""
    aim, index = Aim(cmr.STUDY, grid.settings, Condition(NAME, "<=", wanted)), Index()
    rounds: list[Round] = []
    runs: list[PlannedRun] = []
    path: Spent = []
    while True:
        todo, results = remaining(grid.plan, index), table(grid.plan, index)
        decision = aim.decide(grid.plan, todo, results)
        if runs:
            path.append((grid.flops(runs), decision.reading.width))
        if decision.proposal is None or not decision.proposal.runs:
            break
        lines = tuple(expected_run(foreseen) for foreseen in decision.proposal.runs)
        rounds.append(Round(len(rounds) + 1, NAME, str(aim.condition), {}, {}, None, 0.0, lines))
        chosen = [foreseen.run for foreseen in decision.proposal.runs]
        assert of_runs(todo, chosen).work  # a round trains something, or this would never end
        train(one, grid, index, chosen)
        runs += chosen
    measured = aim.target.measured(results, grid.settings, grid.plan.sweep)
    inside = [bool(row["inside"]) for row in predictions(rounds, {NAME: measured})]
    reached = decision.verdict == "reached"
    return Trial(reached, decision.reading, path, rounds, inside)


def in_order(one: World, grid: Grid, runs: Sequence[PlannedRun], every: int = 1) -> Spent:
    """FLOPs spent and width, runs in an order told beforehand.

    Looked at whenever `every` more runs that enter the reading are there, and at the end.
    """
    index, path = Index(), []
    entering = [count for count, run in enumerate(runs, 1) if run in grid.read]
    done = 0
    for count in [*entering[every - 1 :: every], len(runs)]:
        train(one, grid, index, runs[done:count])
        path.append((grid.flops(runs[:count]), grid.reading(index).width))
        done = count
    return path


def shuffled(grid: Grid, number: int) -> list[PlannedRun]:
    """The runs of the grid in a random order."""
    order = np.random.default_rng([number, 1]).permutation(len(grid.plan.runs))
    return [grid.plan.runs[k] for k in order]


def bench_adaptive(worlds: int) -> tuple[dict[str, Any], Figure]:
    """(numbers, figure): FLOPs for the width that the whole default grid gives, and coverage.

    First: in every world whose grid leaves no end open, rounds until the width is what the whole
    grid gives, exactly and about (`ABOUT` times). Then, with `SEEDS` trunk seeds to choose from,
    rounds until WANTED: how many seeds that takes, and how often the last interval holds the truth.
    """
    begun, grid = time.perf_counter(), grid_of()
    whole, small = grid.flops(grid.plan.runs), grid.flops(grid.smallest)
    courses: list[Course] = []
    exact: list[tuple[World, Trial]] = []
    about: list[tuple[World, Trial]] = []
    held: list[bool] = []
    for one in map(world, range(worlds)):
        index = Index()
        train(one, grid, index, grid.read)
        reading = grid.reading(index)
        if not math.isfinite(reading.width):
            continue
        held.append(one.held_by(reading.values))
        exact.append((one, adaptive(one, grid, reading.width)))
        about.append((one, adaptive(one, grid, ABOUT * reading.width)))
        ways = {
            ADAPTIVE: about[-1][1].path,
            "listed order": in_order(one, grid, grid.plan.runs),
            "random order": in_order(one, grid, shuffled(grid, one.number)),
        }
        for name, path in ways.items():
            shares = [(spent / whole, width / reading.width) for spent, width in path]
            courses.append(Course(name, one.number, shares))
    more = grid_of(SEEDS)
    more_whole = more.flops(more.plan.runs)
    many: list[tuple[World, Trial]] = []
    wider: list[Course] = []
    for one in map(world, range(worlds)):
        many.append((one, adaptive(one, more, WANTED)))
        ways = {
            ADAPTIVE: many[-1][1].path,
            "listed order": in_order(one, more, more.plan.runs, every=5),
            "random order": in_order(one, more, shuffled(more, one.number), every=5),
        }
        for name, path in ways.items():
            shares = [(spent / more_whole, width) for spent, width in path]
            wider.append(Course(name, one.number, shares))
    value = {
        "worlds": worlds,
        "grid_leaves_an_end_open": worlds - len(held),
        "smallest_share": small / whole,
        "read_share": grid.flops(grid.read) / whole,
        "grid_coverage": _mean(held),
        "exact": _summary(exact, whole, small),
        "about": {"times": ABOUT, **_summary(about, whole, small)},
        "many_seeds": {
            "of_seeds": SEEDS,
            "wanted": WANTED,
            **_summary(many, more_whole, more.flops(more.smallest)),
        },
        "seconds": time.perf_counter() - begun,
    }
    return value, adaptive_figure(courses, small / whole, wider, WANTED)


def _summary(trials: list[tuple[World, Trial]], whole: float, small: float) -> dict[str, Any]:
    """Quantiles over worlds, and how often intervals and predictions held."""
    spent = [trial.flops for _, trial in trials]
    reached = [one.held_by(trial.reading.values) for one, trial in trials if trial.reached]
    return {
        "share_of_grid": _spread([flops / whole for flops in spent]),
        "share_of_smallest": _spread([flops / small for flops in spent]),
        "seeds": _spread([trial.reading.values["seeds"] for _, trial in trials]),
        "rounds": _spread([len(trial.rounds) for _, trial in trials]),
        "reached": _mean([trial.reached for _, trial in trials]),
        "coverage": _mean([one.held_by(trial.reading.values) for one, trial in trials]),
        "coverage_where_reached": _mean(reached),
        "predictions_inside": _mean([held for _, trial in trials for held in trial.inside]),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"p10": low, "median": middle, "p90": high}


def _mean(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if len(values) else None
