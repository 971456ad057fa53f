"""What a verb does not need, it does not load: help is quick, and reading a folder needs no JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeps.small import ROOT

HEAVY = (
    "jax", "flax", "orbax", "optax", "grain", "scipy", "pandas", "numpy", "pyarrow", "matplotlib"
)  # fmt: skip
TRAINING = ("jax", "flax", "orbax", "optax", "grain", "tensorstore")
HELPS = ["--help", "plan --help", "run --help", "results --help", "fit --help", "data list --help"]
READERS = [
    "status SMOKE", "results SMOKE", "results SMOKE --steps", "report SMOKE --to a.md",
    "plot SMOKE --to a.png", "gc SMOKE", "merge SMOKE nowhere", "predict SMOKE/fit.json none.csv",
    "adopt", "data list", "frontier akima none.csv",
]  # fmt: skip


def loaded(told: list[str], among: tuple[str, ...], cwd: Path) -> dict[str, list[str]]:
    """What of `among` is loaded after each of several commands of one process, in this order."""
    code = f"""
import contextlib, io, json, sys
from sweeps.cli import main
seen = {{}}
for told in {told!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(told.split()) in (0, 2)
    seen[told] = [name for name in {among!r} if name in sys.modules]
print(json.dumps(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("told", "among"), [(HELPS, HEAVY), (["studies"], (*TRAINING, "scipy"))])
def test_what_is_only_listed_loads_no_heavy_library(
    tmp_path: Path, told: list[str], among: tuple[str, ...]
) -> None:
    assert loaded(told, among, tmp_path) == {one: [] for one in told}


def test_laws_need_numpy_alone(tmp_path: Path) -> None:
    assert loaded(["laws"], HEAVY, tmp_path) == {"laws": ["numpy"]}


def test_what_reads_a_folder_or_a_fit_loads_no_jax(smoke: Path, tmp_path: Path) -> None:
    told = [one.replace("SMOKE", str(smoke)) for one in READERS]
    assert loaded(told, TRAINING, tmp_path) == {one: [] for one in told}
