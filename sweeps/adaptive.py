"""Adaptive sweeps: `lab run STUDY --until "NAME < WIDTH"`.

A round is a set of runs of the full grid, chosen by what is on disk and written to `rounds.jsonl`,
with a prediction for each, before they start. The folder holds the full sweep: `lab run` without
--until trains the rest. What is decided is a pure function of the finished runs, of the lines
written before and of the settings, and an unfinished round is finished first: so a sweep that is
killed goes on to the same rounds. The rule that ends it reads the number that the report prints,
not what a model makes of it.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import flops
from sweeps.budget import Spending, choose
from sweeps.folder import Folder
from sweeps.plan import Plan, PlannedRun
from sweeps.remaining import Remaining, only, remaining
from sweeps.results import table
from sweeps.rounds import (
    Round,
    append_round,
    chosen_runs,
    expected_run,
    predictions,
    read_rounds,
)
from sweeps.run import Outcome
from sweeps.study import Study
from sweeps.target import Condition, Offer, Proposal, Reading, Target, parse_condition

if TYPE_CHECKING:
    import pandas as pd

    from lab.store import Index

REACHED = "reached"
GRID_SPENT = "not reached: nothing that is left of the grid would narrow it"
BUDGET_SPENT = "not reached: the budget is spent"


@dataclass(frozen=True)
class Decision:
    """What is read now, and what to train next (nothing: `verdict` says why)."""

    reading: Reading
    proposal: Proposal | None
    verdict: str | None


@dataclass(frozen=True)
class Aim:
    """What was asked for: a condition on a target of a study, as it was told to be."""

    study: Study
    settings: Any
    condition: Condition

    @property
    def target(self) -> Target:
        return self.study.targets[self.condition.name]

    def decide(self, plan: Plan, todo: Remaining, results: "pd.DataFrame") -> Decision:
        """The next round, or why there is none. Pure."""
        reading = self.target.read(results, self.settings, plan.sweep)
        if self.condition.holds(reading.width) and not reading.doubt:
            return Decision(reading, None, REACHED)
        missing = {work.segment for work in todo.work}
        waiting = [run for run in plan.runs if missing.intersection(run.segments)]
        offer = Offer(waiting, self.condition.width, lambda runs: price(plan, todo, runs))
        proposal = self.target.propose(results, self.settings, plan.sweep, offer)
        return Decision(reading, proposal, None if proposal.runs else GRID_SPENT)


def aim(text: str, study: Study, settings: Any, plan: Plan) -> Aim:
    """What --until was told. Raises Refused."""
    asked = Aim(study, settings, parse_condition(text, study.name, study.targets))
    asked.target.refuse(settings, plan.sweep)
    return asked


def price(plan: Plan, todo: Remaining, runs: Sequence[PlannedRun]) -> float:
    """Training FLOPs that are missing of some runs; stretches that they share count once."""
    through = {k for run in runs for k in run.segments}
    return float(
        sum(
            flops.train_flops(plan.segments[work.segment].path.run, work.stop - work.start)
            for work in todo.work
            if work.segment in through
        )
    )


def of_runs(todo: Remaining, runs: Sequence[PlannedRun]) -> Remaining:
    """What is missing of some runs alone."""
    through = {k for run in runs for k in run.segments}
    chosen = {number for number, work in enumerate(todo.work) if work.segment in through}
    return dataclasses.replace(todo, work=only(todo.work, chosen))


@dataclass
class Rounds:
    """The `limit` of `run_sweep` that lets it train one round; `train` goes from round to round."""

    aim: Aim
    out: Path
    spending: Spending
    say: Callable[[str], None]
    verdict: str | None = None
    reach: float = math.inf  # the width that the whole grid is expected to give, as last reckoned
    _told: bool = field(default=False, init=False)  # whether this call of `run_sweep` had its round

    def refuse(self, plan: Plan, index: "Index") -> None:
        """Raise Refused if a budget does not pay for one run of what comes next. Only reads."""
        todo, left = remaining(plan, index), chosen_runs(plan, read_rounds(self.out))
        if not of_runs(todo, left).work:
            proposal = self.aim.decide(plan, todo, table(plan, index)).proposal
            left = [one.run for one in proposal.runs] if proposal else []
        if left and self.spending.limits:
            choose(dataclasses.replace(plan, runs=left), of_runs(todo, left), self.spending.limits)

    def train(self, run: "Callable[[Rounds], Outcome]") -> Outcome:
        """Round after round, until there is a verdict. `run`: `run_sweep`, told all but a limit."""
        trained = 0
        while True:
            self._told = False
            outcome = run(self)
            trained += outcome.trained_tokens
            if self.verdict is not None:
                return dataclasses.replace(outcome, trained_tokens=trained)

    def __call__(self, plan: Plan, todo: Remaining) -> Remaining:
        """The work of the round that is open; decides on one where none is."""
        rounds = read_rounds(self.out)
        runs = chosen_runs(plan, rounds)
        if not of_runs(todo, runs).work and not self._told:
            runs = self._decide(plan, todo, len(rounds) + 1)
        self._told = True
        work = of_runs(todo, runs)
        paid = self.spending(dataclasses.replace(plan, runs=runs), work)
        if work.work and not paid.work:
            self.verdict = BUDGET_SPENT
        return paid

    def _decide(self, plan: Plan, todo: Remaining, number: int) -> list[PlannedRun]:
        # Another process may write this round, and train, before the results are read here: then
        # its line stands (`append_round`), for it was decided on no more than the rounds before.
        index = Folder(self.out).store.load(set_aside=False)
        decision = self.aim.decide(plan, todo, table(plan, index))
        self.verdict = decision.verdict
        self.reach = decision.proposal.reach if decision.proposal else decision.reading.width
        if decision.proposal is None or not decision.proposal.runs:
            return []
        one = a_round(self.aim, decision, number, plan, todo)
        if append_round(self.out, one):
            for line in described(one, decision.reading.text, self.aim.condition):
                self.say(line)
        return chosen_runs(plan, read_rounds(self.out))

    def summary(self, outcome: Outcome) -> dict[str, Any]:
        """For `--json` and the last lines: plain data."""
        plan, rounds = outcome.plan, read_rounds(self.out)
        target = self.aim.target
        reading = target.read(outcome.results, self.aim.settings, plan.sweep)
        measured = target.measured(outcome.results, self.aim.settings, plan.sweep)
        full = float(sum(one.flops for one in plan.segments))
        left = price(plan, remaining(plan, outcome.index), plan.runs)
        return {
            "condition": str(self.aim.condition),
            "reached": self.verdict == REACHED,
            "verdict": self.verdict,
            "width": reading.width if math.isfinite(reading.width) else None,
            "reading": reading.text,
            "reach": self.reach if math.isfinite(self.reach) else None,
            "rounds": [one.to_json() for one in rounds],
            "predictions": predictions(rounds, {self.aim.condition.name: measured}),
            "runs_chosen": len(chosen_runs(plan, rounds)),
            "flops_spent": full - left,
            "flops_full": full,
        }


def a_round(asked: Aim, decision: Decision, number: int, plan: Plan, todo: Remaining) -> Round:
    """A decision as it is written down."""
    proposal = decision.proposal
    assert proposal is not None
    width = decision.reading.width
    known = {**decision.reading.values, "width": width if math.isfinite(width) else None}
    return Round(
        number,
        asked.condition.name,
        str(asked.condition),
        known,
        proposal.expected,
        proposal.reach if math.isfinite(proposal.reach) else None,
        price(plan, todo, [one.run for one in proposal.runs]),
        tuple(expected_run(one) for one in proposal.runs),
    )


def described(one: Round, reading: str, condition: Condition) -> list[str]:
    """A round in lines, before it starts."""
    runs = [" ".join(f"{k}={_short(v)}" for k, v in run.values.items()) for run in one.runs]
    low, high = (_short(one.expected.get(key)) for key in ("low", "high"))
    lines = [
        f"round {one.number}: {reading}; next {len(runs)} runs for {one.flops:.3g} FLOPs: "
        f"{', '.join(runs)}; the reading is then expected to be {low} .. {high}"
    ]
    if one.reach is None or not condition.holds(one.reach):
        reach = "an open end" if one.reach is None else f"a width of {one.reach:.3g}"
        lines.append(f"the whole grid is expected to leave {reach}: {condition} may not be reached")
    return lines


def _short(value: Any) -> str:
    return "open" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def first_round(asked: Aim, out: Path, plan: Plan, todo: Remaining, index: "Index") -> Any:
    """For `lab plan`: the round that `lab run` would go on with, or the verdict. Only reads."""
    rounds = read_rounds(out)
    if of_runs(todo, chosen_runs(plan, rounds)).work:
        return rounds[-1].to_json()
    decision = asked.decide(plan, todo, table(plan, index))
    if decision.verdict is not None:
        return {"verdict": decision.verdict, "reading": decision.reading.text, "runs": []}
    return a_round(asked, decision, len(rounds) + 1, plan, todo).to_json()


def until_lines(value: Any) -> list[str]:
    """What `lab plan` prints of `first_round`; nothing where --until was not told."""
    if value is None:
        return []
    if not value["runs"]:
        return [f"--until: {value['verdict']}; {value['reading']}"]
    runs = [" ".join(f"{k}={_short(v)}" for k, v in run["values"].items()) for run in value["runs"]]
    return [f"round {value['round']} of {value['until']}: {len(runs)} runs: {', '.join(runs)}"]


def ended_lines(value: Any) -> list[str]:
    """What `lab run` prints of `Rounds.summary`; nothing where --until was not told."""
    if value is None:
        return []
    measured = [row["inside"] for row in value["predictions"] if row["inside"] is not None]
    lines = [
        f"{value['condition']}: {value['verdict']}; {value['reading']}",
        f"{len(value['rounds'])} rounds, {value['runs_chosen']} runs chosen, "
        f"{value['flops_spent']:.3g} of {value['flops_full']:.3g} FLOPs of the grid spent; "
        f"{sum(measured)} of {len(measured)} predictions held",
    ]
    if not value["reached"]:
        reach = "an open end" if value["reach"] is None else f"a width of {value['reach']:.3g}"
        lines.append(f"the whole grid is expected to leave {reach}")
    return lines
