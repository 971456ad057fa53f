"""A sweep on a Ray of several nodes, of which one is taken away, and whose driver is killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.sweeps.processes import (
    LIMIT_SECONDS,
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
from tests.sweeps.small import ROOT, STEP

if importlib.util.find_spec("ray") is None:
    pytest.skip("ray is not installed (the extra ray)", allow_module_level=True)

pytestmark = pytest.mark.timeout(600)  # three nodes take half a minute to start on two cores


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@contextmanager
def ray_nodes() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process that holds the nodes, and their address."""
    # workers have their node's environment, not their driver's
    slow = {"TEST_SLOW": "1"}  # a branch takes 15 s at least: they overlap
    told = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **slow}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sweeps.ray_nodes"],
        env=told,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            for one in psutil.wait_procs(family, timeout=10)[1]:
                one.kill()


def listening(process: subprocess.Popen[str]) -> set[str]:
    """Addresses on which a process and all below it wait for others."""
    found = set()
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        try:
            connections = one.net_connections("inet")
        except psutil.Error:  # it has ended
            continue
        waiting = [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]
        found |= {ip.removeprefix("::ffff:") for ip in waiting}  # IPv4 on a socket of IPv6
    return found


def node_of(pid: int) -> int:
    """The raylet above a worker."""
    above = psutil.Process(pid).parents()
    return next(one.pid for one in above if one.name() == "raylet")


def test_a_node_is_lost_then_the_driver_and_the_table_is_that_of_one_process(
    tmp_path: Path,
) -> None:
    study = disturbed_study(tmp_path, OF_AN_ENGINE)
    well(start(study, tmp_path / "alone"))
    out = tmp_path / "out"
    with ray_nodes() as (nodes, address):
        assert address.startswith("127.0.0.1:")
        engine = ("--engine", "ray", "--engine-set", f"address={address}", "--engine-set", "cpus=1")
        driver = start(study, out, *engine)
        # both branches are under way, on a node each, and parts of them are committed
        until(lambda: markers(out) >= 4 and len(training(out)) == 2, driver, seconds=300)
        assert len({node_of(pid) for pid in training(out)}) == 2
        assert listening(nodes) | listening(driver) <= {"127.0.0.1", "::1"}
        before = set(training(out))
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        nodes.stdin.write("lose one\n")
        nodes.stdin.flush()
        assert nodes.stdout.readline() == "removed\n"
        until(lambda: len(before & set(training(out))) < 2, driver)
        driver.send_signal(signal.SIGKILL)
        ended(driver)
        deadline = time.monotonic() + LIMIT_SECONDS
        while before & set(psutil.pids()):  # no task outlives its driver for ever
            assert time.monotonic() < deadline
            time.sleep(0.1)
        again = well(start(study, out, *engine))
    assert 0 < again["trained_tokens"] < STEPS * STEP
    assert tables(out) == tables(tmp_path / "alone")
    assert steps_trained(out) == STEPS


def test_a_ray_of_its_own_is_on_loopback(tmp_path: Path) -> None:
    study = disturbed_study(tmp_path, OF_AN_ENGINE)
    driver = start(
        study, tmp_path / "out", "--engine", "ray", "--engine-set", "cpus=1", "--workers", "1",
        slow=1,
    )  # fmt: skip
    until(lambda: bool(training(tmp_path / "out")), driver, seconds=300)
    assert listening(driver) <= {"127.0.0.1", "::1"}
    driver.send_signal(signal.SIGTERM)
    code, _, errors = ended(driver)
    assert code == 75, errors
    assert "stopped by SIGTERM" in errors
