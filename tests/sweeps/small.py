"""A sweep of seconds: two phases, a model of 4,760 parameters, steps of 64 tokens."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import settings

import sweeps.engines.local
import sweeps.run
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, Stage, decay, hold, warm
from lab.store import EvaluationRow, Index, StepRow
from sweeps.grid import Grid
from sweeps.plan import Plan, make_plan
from sweeps.progress import Display
from sweeps.remaining import Work
from sweeps.run import Outcome, open_corpora, run_sweep
from sweeps.sweep import Evaluations, Sweep

ROOT = FilePath(__file__).parents[2]
few = settings(deadline=None, max_examples=25, database=None, derandomize=True)

GENERAL, DOMAIN = "synthetic-words", "synthetic-markov"
MODEL = ModelSpec(width=8, layers=1, heads=1, mlp_width=16, context=16)
STEP = 64  # tokens of one step
TRUNK, BRANCH = 4, 6  # steps
PEAK = 1e-2
STACK = 2


def cooled() -> tuple[Stage, ...]:
    """Warm for a step, hold, fall over the last step."""
    return warm(STEP, PEAK), hold(), decay(STEP, PEAK / 10)


def constant() -> tuple[Stage, ...]:
    """Rewarm for a step, then hold: a longer branch begins with the shorter one."""
    return warm(STEP, PEAK / 2), hold()


def small_run(branch: int = BRANCH, schedule: tuple[Stage, ...] | None = None) -> RunSpec:
    """A trunk on general text, then a branch of `branch` steps, half of it domain text."""
    trunk = Phase("pretrain", TRUNK * STEP, (Share(GENERAL, 1.0),), cooled())
    mixture = (Share(DOMAIN, 0.5), Share(GENERAL, 0.5))
    cpt = Phase("cpt", branch * STEP, mixture, schedule or constant())
    return RunSpec(MODEL, OptimizerSpec(), (trunk, cpt), seed=0, batch=4)


def small_sweep(
    seeds: Iterable[int] = (0,),
    ratios: Iterable[float] = (0.0, 0.5),
    branch: int = BRANCH,
    horizons: Iterable[int] | None = None,
    **axes: Any,
) -> Sweep:
    """One arm. Horizons are in steps of the branch; `axes` go by path, `__` for its dots."""
    named: dict[str, Any] = {"seed": tuple(seeds), "cpt.ratio": tuple(ratios)}
    named |= {path.replace("__", "."): values for path, values in axes.items()}
    at = tuple(steps * STEP for steps in horizons or (branch,))
    evaluate = Evaluations((GENERAL, DOMAIN), windows=8, phase="cpt", horizons=at)
    return Sweep("small", "tiny", {"only": Grid(small_run(branch), named)}, evaluate)


# A study file such as a user writes one; string annotations are the hard case for dataclasses.
STUDY_FILE = f"""
from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

sys.path.insert(0, {str(ROOT)!r})
from fits.figures.plots import Figure
from fits.report import Findings, Table
from sweeps.study import Study
from tests.sweeps.small import small_sweep


@dataclass(frozen=True)
class Settings:
    branch: int = 6
    seeds: tuple[int, ...] = (0,)
    shares: tuple[float, ...] = (0.0, 0.5)
    label: str = "plain"
    loud: bool = False


def sweep(told, scale):
    grown = small_sweep(told.seeds, told.shares, told.branch)
    return dataclasses.replace(grown, study="mine", scale=scale)


def read(results, told, asked):
    ends = results[results["status"] == "done"].groupby("run")["loss_nats"].last()
    rows = Table("last losses", "of each run", ends.reset_index())
    figure = Figure("curves", "losses", rows.frame, lambda canvas: canvas.subplots().plot(ends))
    return Findings(f"{{len(ends)}} runs", [rows], [], [figure], ["a note"], {{}})


STUDY = Study(
    "mine", "My study", "What happens?", lambda scale: Settings(), sweep, read,
    lambda told, asked: ["few runs"], ("smoke", "tiny"),
)
"""


def study_file(folder: FilePath) -> FilePath:
    """A user's own study file in a folder."""
    path = folder / "mine.py"
    path.write_text(STUDY_FILE)
    return path


def planned(sweep: Sweep) -> Plan:
    return make_plan(sweep, open_corpora(sweep))


def trained(out: FilePath, sweep: Sweep, say: Callable[[str], None] = print) -> Outcome:
    """The sweep, trained into a folder on two lanes."""
    return run_sweep(sweep, out, stack=STACK, quiet=True, say=say)


def csv(outcome: Outcome) -> str:
    """The table as it is written: equal texts are equal bits."""
    return outcome.results.to_csv(index=False)


def files_below(folder: FilePath) -> dict[str, bytes]:
    """Every file of a folder, by name, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def index_after(plan: Plan) -> Index:
    """What the store holds when every segment of a plan is committed."""
    index = Index()
    for segment in plan.segments:
        index.states[segment.end_id] = FilePath(segment.end_id)
        index.state_steps.add(segment.stop)
        for step, state in segment.stop_ids.items():
            for one in plan.sets_for(segment.path.run):
                row = EvaluationRow(state, step, one.set_id, 5.0, 7.0, 0.0)
                index.evaluations[state, one.set_id] = row
    return index


def use_engine(patch: pytest.MonkeyPatch, **options: Any) -> None:
    """Let sweeps train with other chunk or commit lengths from now on."""
    engine = sweeps.engines.local.LocalEngine
    patch.setattr(sweeps.engines.local, "LocalEngine", partial(engine, **options))


class Stopped(BaseException):
    """Stands for a kill: nothing on the way out may catch it."""


def stop_after(patch: pytest.MonkeyPatch, calls: int) -> None:
    """Raise Stopped out of the engine at a given call of the watcher's `logged`."""

    class Stopping(Display):
        left = calls

        def logged(self, work: Work, rows: list[StepRow]) -> None:
            self.left -= 1
            if self.left == 0:
                raise Stopped
            super().logged(work, rows)

    patch.setattr(sweeps.run, "Display", Stopping)
