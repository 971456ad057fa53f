"""A lane of the stack: the piece of work in it, and what is known of it since its last commit."""

import math
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import jax

from lab.evaluate import scores
from lab.evaluation_set import EvaluationSet
from lab.mixture import Stream
from lab.optimizer import Hyper, hyper
from lab.store import EvaluationRow, Record, StepRow
from sweeps.plan import Plan, Segment
from sweeps.remaining import Work


@dataclass
class Lane:
    """A piece of work in a lane of the stack; `begun` is the step of its last commit."""

    number: int
    work: Work
    segment: Segment
    stream: Stream
    sets: list[EvaluationSet]
    hyper: Hyper
    step: int
    begun: int
    committed_at: float  # on the monotonic clock
    step_rows: list[StepRow] = field(default_factory=list)
    evaluation_rows: list[EvaluationRow] = field(default_factory=list)
    diverged_step: int | None = None
    kept: dict[int, Any] = field(default_factory=dict)  # states at stops since the last commit
    intermediate: FilePath | None = None

    def next_stop(self) -> int:
        """The next step at which the lane must pause: to be evaluated, or at its end."""
        return next((step for step in self.work.evaluate if step > self.step), self.work.stop)

    def new_at_stop(self) -> bool:
        """Whether the piece starts at a state that it evaluates, and has not yet."""
        start = self.work.start
        return self.step == start and start in self.work.evaluate and not self.evaluation_rows

    def kept_bytes(self) -> int:
        """Memory that the states at stops take, on the host."""
        return sum(leaf.nbytes for one in self.kept.values() for leaf in jax.tree.leaves(one))

    def read_steps(self, first: int, losses: Any, norms: Any) -> list[StepRow]:
        """Take in the losses and gradient norms of the steps from `first` on; their rows."""
        run = self.segment.path.run
        before = len(self.step_rows)
        for k, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
            if self.diverged_step is not None:
                break
            step = first + k
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.diverged_step = step
                break
            lr = float(self.segment.path.lr[step])
            self.step_rows.append(StepRow(step, loss, lr, norm, run.tokens_per_step * (step + 1)))
        return self.step_rows[before:]

    def read_evaluation(
        self, step: int, nats: Any, correct: Any
    ) -> list[tuple[str, EvaluationRow]]:
        """Take in the evaluation of the state at `step`; a row each corpus, by name."""
        rows: list[tuple[str, EvaluationRow]] = []
        if self.diverged_step is not None and step > self.diverged_step:
            return rows
        state = self.segment.stop_ids[step]
        for e, one in enumerate(self.sets):
            got = scores(nats[e], correct[e], one)
            if not math.isfinite(got.loss_nats):
                # the update before this state did it; its own loss was still finite
                self.diverged_step = step - 1
                self.evaluation_rows = [r for r in self.evaluation_rows if r.step < step]
                return rows
            row = EvaluationRow(
                state, step, one.set_id, got.loss_nats, got.bits_per_byte, got.accuracy
            )
            self.evaluation_rows.append(row)
            rows.append((one.corpus.name, row))
        return rows

    def record(self, end: int, state: bool, provenance: dict[str, str | int]) -> Record:
        """What is committed of the lane from its last commit to step `end`."""
        path = self.segment.path
        return Record(
            start=path.state_id(self.begun) if self.begun > 0 else None,
            start_step=self.begun,
            end=path.state_id(end),
            end_step=end,
            diverged_step=self.diverged_step,
            state=state,
            provenance=provenance,
        )

    def committed(self, folder: FilePath, now: float) -> None:
        """All up to the present step is on disk, in `folder`; the piece goes on."""
        # states at stops stay: another corpus may be evaluated on them
        self.intermediate = None if self.step in self.segment.stop_ids else folder
        self.begun, self.step_rows, self.evaluation_rows, self.kept = self.step, [], [], {}
        self.committed_at = now


def lane_of(plan: Plan, number: int, work: Work, now: float) -> Lane:
    """A lane that is about to begin a piece of work."""
    segment = plan.segments[work.segment]
    run = segment.path.run
    return Lane(
        number,
        work,
        segment,
        Stream(segment.path, plan.by_digest),
        plan.sets_for(run),
        hyper(run.optimizer),
        step=work.start,
        begun=work.start,
        committed_at=now,
    )


@dataclass
class InFlight:
    """A dispatched chunk or evaluation whose results have not been read yet."""

    lanes: list[tuple[int, Lane, int, int]]  # (lane, whose, first step, steps)
    log: Any
    evaluation: Any
    evaluated: list[tuple[int, Lane, int]]  # (lane, whose, step)
