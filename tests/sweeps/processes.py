"""Real processes that train one small study, slowly enough to be disturbed."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.store import Store
from tests.sweeps.small import ROOT, study_file

BRANCH = 60
STEPS = 4 + 2 * BRANCH  # of its trunk and two branches
LIMIT_SECONDS = 120
_started: list[subprocess.Popen[str]] = []

# What a test tells the process, by environment: seconds a chunk of four steps takes, seconds after
# which its leases are stale, seconds that may be silent, whether the wall clock jumps.
DISTURBED = """
import os
import time
from functools import partial

import sweeps.engines.local
import sweeps.leases
import sweeps.watchdog
from lab.train import Trainer
from sweeps.progress import Display

engine = partial(sweeps.engines.local.LocalEngine, chunk_steps=4, commit_seconds=0.2)
sweeps.engines.local.LocalEngine = engine
sweeps.leases.LEASE_SECONDS = float(os.environ.get("TEST_LEASE", "600"))
sweeps.leases.BEAT_SECONDS = 0.0
sweeps.watchdog.HANG_SECONDS = float(os.environ.get("TEST_HANG", "1800"))
logged = Display.logged


def slowly(self, work, rows):
    time.sleep(float(os.environ.get("TEST_SLOW", "0")))
    logged(self, work, rows)


Display.logged = slowly
if "TEST_JUMP" in os.environ:
    right = time.time
    time.time = lambda: right() + (1e6 if time.monotonic() % 1.4 < 0.7 else -1e6)
if "TEST_HANGS" in os.environ:
    Trainer.train = lambda self, *told: time.sleep(3600)
"""


# Workers of an engine load no study file: they are disturbed on the way in.
OF_AN_ENGINE = """
import sys

import sweeps.engines.fleet

sweeps.engines.fleet.WORKER = (sys.executable, "-m", "tests.sweeps.disturbed_worker")
sweeps.engines.fleet.POLL_SECONDS = 0.2
"""


def disturbed_study(folder: Path, more: str = "") -> Path:
    """A study file that does what its environment says."""
    path = study_file(folder)
    path.write_text(path.read_text() + DISTURBED + more)
    return path


def start(study: Path, out: Path | str, *more: str, **told: object) -> subprocess.Popen[str]:
    """`lab run` of the study on one lane; `told` is its environment, TEST_ left out."""
    command = ["run", str(study), "--set", f"branch={BRANCH}", "--out", str(out), "--stack", "1"]
    command += more
    named = {f"TEST_{name.upper()}": str(value) for name, value in told.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *command, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **named},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.append(process)
    return process


def training(out: Path) -> list[int]:
    """Processes that have a lease on a piece, the driver of an engine never."""
    found = []
    for file in out.glob(".leases/*.worker"):
        with contextlib.suppress(OSError, ValueError):  # gone, or not written yet
            if file.stat().st_nlink > 1:
                found.append(int(json.loads(file.read_bytes())["pid"]))
    return found


def steps_trained(out: Path) -> int:
    """Steps of all that is committed; STEPS where none was trained twice."""
    logs = Store(out).load(verify_states=True, set_aside=False).step_logs
    return sum(record.end_step - record.start_step for record, _ in logs)


def end_all() -> None:
    """End what a test that failed has left."""
    while _started:
        one = _started.pop()
        if one.poll() is None:
            one.kill()
            one.communicate()


def ended(process: subprocess.Popen[str], seconds: float = LIMIT_SECONDS) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process, once it has ended."""
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out, errors


def well(process: subprocess.Popen[str]) -> Any:
    """What a process that must end well printed."""
    code, out, errors = ended(process)
    assert code == 0, errors
    return json.loads(out)


def until(
    what: Callable[[], bool], *processes: subprocess.Popen[str], seconds: float = LIMIT_SECONDS
) -> None:
    """Wait for something that living processes bring about."""
    deadline = time.monotonic() + seconds
    while not what():
        for one in processes:
            assert one.poll() is None, ended(one)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def markers(out: Path) -> int:
    """Attempts that are committed."""
    return len(list(out.glob("segments/*/DONE.json")))


def tables(out: Path) -> tuple[bytes, bytes]:
    """Every byte of the results."""
    return (out / "results.csv").read_bytes(), (out / "results.parquet").read_bytes()
