"""`lab bench fleet`: how long a large sweep takes on many workers that fail, by simulation.

The tasks are those that an engine would be given of a made-up grid; nothing is trained. A task
takes as long as its longest lane: FLOPs over the speed of a shape as it was recorded, times noise,
after a start in which programs are loaded. A worker fails at random: what it had not committed is
lost, its task waits again, and another worker comes in its place.
"""

import dataclasses
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab import flops
from lab.store import Index
from sweeps.engines.tasks import Task, make_tasks
from sweeps.grid import Grid
from sweeps.notes import read_notes
from sweeps.plan import Plan, make_plan
from sweeps.remaining import remaining
from sweeps.run import open_corpora
from sweeps.speed import Speed, cores, measured
from sweeps.studies import cmr
from sweeps.sweep import Sweep
from sweeps.tally import shape_name

WIDTHS = (24, 48, 96, 192, 384)  # the largest costs 80 times the smallest
RATIOS = 20  # branches off a trunk
START_SECONDS = 15.0  # imports, texts and compiled programs (on this repository's two cores)
COMMIT_SECONDS = 300.0  # at most this much of a task is lost (sweeps.engines.local)
DOWN_SECONDS = 120.0  # until another worker is there (what SLURM lets a job wait that is put back)
SPREAD = 0.1  # sd of log speed between tasks, where none was recorded
ASSUMED = 1e10  # FLOP/s of a worker, where no speed was recorded or measured


@dataclass(frozen=True)
class Timed:
    """A task that takes `seconds` after its start; `order`: smaller goes first."""

    seconds: float
    after: frozenset[int]
    order: tuple[float, ...]


@dataclass(frozen=True)
class Course:
    """How a simulation went. `idle_seconds` are of all workers, until the last task has ended."""

    makespan_seconds: float
    failures: int
    lost_seconds: float
    idle_seconds: float


@dataclass(frozen=True)
class Pace:
    """Speed by shape, spread between tasks (sd of its log), and where both come from."""

    speed: Speed
    spread: float


def bench_fleet(
    runs: int,
    workers: Sequence[int],
    stack: int,
    hours_between_failures: float,
    folder: Path | None,
) -> dict[str, Any]:
    """Makespans of a grid of at least `runs` runs, against what no order can beat."""
    grid = fleet_grid(runs)
    plan = make_plan(grid, open_corpora(grid))
    pace = pace_of(folder, stack)
    todo = remaining(plan, Index())
    random = np.random.default_rng(0)
    lengths = segment_seconds(plan, pace, stack, random)
    rows: list[dict[str, Any]] = []
    for count in workers:
        bound = lower_bound(plan, lengths, count * stack)
        tasks = make_tasks(plan, todo, stack, count)
        orders: dict[str, dict[str, float]] = {}
        for name, order in ORDERS.items():
            timed = timed_tasks(plan, tasks, lengths, stack, order)
            course = simulate(timed, count, hours_between_failures * 3600, seed=count)
            orders[name] = _row(course, bound, count)
        lanes = timed_lanes(plan, lengths)
        course = simulate(lanes, count * stack, hours_between_failures * 3600, count, start=0.0)
        orders[REFILLED] = _row(course, bound, count * stack)
        rows.append(
            {"workers": count, "tasks": len(tasks), "bound_seconds": bound, "orders": orders}
        )
    return {
        "runs": len(plan.runs),
        "segments": len(plan.segments),
        "stack": stack,
        "speed": pace.speed.source,
        "spread": pace.spread,
        "hours_between_failures": hours_between_failures,
        "lane_hours": sum(lengths) / 3600,
        "rows": rows,
    }


def _row(course: Course, bound: float, takers: int) -> dict[str, float]:
    whole = course.makespan_seconds * takers
    return {
        "makespan_seconds": course.makespan_seconds,
        "over_bound": course.makespan_seconds / bound,
        "failures": course.failures,
        "lost": course.lost_seconds / whole,
        "idle": course.idle_seconds / whole,
    }


