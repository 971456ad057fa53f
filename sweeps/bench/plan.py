"""`lab bench plan`: how long a large grid takes to plan, and many committed segments to load."""

import dataclasses
import os
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.spec import canonical
from lab.store import MARKER, EvaluationRow, Record, StepRow, Store
from sweeps.grid import Grid
from sweeps.plan import Plan, make_plan
from sweeps.results import table
from sweeps.run import open_corpora
from sweeps.studies import cmr
from sweeps.sweep import Sweep

WIDTHS = (16, 24, 32, 40, 48)
PEAKS = 10
RATIOS = 100
BRANCHES = 99  # off a trunk of the grid whose results are loaded
STATE_FILES = 9  # of a state as orbax writes it
STACK = 2


def bench_plan(runs: int, segments: int) -> dict[str, Any]:
    """Seconds to plan a grid of `runs` runs, and to make the table of `segments` segments.

    Planned is what `lab plan` plans, off the tiny `cmr` run: 5 widths, 10 rewarmed rates, 100
    ratios, and as many trunk seeds as `runs` needs. Loaded is what `lab results` loads, plan
    included, from a folder made for it: 99 ratios off each trunk, every log and evaluation there,
    states as small files. Texts are prepared beforehand.
    """
    grid = large_grid(runs)
    open_corpora(grid)
    begun = time.perf_counter()
    plan = make_plan(grid, open_corpora(grid))
    plan.summary(STACK)
    plan.most_epochs()
    value: dict[str, Any] = {"runs": len(plan.runs), "plan_seconds": time.perf_counter() - begun}
    value["planned_segments"] = len(plan.segments)
    del plan
    many = many_segments(segments)
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        pretend_trained(make_plan(many, open_corpora(many)), Path(name))
        begun = time.perf_counter()
        plan = make_plan(many, open_corpora(many))
        index = Store(Path(name)).load(set_aside=False)
        rows = table(plan, index)
        value["load_seconds"] = time.perf_counter() - begun
        value["segments"], value["rows"] = len(index.step_logs), len(rows)
    return value


def large_grid(runs: int) -> Sweep:
    """A grid of at least `runs` runs, in whole seeds."""
    whole, base = _tiny()
    axes = {
        "model.width": WIDTHS,
        "seed": tuple(range(-(-runs // (len(WIDTHS) * PEAKS * RATIOS)))),
        "cpt.peak_lr": tuple(4e-4 * (1 + k / PEAKS) for k in range(PEAKS)),
        "cpt.ratio": tuple(k / RATIOS for k in range(RATIOS)),
    }
    base = dataclasses.replace(base, model=dataclasses.replace(base.model, heads=1))
    return dataclasses.replace(whole, arms={"grid": Grid(base, axes)})


def many_segments(segments: int) -> Sweep:
    """A grid of at least `segments` segments, in whole trunks."""
    whole, base = _tiny()
    axes = {
        "seed": tuple(range(-(-segments // (1 + BRANCHES)))),
        "cpt.ratio": tuple(k / BRANCHES for k in range(BRANCHES)),
    }
    return dataclasses.replace(whole, arms={"grid": Grid(base, axes)})


def _tiny() -> tuple[Sweep, Any]:
    whole = cmr.sweep(cmr.settings("tiny"), "tiny")
    return whole, next(iter(whole.arms.values())).base


def pretend_trained(plan: Plan, out: Path) -> None:
    """Write every segment of a plan as if it had been trained, without waiting for the disk."""
    sets = plan.sets_for(plan.runs[0].path.run)
    for segment in plan.segments:
        run = segment.path.run
        end, begun = segment.end_id, segment.start_id if segment.start else None
        attempt = out / "segments" / f"{end}.00000000" / f"attempt-{end[:12]}"
        (attempt / "state").mkdir(parents=True)
        for k in range(STATE_FILES):
            (attempt / "state" / str(k)).write_bytes(b"")
        record = Record(begun, segment.start, end, segment.stop, None, True, {"stack": STACK})
        (attempt / "record.json").write_text(canonical(dataclasses.asdict(record)))
        steps = [
            StepRow(step, 2.0, 1e-3, 0.5, run.tokens_per_step * (step + 1))
            for step in range(segment.start, segment.stop)
        ]
        rows = [
            EvaluationRow(state, step, one.set_id, 2.0, 2.9, 0.4)
            for step, state in segment.stop_ids.items()
            for one in sets
        ]
        (attempt / "steps.jsonl").write_text(_lines(steps))
        (attempt / "evaluations.jsonl").write_text(_lines(rows))
        manifest = canonical(checkpoint.make_manifest(attempt))
        (attempt / "manifest.json").write_text(manifest)
        marker = {"attempt": attempt.name, "manifest": sha256(manifest.encode()).hexdigest()}
        (attempt / "marker").write_text(canonical(marker))
        os.link(attempt / "marker", attempt.parent / MARKER)


def _lines(rows: list[Any]) -> str:
    return "".join(canonical(vars(row)) + "\n" for row in rows)
