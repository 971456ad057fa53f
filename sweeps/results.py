"""The tidy table: one row per run, evaluated state and corpus, in a fixed order.

Built from a plan and the store's index alone, so that it does not depend on what was killed,
resumed or re-ordered. Rows of states that runs share carry the same `segment` (and `step`). Where a
sweep asks for averages of states, `average` names the one that a row is of; "" is a state itself.
"""

import dataclasses
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd

from lab import flops
from lab.identity import Path
from lab.mixture import Stream
from lab.spec import canonical
from lab.store import EvaluationRow, Index, StepRow, Store, no_cycles_sought
from sweeps.averaging import averages_of, left_to_average
from sweeps.grid import plain
from sweeps.plan import Plan, PlannedRun, Segment, data_of, rates_of
from sweeps.remaining import diverged_step

TABLE_SCHEMA = 1
ADOPTED = "adopted"  # the phase of step 0 where a run starts from a checkpoint: its trunk's end

# Where a row lies on its run. `share_in_phase` is the corpus's realised share of the phase so far,
# `epochs` how often it was read since step 0.
_PLACES = (
    "phase", "step", "step_in_phase", "tokens", "tokens_in_phase", "lr", "train_flops", "corpus",
    "share_in_phase", "epochs",
)  # fmt: skip


def axis_columns(values: dict[str, Any]) -> dict[str, Any]:
    """Swept values as columns: `cpt.ratio` -> cpt_ratio; a swept model or phase -> its fields."""
    columns: dict[str, Any] = {}
    for path, value in values.items():
        name = path.replace(".", "_")
        value = plain(value)  # as it is read back from sweep.json
        parts = (
            {f"{name}_{key}": value[key] for key in sorted(value)}
            if isinstance(value, dict)
            else {name: value}
        )
        for column, part in parts.items():
            columns[column] = canonical(part) if isinstance(part, dict | list) else part
    return columns


@no_cycles_sought()
def table(plan: Plan, index: Index) -> pd.DataFrame:
    """One row per run, evaluated state and corpus. Columns are described in the README."""
    reader = _Reader(plan, index)
    heads: list[dict[str, Any]] = []
    counts: list[int] = []
    columns: dict[str, list[Any]] = {}
    for run in plan.runs:
        blocks = [reader.block(k, run) for k in run.segments]
        count = sum(len(block["step"]) for block in blocks)
        if not count:
            continue
        heads.append(reader.head(run))
        counts.append(count)
        for block in blocks:
            for name, values in block.items():
                columns.setdefault(name, []).extend(values)
    if not heads:
        return pd.DataFrame(columns=["schema_version", "run", "corpus", "loss_nats"])
    of_runs = pd.DataFrame(heads)
    repeated = of_runs.take(np.repeat(np.arange(len(heads)), counts)).reset_index(drop=True)
    # the axes that only later arms have come last
    order = list(dict.fromkeys([*heads[0], *columns, *of_runs.columns]))
    return pd.concat([repeated, pd.DataFrame(columns)], axis=1)[order]