def fleet_grid(runs: int) -> Sweep:
    """At least `runs` runs of five widths in whole trunk seeds, off the tiny `cmr` run."""
    whole = cmr.sweep(cmr.settings("tiny"), "tiny")
    base = next(iter(whole.arms.values())).base
    base = dataclasses.replace(base, model=dataclasses.replace(base.model, heads=1))
    axes = {
        "model.width": WIDTHS,
        "seed": tuple(range(-(-runs // (len(WIDTHS) * RATIOS)))),
        "cpt.ratio": tuple(k / RATIOS for k in range(RATIOS)),
    }
    return dataclasses.replace(whole, arms={"grid": Grid(base, axes)})


def pace_of(folder: Path | None, stack: int) -> Pace:
    """What the processes that trained into a folder wrote down; else what `lab bench step` did."""
    if folder is not None:
        from sweeps.commands.reading import open_folder

        _, held, plan = open_folder(str(folder))
        of_name = {shape_name(one): flops.train_flops_per_token(one.model) for one in plan.groups()}
        rates: dict[int, list[float]] = {}
        for found in read_notes(folder):
            for one in found.note.spent:
                if one.shape in of_name and one.tokens and one.seconds > 0:
                    per_token = of_name[one.shape]
                    rate = one.tokens / one.seconds * per_token * stack / held.stack
                    rates.setdefault(per_token, []).append(rate)
        if rates:
            means = {k: math.exp(float(np.mean(np.log(some)))) for k, some in rates.items()}
            apart = [math.log(one / means[k]) for k, some in rates.items() for one in some]
            free = len(apart) - len(means)
            spread = math.sqrt(sum(x * x for x in apart) / free) if free > 0 else SPREAD
            return Pace(Speed(f"{len(apart)} recorded stretches of {folder}", means), spread)
    known = measured(Path("nowhere"), stack, cores())
    return Pace(known or Speed(f"assumed: {ASSUMED:g} FLOP/s a worker", {1: ASSUMED}), SPREAD)


def segment_seconds(plan: Plan, pace: Pace, stack: int, random: np.random.Generator) -> list[float]:
    """Seconds of each segment in one of a worker's lanes."""
    noise = random.normal(0.0, pace.spread, len(plan.segments))
    return [
        segment.flops * stack / pace.speed.flops_per_second(segment.path.run.model) * math.exp(one)
        for segment, one in zip(plan.segments, noise, strict=True)
    ]


def lower_bound(plan: Plan, lengths: Sequence[float], lanes: int) -> float:
    """Seconds that no order can beat: the longest chain, or all work on all lanes."""
    ends: list[float] = []
    for segment, seconds in zip(plan.segments, lengths, strict=True):  # parents come first
        ends.append(seconds + (0.0 if segment.parent is None else ends[segment.parent]))
    return max(max(ends), sum(lengths) / lanes)


# What a task a stack costs: lanes that any segment may refill, whatever its shape.
REFILLED = "lanes refilled"

# An order gives what a task is sorted by: its place in the plan, its shape's cost, its way.
ORDERS: dict[str, Callable[[int, float, float], tuple[float, ...]]] = {
    "longest way first": lambda place, cost, way: (-way,),
    "as listed": lambda place, cost, way: (place,),
    "smallest shape first": lambda place, cost, way: (cost, -way),
}


def timed_tasks(
    plan: Plan,
    tasks: Sequence[Task],
    lengths: Sequence[float],
    stack: int,
    order: Callable[[int, float, float], tuple[float, ...]],
) -> list[Timed]:
    """The tasks with the time until the last lane ends: a free one takes the next segment."""
    timed = []
    for task in tasks:
        inside = {k: n for n, k in enumerate(task.segments)}
        above = [inside.get(-1 if (p := plan.segments[k].parent) is None else p) for k in inside]
        own = [
            Timed(lengths[k], frozenset() if p is None else frozenset([p]), (-lengths[k],))
            for k, p in zip(inside, above, strict=True)
        ]
        seconds = simulate(own, stack, math.inf, seed=0, start=0.0).makespan_seconds
        cost = flops.train_flops_per_token(plan.segments[task.segments[0]].shape.model)
        key = order(task.segments[0], float(cost), task.way)
        timed.append(Timed(seconds, task.after, key))
    return timed


def timed_lanes(plan: Plan, lengths: Sequence[float]) -> list[Timed]:
    """Every segment a task of its own, for lanes that are refilled and never start anew."""
    ways = list(lengths)
    for k in reversed(range(len(ways))):
        above = plan.segments[k].parent
        if above is not None:
            ways[above] = max(ways[above], lengths[above] + ways[k])
    parents = [segment.parent for segment in plan.segments]
    return [
        Timed(seconds, frozenset() if above is None else frozenset([above]), (-way,))
        for seconds, above, way in zip(lengths, parents, ways, strict=True)
    ]


def simulate(
    tasks: Sequence[Timed],
    workers: int,
    seconds_to_failure: float,
    seed: int,
    start: float = START_SECONDS,
) -> Course:
    """Workers take the first ready task in order; one that fails gives its task back."""
    random = np.random.default_rng(seed)
    waits = [len(one.after) for one in tasks]
    below: dict[int, list[int]] = {}
    for k, one in enumerate(tasks):
        for above in one.after:
            below.setdefault(above, []).append(k)
    ready = [(one.order, k) for k, one in enumerate(tasks) if not one.after]
    heapq.heapify(ready)
    left = [one.seconds for one in tasks]
    events: list[tuple[float, int, int, float]] = []  # when, what, task, progress lost
    now, free, busy, failures, lost = 0.0, workers, 0.0, 0, 0.0
    ended, back = 0, 1  # a task ends (with the progress that is lost); a worker is there again
    undone = len(tasks)
    while undone:
        while ready and free:
            _, k = heapq.heappop(ready)
            free -= 1
            needs = start + left[k]
            until = float(random.exponential(seconds_to_failure))
            busy += min(needs, until)
            if until >= needs:
                left[k] = 0.0
                heapq.heappush(events, (now + needs, ended, k, 0.0))
            else:
                trained = max(0.0, until - start)
                wasted = min(trained, float(random.uniform(0.0, COMMIT_SECONDS)))
                left[k] -= trained - wasted
                heapq.heappush(events, (now + until, ended, k, until - trained + wasted))
        now, what, k, wasted = heapq.heappop(events)
        if what == back:
            free += 1
        elif left[k] == 0.0:
            free += 1
            undone -= 1
            for child in below.get(k, ()):
                waits[child] -= 1
                if waits[child] == 0:
                    heapq.heappush(ready, (tasks[child].order, child))
        else:
            failures += 1
            lost += wasted
            heapq.heappush(ready, (tasks[k].order, k))
            heapq.heappush(events, (now + DOWN_SECONDS, back, -1, 0.0))
    return Course(now, failures, lost, workers * now - busy)
