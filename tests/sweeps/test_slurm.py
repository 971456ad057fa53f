"""Jobs of a queue: the driver dies, a job is preempted, and the table is that of one process.

submitit's local executor stands for the queue, and a real SLURM on loopback where it is installed.
"""

import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.engines.fleet import JOBS, PRIVATE
from tests.sweeps.processes import (
    OF_AN_ENGINE,
    STEPS,
    disturbed_study,
    end_all,
    ended,
    markers,
    start,
    steps_trained,
    tables,
    training,
    until,
    well,
)
from tests.sweeps.slurm_here import slurm, why_not
from tests.sweeps.small import STEP

if importlib.util.find_spec("submitit") is None:
    pytest.skip("submitit is not installed (the extra slurm)", allow_module_level=True)

QUEUE = ("--engine", "slurm", "--workers", "3")
HERE = (*QUEUE, "--engine-set", "cluster=local")
TASKS = 3  # a trunk and two branches, one lane each


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disturbed_study(tmp_path_factory.mktemp("study"), OF_AN_ENGINE)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The results of one process, without an engine."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    well(start(study, out))
    return tables(out)


def jobs(out: Path) -> list[str]:
    lines = (out / PRIVATE / JOBS).read_text().splitlines()
    return [json.loads(line)["id"] for line in lines]


def logs(out: Path) -> str:
    return "".join(one.read_text() for one in sorted(out.glob(f"{PRIVATE}/slurm/*_log.out")))


def test_a_job_that_is_preempted_goes_back_and_on_from_what_it_saved(
    tmp_path: Path, study: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    out = tmp_path / "out"
    driver = start(study, out, *HERE, slow=0.1)
    until(lambda: markers(out) >= 3 and bool(training(out)), driver)  # in the middle of a branch
    os.kill(training(out)[0], signal.SIGTERM)
    assert well(driver)["trained_tokens"] == STEPS * STEP
    assert "lab: stopped by SIGTERM; what was trained is saved" in logs(out)
    assert len(jobs(out)) == TASKS  # it was submitit that started it again
    assert tables(out) == undisturbed
    assert steps_trained(out) == STEPS


def test_a_driver_that_was_killed_is_started_again_and_finds_its_jobs(
    tmp_path: Path, study: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    out = tmp_path / "out"
    driver = start(study, out, *HERE, slow=0.5)  # the branches overlap
    until(lambda: markers(out) >= 3 and len(training(out)) == 2, driver)
    driver.send_signal(signal.SIGKILL)
    ended(driver)
    assert well(start(study, out, *HERE))["trained_tokens"] < STEPS * STEP
    assert len(jobs(out)) == TASKS  # none was handed over twice
    assert tables(out) == undisturbed
    assert steps_trained(out) == STEPS


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.timeout(900)  # SLURM lets a job that was put back wait for two minutes
def test_on_a_real_slurm_a_job_is_preempted_and_its_driver_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    study: Path,
    undisturbed: tuple[bytes, bytes],
) -> None:
    out = tmp_path / "out"
    with slurm(tmp_path / "slurm") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        driver = start(study, out, *QUEUE, slow=0.1)
        until(lambda: (out / PRIVATE / JOBS).exists() and len(jobs(out)) == TASKS, driver)
        dependencies = asked("squeue", "--noheader", "--format=%E", f"--jobs={jobs(out)[1]}")
        assert f"afterany:{jobs(out)[0]}" in dependencies
        until(lambda: markers(out) >= 3 and bool(training(out)), driver)
        driver.send_signal(signal.SIGKILL)
        ended(driver)
        running = asked("squeue", "--noheader", "--states=R", "--format=%i").split()
        asked("scancel", "--signal=TERM", running[0])
        until(lambda: "stopped by SIGTERM; what was trained is saved" in logs(out))
        again = start(study, out, *QUEUE)
        code, _, errors = ended(again, seconds=600)
        assert code == 0, errors
    assert len(jobs(out)) == TASKS
    assert tables(out) == undisturbed
    assert steps_trained(out) == STEPS


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
