"""Strict jax, and eight simulated devices, before anything touches one; one run of a study."""

from pathlib import Path

import jax
import pytest

from sweeps.cli import main

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `lab run cmr --scale smoke`. Tests only read it."""
    out = tmp_path_factory.mktemp("cmr") / "smoke"
    assert (
        main(["run", "cmr", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]) == 0
    )
    return out
