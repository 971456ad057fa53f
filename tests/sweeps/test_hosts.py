"""Two processes on loopback are one machine: same losses, one writer, an end when one dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.errors import Refused
from lab.hosts import LOST, join
from tests.sweeps.small import BRANCH, ROOT, TRUNK, study_file

WINDOWS = 4 * (TRUNK + 2 * BRANCH)  # that the three segments of the small sweep read

COUNTING = """
import os

from lab.corpora import Corpus

read_windows = Corpus.read_windows


def counting(self, windows, context):
    with open(os.environ["WINDOWS_READ"], "a") as file:
        print(len(windows), file=file)
    return read_windows(self, windows, context)


Corpus.read_windows = counting
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def process(study: Path, out: Path, *more: str, devices: int = 1) -> subprocess.Popen[bytes]:
    told = ["run", str(study), "--out", str(out), "--stack", "2", "--quiet", *more]
    env = {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    env["WINDOWS_READ"] = f"{out}.windows"
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *told],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def two_hosts(study: Path, out: Path, *more: str) -> list[subprocess.Popen[bytes]]:
    """The hosts' processes; each is told an output folder of its own."""
    meet = ["--coordinator", f"127.0.0.1:{free_port()}", "--hosts", "2"]
    return [
        process(study, out.with_name(f"{out.name}-{k}"), *meet, "--host", str(k), *more)
        for k in range(2)
    ]


def ended(one: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, errors = one.communicate(timeout=120)
    return one.returncode, out.decode(), errors.decode()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = study_file(tmp_path_factory.mktemp("study"))
    path.write_text(path.read_text() + COUNTING)
    return path


@pytest.fixture(scope="module")
def alone(study: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of one process on one device."""
    out = tmp_path_factory.mktemp("alone") / "out"
    code, _, errors = ended(process(study, out))
    assert code == 0, errors
    return pd.read_csv(out / "results.csv")


@pytest.mark.parametrize("mesh", ["data=2", "run=2", "fsdp=2"])
def test_two_hosts_train_what_one_process_trains_and_each_reads_its_part(
    study: Path, alone: pd.DataFrame, tmp_path: Path, mesh: str
) -> None:
    for code, _, errors in map(ended, two_hosts(study, tmp_path / "out", "--mesh", mesh)):
        assert code == 0, errors
    table = pd.read_csv(tmp_path / "out-0" / "results.csv")
    assert list(table.columns) == list(alone.columns)
    assert table["segment"].tolist() == alone["segment"].tolist()
    # measured: 3.0e-7
    np.testing.assert_allclose(table["loss_nats"], alone["loss_nats"], rtol=0, atol=2e-6)
    logs = [(tmp_path / f"out-{k}.windows").read_text() for k in range(2)]
    read = [sum(map(int, log.split())) for log in logs]
    assert sum(read) == WINDOWS
    assert read[0] == read[1] or mesh == "run=2"  # the trunk is one lane's
    assert min(read) > 0
    # written once: the second host made no folder at all
    assert not (tmp_path / "out-1").exists()
    attempts = list((tmp_path / "out-0").glob("segments/*/attempt-*"))
    assert len(attempts) == len(list((tmp_path / "out-0").glob("segments/*/DONE.json"))) == 3


@pytest.mark.parametrize("dies", [0, 1])
def test_a_host_that_dies_ends_the_run_with_a_line_and_the_run_goes_on(
    study: Path, tmp_path: Path, dies: int
) -> None:
    more = ("--mesh", "data=2", "--set", "branch=400")
    hosts = two_hosts(study, tmp_path / "out", *more)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("out-0/segments/*/DONE.json")):
        assert all(one.poll() is None for one in hosts)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hosts[dies].send_signal(signal.SIGKILL)
    hosts[dies].communicate()
    code, _, errors = ended(hosts[1 - dies])
    assert code == 1
    assert f"lab: {LOST}" in errors.splitlines()
    assert not (tmp_path / "out-0" / "results.csv").exists()

    for code, _, errors in map(ended, two_hosts(study, tmp_path / "out", *more)):
        assert code == 0, errors
    for code, _, errors in map(ended, two_hosts(study, tmp_path / "whole", *more)):
        assert code == 0, errors
    whole = (tmp_path / "whole-0" / "results.csv").read_bytes()
    assert (tmp_path / "out-0" / "results.csv").read_bytes() == whole


def test_hosts_that_were_told_different_things_are_refused(study: Path, tmp_path: Path) -> None:
    meet = ["--coordinator", f"127.0.0.1:{free_port()}", "--hosts", "2", "--mesh", "data=2"]
    first = process(study, tmp_path / "a", *meet, "--host", "0")
    other = process(study, tmp_path / "b", *meet, "--host", "1", "--set", "branch=8")
    code, _, errors = ended(other)
    assert code == 2
    assert "lab: this host was told another sweep" in errors
    code, _, errors = ended(first)
    assert code == 1
    assert f"lab: {LOST}" in errors


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            ("127.0.0.1:1", 2, None),
            "several hosts need --coordinator HOST:PORT, --hosts and --host",
        ),
        ((None, 2, 0), "several hosts need"),
        (("127.0.0.1", 2, 0), "must read HOST:PORT, or auto"),
        (("127.0.0.1:1", 2, 2), "--host 2 of --hosts 2: must be in 0..1"),
        (("auto", 2, None), "the cluster says how many hosts there are"),
    ],
)
def test_how_hosts_meet_is_said_whole(told: tuple, says: str) -> None:
    with pytest.raises(Refused, match=says.replace(".", r"\.")):
        join(*told)
