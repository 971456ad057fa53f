"""Which of a plan's unfinished runs a budget pays for; the others are cut, and named.

Runs are taken in this order: every arm's runs of the first-listed seed as the grids list them, then
those of the second seed, and so on; a run is taken if what is missing of it still fits, and cut as
a whole if not. So seeds go first (intervals widen, no place of the law is lost), and within a seed
the runs listed last, of the arm listed last. What is finished, or belongs to a run taken before,
costs nothing. Only training is counted, not evaluation.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab import flops
from lab.errors import Refused
from sweeps.plan import Plan, PlannedRun, Segment
from sweeps.remaining import Remaining, only

SHOWN = 6  # runs of an arm that a line names


@dataclass(frozen=True)
class Limit:
    """At most `amount` of something; `a_step` says how much of it one step of a segment takes."""

    option: str
    amount: float
    unit: str
    a_step: Callable[[Segment], float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise Refused(f"{self.option} {self.amount:g}: must be a positive number")


def flops_limit(amount: float) -> Limit:
    """At most `amount` training FLOPs."""
    return Limit("--budget-flops", amount, "FLOPs", lambda one: flops.train_flops(one.path.run, 1))


def hours_limit(amount: float, flops_per_second: Callable[[Segment], float]) -> Limit:
    """At most `amount` hours of this machine, at a known speed."""

    def a_step(segment: Segment) -> float:
        seconds = flops.train_flops(segment.path.run, 1) / flops_per_second(segment)
        return seconds / 3600

    return Limit("--budget-hours", amount, "hours", a_step)


@dataclass(frozen=True)
class Choice:
    """Runs that are taken, and that are cut, in the order of the rule; `costs` by option."""

    taken: list[PlannedRun]
    cut: list[PlannedRun]
    costs: dict[str, float]
    work: set[int]  # numbers of the pieces of work that are taken

    def lines(self) -> list[str]:
        """What was cut, an arm a line."""
        by_arm: dict[str, list[str]] = defaultdict(list)
        for run in self.cut:
            by_arm[run.arm].append(" ".join(f"{k}={_short(v)}" for k, v in run.values.items()))
        said = []
        for arm, runs in by_arm.items():
            more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
            said.append(f"arm {arm}: cut {len(runs)} runs: {', '.join(runs[:SHOWN])}{more}")
        return said


def choose(plan: Plan, todo: Remaining, limits: list[Limit]) -> Choice:
    """What the limits pay for. Raises Refused where that is not one unfinished run."""
    of_segment: dict[int, list[int]] = defaultdict(list)  # a damaged one can have several pieces
    for number, work in enumerate(todo.work):
        of_segment[work.segment].append(number)
    costs = [
        [(work.stop - work.start) * one.a_step(plan.segments[work.segment]) for one in limits]
        for work in todo.work
    ]
    spent = [0.0 for _ in limits]
    taken: list[PlannedRun] = []
    cut: list[PlannedRun] = []
    paid: set[int] = set()
    cheapest: list[float] | None = None
    waiting = _in_order(plan)
    while True:
        cut, cheapest = [], None
        for run in waiting:
            new = {number for k in run.segments for number in of_segment.get(k, ())} - paid
            price = [sum(costs[number][n] for number in new) for n in range(len(limits))]
            after = [s + p for s, p in zip(spent, price, strict=True)]
            if any(price) and any(s > one.amount for s, one in zip(after, limits, strict=True)):
                cut.append(run)
                cheapest = price if cheapest is None else min(cheapest, price)
                continue
            taken.append(run)
            paid |= new
            spent = after
        if len(cut) in (0, len(waiting)):
            break
        waiting = cut  # a trunk that was paid for since may bring a run within reach
    if cheapest is not None and not any(spent):
        needs = ", ".join(
            f"{price:.3g} {one.unit} ({one.option} {one.amount:g})"
            for price, one in zip(cheapest, limits, strict=True)
        )
        raise Refused(f"the budget is too small for one run: the cheapest left needs {needs}")
    named = {one.option: s for one, s in zip(limits, spent, strict=True)}
    return Choice(taken, cut, named, paid)


def _in_order(plan: Plan) -> list[PlannedRun]:
    """Seed by seed, as they are listed; within one as the grids list their points."""
    places = {
        arm: {seed: k for k, seed in enumerate(grid.axes.get("seed", ()))}
        for arm, grid in plan.sweep.arms.items()
    }
    return sorted(plan.runs, key=lambda run: places[run.arm].get(run.values.get("seed"), 0))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass
class Spending:
    """Limits while a sweep runs: asked again after every round, it counts what it has given out.

    A piece that is given out counts in full, even if it is found damaged and must be trained again:
    more than the limits is never begun.
    """

    limits: list[Limit]
    say: Callable[[str], None]
    given: list[float] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)  # as last said

    def __call__(self, plan: Plan, todo: Remaining) -> Remaining:
        """What of the missing work is paid for. Raises Refused where that is not one run."""
        if not self.limits or not todo.work:
            return todo
        begun = bool(self.given)
        given = self.given or [0.0 for _ in self.limits]
        left = [one.amount - spent for one, spent in zip(self.limits, given, strict=True)]
        if begun and min(left) <= 0:
            return dataclasses.replace(todo, work=[])
        limits = [
            dataclasses.replace(one, amount=amount)
            for one, amount in zip(self.limits, left, strict=True)
        ]
        try:
            choice = choose(plan, todo, limits)
        except Refused:
            if not begun:
                raise
            return dataclasses.replace(todo, work=[])
        cut = choice.lines()
        if not begun or (cut and cut != self.cut):
            for line in cut if begun else described(choice, self.limits):
                self.say(line)
        self.cut = cut
        self.given = [s + choice.costs[one.option] for s, one in zip(given, limits, strict=True)]
        return dataclasses.replace(todo, work=only(todo.work, choice.work))


def described(choice: Choice, limits: list[Limit]) -> list[str]:
    """What a choice costs, and what it cuts."""
    if not choice.cut:
        return ["the budget pays for every run"]
    costs = " and ".join(
        f"{choice.costs[one.option]:.3g} of {one.amount:.3g} {one.unit}" for one in limits
    )
    runs = len(choice.taken) + len(choice.cut)
    return [f"budget: {len(choice.taken)} of {runs} runs for {costs}", *choice.lines()]
