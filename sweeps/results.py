"""The tidy table: one row per run, evaluated state and corpus, in a fixed order.

Built from a plan and the store's index alone, so that it does not depend on what was killed,
resumed or re-ordered. Rows of states that runs share carry the same `segment` (and `step`).
"""

import dataclasses
from typing import Any

import pandas as pd

from lab import flops
from lab.evaluate import EvaluationSet
from lab.mixture import Stream
from lab.spec import canonical
from lab.store import Index, StepRow, Store
from sweeps.grid import plain
from sweeps.plan import Plan, PlannedRun, Segment
from sweeps.remaining import diverged_step

TABLE_SCHEMA = 1


def axis_columns(values: dict[str, Any]) -> dict[str, Any]:
    """Swept values as columns: `cpt.ratio` -> cpt_ratio; a swept model -> its fields."""
    columns: dict[str, Any] = {}
    for path, value in values.items():
        name = path.replace(".", "_")
        value = plain(value)  # as it is read back from sweep.json
        if isinstance(value, dict):
            columns.update({f"{name}_{key}": value[key] for key in sorted(value)})
        elif isinstance(value, list):
            columns[name] = canonical(value)
        else:
            columns[name] = value
    return columns


def table(plan: Plan, index: Index) -> pd.DataFrame:
    """One row per run, evaluated state and corpus. Columns are described in the README."""
    rows: list[dict[str, Any]] = []
    for run in plan.runs:
        rows.extend(_run_rows(plan, index, run))
    if not rows:
        return pd.DataFrame(columns=["schema_version", "run", "corpus", "loss_nats"])
    return pd.DataFrame(rows)


def _run_rows(plan: Plan, index: Index, run: PlannedRun) -> list[dict[str, Any]]:
    path = run.path
    model = path.run.model
    stream = Stream(path, plan.by_digest)
    phase_ends = _phase_ends(path.run)
    head = {
        "schema_version": TABLE_SCHEMA,
        "arm": run.arm,
        "run": path.state_id(path.steps)[:12],
        **axis_columns(run.values),
        "n_params": flops.parameters(model).total,
        "n_params_non_embedding": flops.parameters(model).non_embedding,
        "trunk": path.state_id(phase_ends[0])[:12],
        "status": status_of(plan, index, run),
    }
    rows: list[dict[str, Any]] = []
    for k in run.segments:
        segment = plan.segments[k]
        for step, state in segment.stop_ids.items():
            for evaluation_set in plan.sets_for(path.run):
                row = index.evaluations.get((state, evaluation_set.set_id))
                if row is None:
                    continue
                rows.append(
                    {
                        **head,
                        "segment": segment.end_id[:12],
                        **_place(path.run, step, phase_ends),
                        "lr": float(path.lr[step - 1]) if step > 0 else 0.0,
                        "train_flops": flops.train_flops(path.run, step),
                        "corpus": evaluation_set.corpus.name,
                        **_data_read(stream, evaluation_set, step, phase_ends),
                        "loss_nats": row.loss_nats,
                        "bits_per_byte": row.bits_per_byte,
                        "accuracy": row.accuracy,
                    }
                )
    return rows


def _phase_ends(run: Any) -> list[int]:
    ends: list[int] = []
    for steps in run.phase_steps():
        ends.append((ends[-1] if ends else 0) + steps)
    return ends


def _place(run: Any, step: int, phase_ends: list[int]) -> dict[str, Any]:
    phase, step_in_phase = run.phase_of(step)
    return {
        "phase": phase.name,
        "step": step,
        "step_in_phase": step_in_phase,
        "tokens": step * run.tokens_per_step,
        "tokens_in_phase": step_in_phase * run.tokens_per_step,
    }


def _data_read(
    stream: Stream, evaluation_set: EvaluationSet, step: int, phase_ends: list[int]
) -> dict[str, float]:
    """Epochs of this corpus since step 0, and its realised share of the phase so far."""
    digest = evaluation_set.corpus.digest
    begun = max([0, *(end for end in phase_ends if end < step)])
    now, then = stream.cursors(step), stream.cursors(begun)
    windows = (step - begun) * stream.path.run.batch
    share = (now.get(digest, 0) - then.get(digest, 0)) / windows if windows else 0.0
    return {"share_in_phase": share, "epochs": stream.epochs(step).get(digest, 0.0)}


def status_of(plan: Plan, index: Index, run: PlannedRun) -> str:
    """done, diverged, diverged parent, or incomplete."""
    for place, k in enumerate(run.segments):
        segment = plan.segments[k]
        if diverged_step(segment, index) is not None:
            return "diverged" if place == len(run.segments) - 1 else "diverged parent"
    sets = [one.set_id for one in plan.sets_for(run.path.run)]
    for k in run.segments:
        for state in plan.segments[k].stop_ids.values():
            if any((state, one) not in index.evaluations for one in sets):
                return "incomplete"
    return "done"


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
