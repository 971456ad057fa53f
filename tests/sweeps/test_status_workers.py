"""`lab status`, worker by worker: here and elsewhere, and which of them is slow or silent."""

import dataclasses
import os
import time
from pathlib import Path

import pytest

from lab.store import Index
from sweeps.notes import NOTES, SILENT_SECONDS, Found, Note, Notebook, Owner, Reached, read_notes
from sweeps.notes import Spent as SpentOn
from sweeps.plan import Plan
from sweeps.remaining import remaining
from sweeps.status import SHOWN, status_of
from sweeps.tally import shape_name
from sweeps.workers import Worker, workers_of
from tests.sweeps.small import index_after, planned, small_sweep


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(small_sweep(seeds=range(6), model__mlp_width=(16, 32)))


def at(
    plan: Plan,
    number: int,
    pid: int,
    rate: float = 50.0,
    quiet: float = 1.0,
    alive: bool | None = None,
    host: str = "node",
) -> Found:
    """A worker with a lane at a segment, and 10 s of training behind it."""
    segment = plan.segments[number]
    spent = (SpentOn(shape_name(segment.shape), round(10 * rate), 10.0),)
    note = Note(False, None, spent, (Reached(segment.end_id, 1, True),))
    return Found(Owner(host, "", pid, ""), note, alive, quiet)


def of(plan: Plan, notes: list[Found], index: Index | None = None) -> list[Worker]:
    return workers_of(plan, remaining(plan, index or Index()), notes)


def test_a_worker_elsewhere_trains_while_it_gives_signs(plan: Plan) -> None:
    notes = [at(plan, 0, 2), at(plan, 1, 1), at(plan, 0, 3, quiet=SILENT_SECONDS + 1)]
    assert [(one.pid, one.state, one.segments) for one in of(plan, notes)] == [
        (1, "trains", 1),
        (2, "trains", 1),
        (3, "silent", 1),
    ]
    status = status_of(plan, Index(), notes, None)
    assert (status.processes, status.elsewhere, status.silent_elsewhere) == (0, 3, 1)
    assert status.total("running") == 2
    assert status.groups[0].tokens_per_second == 100.0  # of the two that train
    assert "processes on other machines: 2 train; 1 gave no sign" in "\n".join(status.remarks())
    assert status.worker_lines()[2] == (
        "worker node:3 silent: 1 segments of 8x1 mlp 16, 50 tokens/s, last sign 2:01 ago"
    )


def test_who_is_far_behind_the_others_of_its_shape_is_slow(plan: Plan) -> None:
    same = [at(plan, k, k, rate) for k, rate in enumerate((50.0, 60.0, 24.0))]
    assert [one.state for one in of(plan, same)] == ["trains", "trains", "slow"]
    assert [one.state for one in of(plan, same[1:])] == ["trains", "trains"]  # too few to tell
    other = next(k for k, one in enumerate(plan.segments) if one.shape != plan.segments[0].shape)
    mixed = [*same[:2], at(plan, other, 9, 24.0)]
    assert [one.state for one in of(plan, mixed)] == ["trains"] * 3


def test_who_is_gone_has_ended_or_has_nothing_undone_is_no_worker(plan: Plan) -> None:
    gone = at(plan, 0, 1, alive=False)
    ended = at(plan, 0, 2)
    ended = dataclasses.replace(ended, note=dataclasses.replace(ended.note, ended=True))
    assert of(plan, [gone, ended]) == []
    assert of(plan, [at(plan, 0, 3, quiet=1e6)], index_after(plan)) == []


def test_of_many_workers_those_in_trouble_are_named(plan: Plan) -> None:
    many = [at(plan, 0, pid) for pid in range(3 * SHOWN)]
    many += [at(plan, 0, 1000, quiet=1e4), at(plan, 0, 1001, rate=1.0)]
    lines = status_of(plan, Index(), many, None).worker_lines()
    assert len(lines) == SHOWN + 1
    assert lines[0].startswith("worker node:1000 silent")
    assert lines[1].startswith("worker node:1001 slow")
    assert lines[-1] == f"and {2 * SHOWN + 2} workers more (--json names all)"


def test_a_note_is_as_old_as_its_file(tmp_path: Path) -> None:
    Notebook(tmp_path).write(Note(False, None, (), ()))
    (found,) = read_notes(tmp_path)
    assert found.quiet_seconds is not None
    assert 0 <= found.quiet_seconds < 60
    (file,) = (tmp_path / NOTES).glob("*.json")
    os.utime(file, (time.time() - 500, time.time() - 500))
    (found,) = read_notes(tmp_path)
    assert 500 <= (found.quiet_seconds or 0) < 600
    os.utime(file, (time.time() + 500, time.time() + 500))  # clocks that differ
    assert read_notes(tmp_path)[0].quiet_seconds == 0
