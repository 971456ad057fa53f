"""What the lab's own trackers write is read back as a table, to the fit that the results give.

A stand-in writes the event files and W&B's run files, byte by byte; where the packages are
installed they write them themselves.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fits
from fits.form import Law, Parameter, Variable
from sweeps.run import run_sweep
from tests.fits.logs.writing import event, event_file, scalar, wandb_file
from tests.sweeps.small import DOMAIN, STACK, TRUNK, small_sweep

LINE = Law(
    name="line",
    title="Loss in steps: a line",
    formula="L = a - b t",
    response=Variable("loss_nats", "nats/token", "loss"),
    variables=(Variable("step", "steps", "step", positive=False),),
    parameters=(Parameter("a", "at the start"), Parameter("b", "fall a step")),
    source="for this test",
    predict=lambda p, x: p["a"] - p["b"] * x["step"],
    linear=("a", "b"),
)


class Writer:
    """tensorboardX.SummaryWriter, as far as it is used."""

    def __init__(self, logdir: str, flush_secs: int) -> None:
        self.folder, self.events = Path(logdir), list[bytes]()

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.events.append(event(global_step, scalar(tag, scalar_value)))

    def close(self) -> None:
        event_file(self.folder, self.events)


class Run:
    """A run of wandb, as far as it is used."""

    count = 0

    def __init__(self, name: str, config: dict[str, Any], dir: str, **_: Any) -> None:
        Run.count += 1
        self.key, self.name, self.config = f"id{Run.count}", name, config
        self.folder, self.rows = Path(dir) / "wandb" / self.key, dict[int, dict[str, float]]()

    def log(self, data: dict[str, float], step: int) -> None:
        self.rows.setdefault(step, {}).update(data)

    def finish(self) -> None:
        wandb_file(self.folder, self.key, self.name, self.config, self.rows)


def stand_in(name: str, patch: pytest.MonkeyPatch) -> None:
    module = ModuleType(name)
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    module.init = Run  # type: ignore[attr-defined]
    patch.setitem(sys.modules, name, module)


@pytest.fixture(params=["tensorboard", "wandb"])
def tracker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["stand-in", "installed"])
def packages(
    request: pytest.FixtureRequest, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    package = {"tensorboard": "tensorboardX", "wandb": "wandb"}[tracker]
    if request.param == "stand-in":
        stand_in(package, monkeypatch)
        yield
        return
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package itself
        pytest.importorskip(package)
        yield
        if package == "wandb":
            importlib.import_module("wandb").teardown()


def read_back(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return fits.read_table(folder), [str(one.message) for one in caught]


@pytest.mark.usefixtures("packages")
def test_what_a_tracker_wrote_gives_the_fit_of_the_results(tracker: str, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    outcome = run_sweep(
        small_sweep(), out, stack=STACK, quiet=True, say=said.append, track=(tracker,)
    )
    assert said == []
    table, said = read_back(out / tracker)
    assert said == []
    results = outcome.results.drop_duplicates(["segment", "step", "corpus"])
    results = results[(results["corpus"] == DOMAIN) & (results["step"] > TRUNK)]
    column = f"{DOMAIN}/loss_nats"
    there = table[table[column].notna() & (table["step"] > TRUNK)]
    assert len(there) == len(results) > 4
    exact = tracker == "wandb"  # an event file holds 32 bits
    tolerance = 0.0 if exact else 1e-6
    assert sorted(there[column]) == pytest.approx(sorted(results["loss_nats"]), rel=tolerance)
    mine = fits.fit(LINE, there, columns={"loss_nats": column}, by="run")
    true = fits.fit(LINE, results, by="run")
    for name in LINE.names:
        assert mine.params[name] == pytest.approx(true.params[name], rel=max(tolerance * 100, 1e-9))
    assert np.isfinite(table["train/lr"].dropna()).all()
    if tracker == "wandb":  # settings too
        assert set(there["cpt.ratio"]) == {0.0, 0.5}
        assert set(there["seed"]) == {0}
