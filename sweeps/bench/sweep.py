"""`lab bench sweep`: a small grid, one process a run with nothing shared, against the lab."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.home import home
from sweeps.bench.timing import apart
from sweeps.grid import Grid
from sweeps.run import default_stack, open_corpora
from sweeps.studies import cmr
from sweeps.sweep import Sweep, sweep_from_json

if TYPE_CHECKING:
    import pandas as pd

RATIOS = (0.0, 1 / 4, 1 / 2, 3 / 4)

Losses = dict[tuple[str, float, int, str], float]


def grid() -> Sweep:
    """The smoke grid of `cmr`: two sizes, four ratios, one trunk each."""
    whole = cmr.sweep(cmr.settings("smoke"), "smoke")
    axes = {"seed": (0,), "cpt.ratio": RATIOS}
    arms = {name: Grid(one.base, axes) for name, one in whole.arms.items()}
    return Sweep(whole.study, whole.scale, arms, whole.evaluate)


def bench_sweep(repeats: int) -> dict[str, Any]:
    """Seconds of both ways, each from a cold compilation cache; ratio and largest loss difference.

    Texts are prepared beforehand for both. Medians over `repeats`.
    """
    asked = grid()
    open_corpora(asked)
    alone, shared, differences = [], [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        apiece: Losses = {}
        for one in _single_runs(asked):
            apiece.update(_train_apart(one, 1))
        alone.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        together = _train_apart(asked, default_stack())
        shared.append(time.perf_counter() - begun)
        differences.append(max(abs(apiece[key] - loss) for key, loss in together.items()))
    return {
        "runs": sum(1 for _ in _single_runs(asked)),
        "stack": default_stack(),
        "seconds_one_process_a_run": statistics.median(alone),
        "seconds_lab": statistics.median(shared),
        "ratio": statistics.median(a / b for a, b in zip(alone, shared, strict=True)),
        "max_loss_difference": max(differences),
    }


def _single_runs(asked: Sweep) -> Iterator[Sweep]:
    for name, one in asked.arms.items():
        for values, _ in one.points():
            axes = {path: (value,) for path, value in values.items()}
            yield Sweep(asked.study, asked.scale, {name: Grid(one.base, axes)}, asked.evaluate)


def _train_apart(asked: Sweep, stack: int) -> Losses:
    with _cold_home() as folder:
        return apart(_train, asked.to_json(), str(folder), stack)


@contextmanager
def _cold_home() -> Iterator[Path]:
    """A lab's folder with this one's texts and nothing compiled."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        (Path(folder) / "corpora").symlink_to(home() / "corpora")
        yield Path(folder)


def _train(asked: str, folder: str, stack: int) -> Losses:
    """In a fresh process: train a sweep, give its losses."""
    os.environ["LAB_HOME"] = folder
    from sweeps.run import run_sweep

    outcome = run_sweep(sweep_from_json(asked), Path(folder) / "out", stack=stack, quiet=True)
    return losses_of(outcome.results)


def losses_of(table: "pd.DataFrame") -> Losses:
    """Losses of a grid's table by arm, ratio, step and corpus."""
    keys = zip(table["arm"], table["cpt_ratio"], table["step"], table["corpus"], strict=True)
    return dict(zip(keys, table["loss_nats"], strict=True))
