"""Whenever a sweep is stopped, the next one ends in the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.folder import Folder
from sweeps.run import Outcome
from tests.sweeps.small import (
    ROOT,
    STEP,
    TRUNK,
    Stopped,
    csv,
    small_sweep,
    stop_after,
    study_file,
    trained,
    use_engine,
)

BRANCH = 3
SWEEP = small_sweep(branch=BRANCH)
STEPS = TRUNK + 2 * BRANCH  # of its three segments


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The undisturbed sweep."""
    return trained(tmp_path_factory.mktemp("whole"), SWEEP)


@pytest.mark.parametrize("steps", range(1, STEPS + 1))
def test_stopped_at_any_step_a_sweep_goes_on_to_the_same_table(
    tmp_path: Path, whole: Outcome, steps: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            trained(tmp_path, SWEEP)
    after = trained(tmp_path, SWEEP)
    assert csv(after) == csv(whole)
    # lost at most: of each of two lanes, the step being read and the one in flight behind it
    assert after.trained_tokens <= (STEPS - steps + 4) * STEP
    assert trained(tmp_path, SWEEP).trained_tokens == 0


def test_stopped_again_and_again_a_sweep_still_ends(tmp_path: Path, whole: Outcome) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, 4)
        for _ in range(STEPS):
            try:
                outcome = trained(tmp_path, SWEEP)
                break
            except Stopped:
                continue
    assert csv(outcome) == csv(whole)


def test_what_a_killed_writer_left_is_removed_and_read_by_nobody(
    tmp_path: Path, whole: Outcome
) -> None:
    first = trained(tmp_path, SWEEP)
    attempt = first.index.states[first.plan.segments[1].end_id]
    (attempt.parent / "DONE.json").unlink()  # killed between the last byte and the marker
    said: list[str] = []
    after = trained(tmp_path, SWEEP, said.append)
    assert csv(after) == csv(whole)
    assert after.trained_tokens == BRANCH * STEP
    assert not attempt.exists()
    assert len(said) == 1


# A real kill ---------------------------------------------------------------------------------


def command(study: Path, out: Path) -> subprocess.Popen[bytes]:
    told = ["run", str(study), "--set", "branch=400", "--out", str(out), "--stack", "1", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *told],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def committed(out: Path) -> int:
    return len(list(out.glob("segments/*/DONE.json")))


def test_killed_outright_a_sweep_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    study = study_file(tmp_path)
    process = command(study, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while committed(tmp_path / "killed") == 0:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = committed(tmp_path / "killed")
    assert kept < 3
    assert not (tmp_path / "killed" / "results.csv").exists()

    finished(command(study, tmp_path / "killed"))
    finished(command(study, tmp_path / "whole"))
    for name in ("results.csv", "results.parquet"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "killed" / name).read_bytes() == whole
    held = Folder(tmp_path / "killed").held()
    assert held is not None
    assert len(Folder(tmp_path / "killed").store.load().step_logs) == 3
