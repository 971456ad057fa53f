"""Strict jax, and eight simulated devices, before anything touches one; what tests share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import pytest

from sweeps.cli import main
from sweeps.run import Outcome
from tests.sweeps.small import small_sweep, trained

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `lab run cmr --scale smoke`. Tests only read it."""
    out = tmp_path_factory.mktemp("cmr") / "smoke"
    told = ["run", "cmr", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The small sweep, undisturbed."""
    return trained(tmp_path_factory.mktemp("whole"), small_sweep())


@pytest.fixture
def lab_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`lab ...` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*told: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(one) for one in told])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def told_json(lab_command: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """`lab ... --json`, which must end well and print one JSON value and nothing else."""

    def run(*told: object) -> Any:
        code, out, _ = lab_command(*told, "--json")
        assert code == 0
        return json.loads(out)

    return run


@pytest.fixture
def losses(tmp_path: Path) -> Path:
    """A table that the chinchilla law made, in two families."""
    rows = [
        {"n_params": n, "n_tokens": d, "family": family,
         "loss_nats": 1.7 + factor * 400 * n**-0.34 + 410 * d**-0.28}
        for family, factor in (("a", 1.0), ("b", 1.5))
        for n in (1e6, 1e7, 1e8)
        for d in (1e8, 1e9, 1e10)
    ]  # fmt: skip
    path = tmp_path / "losses.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