class _Reader:
    """Reads a segment at a time: runs that share it, under phases that end alike, share rows."""

    def __init__(self, plan: Plan, index: Index) -> None:
        self.plan, self.index = plan, index
        self.blocks: dict[Any, dict[str, list[Any]]] = {}
        self.places: dict[Any, dict[str, list[Any]]] = {}
        self.by_digest = plan.by_digest
        self.ids = {key: one.set_id for key, one in plan.evaluation_sets.items()}
        self.windows = {
            key: one.corpus.train_windows(one.context) for key, one in plan.evaluation_sets.items()
        }
        self.found = [self._found(segment) for segment in plan.segments]
        self.sound = list(map(self._sound, plan.segments, self.found))
        self.left = {one.state_id for one in left_to_average(plan, index)}

    def head(self, run: PlannedRun) -> dict[str, Any]:
        """What all rows of a run have in common."""
        path, spec = run.path, run.path.run
        count = flops.parameters(spec.model)
        trunk = spec.phase_steps()[0]  # the end of a phase is the end of a segment
        ends = {self.plan.segments[k].stop: self.plan.segments[k] for k in run.segments}
        return {
            "schema_version": TABLE_SCHEMA,
            "arm": run.arm,
            "run": ends[path.steps].end_id[:12],
            **axis_columns(run.values),
            "n_params": count.total,
            "n_params_non_embedding": count.non_embedding,
            "trunk": path.state_id(0)[:12] if spec.start else ends[trunk].end_id[:12],
            "status": self._status(run),
        }

    def block(self, k: int, run: PlannedRun) -> dict[str, list[Any]]:
        """Rows of one segment, by column."""
        phases = run.path.run.phases
        key = k, tuple([(phase.name, phase.tokens) for phase in phases])
        if key not in self.blocks:
            block = self._block(self.plan.segments[k], self.found[k], run.path)
            if len(self.plan.segments[k].runs) == 1:
                return block
            self.blocks[key] = block
        return self.blocks[key]

    def _found(self, segment: Segment) -> list[EvaluationRow | None]:
        """What is there of each stop on each corpus, in the order of `_places`."""
        context = segment.path.run.model.context
        sets = [self.ids[name, context] for name in self.plan.sweep.evaluate.corpora]
        get = self.index.evaluations.get
        return [get((state, one)) for state in segment.stop_ids.values() for one in sets]

    def _block(
        self, segment: Segment, found: list[EvaluationRow | None], path: Path
    ) -> dict[str, list[Any]]:
        # a shared segment is read off the first of its runs: same state, same identity
        spec = path.run
        key = segment.start, tuple(segment.stops), rates_of(spec), data_of(spec), spec.model
        if key not in self.places:
            self.places[key] = self._places(segment.stops, path)
        columns = self.places[key]
        there = [k for k, row in enumerate(found) if row is not None]
        if len(there) < len(found):
            columns = {name: [values[k] for k in there] for name, values in columns.items()}
        rows = [row for row in found if row is not None]
        block = _rows(segment, columns, rows)
        if not self.plan.sweep.evaluate.averages:
            return block
        more = self._averages(segment, path)
        block["average"] = [""] * len(rows)
        return {name: [*values, *more[name]] for name, values in block.items()}

    def _averages(self, segment: Segment, path: Path) -> dict[str, list[Any]]:
        """Rows of the averages that are read at a segment's end, by column."""
        names, context = self.plan.sweep.evaluate.corpora, path.run.model.context
        found = [
            (one.written, k, row)
            for one in averages_of(path, self.plan.sweep.evaluate)
            if one.step == segment.stop
            for k, name in enumerate(names)
            if (row := self.index.evaluations.get((one.state_id, self.ids[name, context])))
        ]
        at_end = self._places([segment.stop], path)
        columns = {name: [values[k] for _, k, _ in found] for name, values in at_end.items()}
        block = _rows(segment, columns, [row for _, _, row in found])
        return block | {"average": [written for written, _, _ in found]}

    def _places(self, stops: list[int], path: Path) -> dict[str, list[Any]]:
        """Columns that say where rows of a segment lie on its runs, whatever their seed."""
        spec = path.run
        context = spec.model.context
        stream = Stream(path, self.by_digest)
        ends = [0, *accumulate(spec.phase_steps())]
        before_lr = float(np.float32(path.origin.lr)) if path.origin is not None else 0.0
        rows: list[tuple[Any, ...]] = []
        for step in stops:
            phase, step_in_phase = spec.phase_of(step)
            begun = max([0, *(end for end in ends if end < step)])
            now, then = stream.cursors(step), stream.cursors(begun)
            windows = (step - begun) * spec.batch
            for name in self.plan.sweep.evaluate.corpora:
                digest = self.plan.corpora[name].digest
                share = (now.get(digest, 0) - then.get(digest, 0)) / windows if windows else 0.0
                rows.append(
                    (
                        ADOPTED if path.origin is not None and step == 0 else phase.name,
                        step,
                        step_in_phase,
                        step * spec.tokens_per_step,
                        step_in_phase * spec.tokens_per_step,
                        float(path.lr[step - 1]) if step > 0 else before_lr,
                        flops.train_flops(spec, step),
                        name,
                        share,
                        now.get(digest, 0) / self.windows[name, context],
                    )
                )
        by_column = zip(*rows, strict=True) if rows else ([] for _ in _PLACES)
        return dict(zip(_PLACES, map(list, by_column), strict=True))

    def _sound(self, segment: Segment, found: list[EvaluationRow | None]) -> str:
        """done, diverged or incomplete."""
        if diverged_step(segment, self.index) is not None:
            return "diverged"
        return "incomplete" if any(row is None for row in found) else "done"

    def _status(self, run: PlannedRun) -> str:
        """done, diverged, diverged parent, or incomplete."""
        found = [self.sound[k] for k in run.segments]
        if "diverged" in found:
            last = found.index("diverged") == len(found) - 1
            return "diverged" if last else "diverged parent"
        left = self.left and self.left & {
            one.state_id for one in averages_of(run.path, self.plan.sweep.evaluate)
        }
        return "incomplete" if left or "incomplete" in found else "done"


def _rows(
    segment: Segment, places: dict[str, list[Any]], rows: list[EvaluationRow]
) -> dict[str, list[Any]]:
    """Columns of evaluations at these places of a segment's runs."""
    return {
        "segment": [segment.end_id[:12]] * len(rows),
        **places,
        "loss_nats": [row.loss_nats for row in rows],
        "bits_per_byte": [row.bits_per_byte for row in rows],
        "accuracy": [row.accuracy for row in rows],
    }


def step_table(plan: Plan, index: Index, store: Store) -> pd.DataFrame:
    """Per-step log: one row per planned segment and step (batch loss, rate, gradient norm)."""
    rows: list[dict[str, Any]] = []
    for segment in plan.segments:
        by_step: dict[int, StepRow] = {}
        for record, folder in index.step_logs:
            if not _lies_in(record.start_step, record.end_step, record.end, segment):
                continue
            for row in store.read_steps(folder):
                if segment.start <= row.step < segment.stop:
                    by_step.setdefault(row.step, row)
        for _, row in sorted(by_step.items()):  # however the segment was cut when it was committed
            rows.append({"segment": segment.end_id[:12], **dataclasses.asdict(row)})
    frame = pd.DataFrame(
        rows, columns=["segment", "step", "loss_nats", "lr", "grad_norm", "tokens"]
    )
    return frame


def _lies_in(start: int, end: int, end_id: str, segment: Segment) -> bool:
    """Whether a committed stretch belongs to the path of a planned segment, and overlaps it."""
    if end <= segment.start or start >= segment.stop or end > segment.path.steps:
        return False
    return segment.path.state_id(end) == end_id
