"""Averages of states: which a sweep asks for, and their evaluation off the states that it kept.

An average is read at the end of the phase that the sweep evaluates, over states that it evaluates
on the way, `average_tokens` apart: they lie in the store as every evaluated state does. Averaging
trains nothing. What it finds is a row of its own, under an identity made from the members'.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lab.averages import Average, average, averaged
from lab.identity import Path
from lab.layout import Layout
from lab.store import EvaluationRow, Index, Record, Store
from sweeps.plan import Plan
from sweeps.sweep import Evaluations


@dataclass(frozen=True)
class Averaged:
    """An average that a run asks for: of its states after `steps`, oldest first."""

    written: str
    average: Average
    path: Path
    steps: tuple[int, ...]

    @property
    def step(self) -> int:
        """Where it is read: the newest of its states."""
        return self.steps[-1]

    @cached_property
    def members(self) -> tuple[str, ...]:
        return tuple(self.path.state_id(step) for step in self.steps)

    @cached_property
    def state_id(self) -> str:
        return self.average.state_id(self.members)


def averages_of(path: Path, evaluate: Evaluations) -> list[Averaged]:
    """What a run is asked for, in the order in which the sweep names it."""
    return [
        Averaged(written, average(written), path, steps)
        for written, steps in evaluate.averaged_steps(path.run).items()
    ]


def left_to_average(plan: Plan, index: Index) -> list[Averaged]:
    """Averages that are not evaluated yet, each once; none of a run that diverged."""
    left: dict[str, Averaged] = {}
    if not plan.sweep.evaluate.averages:
        return []
    for run in plan.runs:
        sets = [one.set_id for one in plan.sets_for(run.path.run)]
        for one in averages_of(run.path, plan.sweep.evaluate):
            missing = any((one.state_id, name) not in index.evaluations for name in sets)
            gone = any(
                run.path.state_id(step + 1) in index.diverged
                for step in set(index.diverged.values())
                if step < one.step
            )
            if missing and not gone:
                left.setdefault(one.state_id, one)
    return list(left.values())


def evaluate_averages(
    plan: Plan, store: Store, index: Index, todo: Iterable[Averaged], stack: int, layout: Layout
) -> int:
    """Evaluate averages whose states are all held, and commit them; how many those were.

    On a stack of as many lanes as runs are trained on, so that their bits are those of any other
    evaluation. Raises Damaged, Gone, Failed.
    """
    held = [one for one in todo if all(state in index.states for state in one.members)]
    if not held:
        return 0
    from lab import mesh
    from lab.train import Trainer

    mesh.start(stack, layout)
    lanes = mesh.lanes(stack, layout)
    by_shape: dict[Any, list[Averaged]] = defaultdict(list)
    for one in held:
        by_shape[one.path.run.shape].append(one)
    done = 0
    for shape, members in by_shape.items():
        trainer = Trainer(shape, lanes, chunk=1)
        for first in range(0, len(members), stack):
            done += _evaluate(trainer, plan, store, index, members[first : first + stack])
    return done


def _evaluate(trainer: Any, plan: Plan, store: Store, index: Index, todo: list[Averaged]) -> int:
    """Evaluate as many averages as there are lanes, or fewer."""
    import jax
    import numpy as np

    from lab import hosts, mesh
    from lab.evaluate import scores

    lanes, like = trainer.lanes, trainer.abstract()
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like["optimizer"])
    stack = trainer.empty_stack()
    for lane, one in enumerate(todo):
        states = (store.restore(index.states[state], like)["params"] for state in one.members)
        params = averaged(states, one.average.weights)
        stack = trainer.put(stack, lane, {"params": params, "optimizer": blank})
    sets = plan.sets_for(todo[0].path.run)
    windows = mesh.placed(np.stack([one.tokens() for one in sets]), lanes.replicated)
    wanted = np.arange(lanes.count) < len(todo)
    nats, correct = hosts.whole(tuple(trainer.evaluate(stack, windows, wanted)))
    provenance = mesh.provenance(lanes)
    done = 0
    for lane, one in enumerate(todo):
        found = [scores(nats[lane, e], correct[lane, e], each) for e, each in enumerate(sets)]
        if not all(math.isfinite(got.loss_nats) for got in found):
            continue  # no row, and the run is not done
        rows = [
            EvaluationRow(
                one.state_id,
                one.step,
                each.set_id,
                got.loss_nats,
                got.bits_per_byte,
                got.accuracy,
            )
            for each, got in zip(sets, found, strict=True)
        ]
        record = Record(
            one.state_id, one.step, one.state_id, one.step, None, state=False, provenance=provenance
        )
        store.commit(record, [], rows, None)
        done += 1
    return done
