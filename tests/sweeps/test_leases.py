"""A lease is whose it says, until its owner is dead or its beat stands still."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps.leases
from lab.errors import Failed
from lab.store import Index
from sweeps.leases import Leases, forget
from sweeps.remaining import Work, remaining
from tests.sweeps.small import planned, small_sweep

PLAN = planned(small_sweep(seeds=(0, 1)))
TRUNKS = [work for work in remaining(PLAN, Index()).work if work.after is None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time that leases see."""
    now = [1000.0]
    monkeypatch.setattr(sweeps.leases.time, "monotonic", lambda: now[0])
    return now


def lease_of(leases: Leases, work: Work) -> Path:
    return leases.place / leases._name(work)


def claimed_by(ours: Leases, note: dict[str, Any] | bytes, work: Work = TRUNKS[0]) -> Path:
    """A lease with another process's text."""
    file = lease_of(ours, work)
    file.write_bytes(note if isinstance(note, bytes) else json.dumps(note).encode())
    return file


def me() -> dict[str, Any]:
    """This process, as another worker of it."""
    begun = sweeps.leases._begun(os.getpid())
    note = {"owner": "else", "pid": os.getpid(), "host": sweeps.leases._host(), "begun": begun}
    return {**note, "beat": "1"}


def test_a_piece_is_one_process_s_until_it_is_given_back(tmp_path: Path) -> None:
    with Leases(tmp_path, PLAN) as ours, Leases(tmp_path, PLAN) as theirs:
        ours.look()
        theirs.look()
        assert ours.any_free(TRUNKS)
        assert ours.take(TRUNKS[0])
        assert theirs.take(TRUNKS[0]) is False
        assert theirs.take(TRUNKS[1])
        assert not theirs.any_free(TRUNKS)
        assert not theirs.news()
        ours.give_back(TRUNKS[0])
        assert theirs.news()
        # what the piece has become is not in the store as they know it
        assert theirs.take(TRUNKS[0]) is False
        theirs.look()
        assert theirs.any_free(TRUNKS)
        assert theirs.take(TRUNKS[0])
    assert {file.name for file in (tmp_path / ".leases").iterdir()} == {"journal"}


def test_who_leaves_gives_back_what_it_had(tmp_path: Path) -> None:
    with Leases(tmp_path, PLAN) as theirs:
        with Leases(tmp_path, PLAN) as ours:
            assert ours.take(TRUNKS[0])
            theirs.look()
            assert not theirs.any_free(TRUNKS[:1])
        assert theirs.news()


def test_pieces_of_a_segment_that_end_elsewhere_are_others(tmp_path: Path) -> None:
    part = Work(TRUNKS[0].segment, 0, 2, [])
    with Leases(tmp_path, PLAN) as ours, Leases(tmp_path, PLAN) as theirs:
        assert ours.take(TRUNKS[0])
        assert theirs.take(part)
        # the same piece, of which a part has been committed since
        assert theirs.take(Work(TRUNKS[0].segment, 3, TRUNKS[0].stop, [])) is False


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        (lambda: {}, False),
        (lambda: {"pid": dead_pid()}, True),
        (lambda: {"begun": "1"}, True),  # its pid is another process's now
        (lambda: {"begun": ""}, False),  # nobody knows when it began
        (lambda: {"host": "elsewhere", "pid": dead_pid()}, False),
        (lambda: {"pid": 10**30}, True),
        (lambda: {"pid": "me"}, False),
    ],
)
def test_the_lease_of_a_dead_process_of_this_machine_is_stale_at_once(
    tmp_path: Path, clock: list[float], change: Callable[[], dict[str, Any]], dead: bool
) -> None:
    with Leases(tmp_path, PLAN) as ours:
        file = claimed_by(ours, {**me(), **change()})
        ours.look()
        assert not ours.any_free(TRUNKS[:1])
        assert ours.news() == dead
        assert file.exists() == (not dead)
        if dead:
            assert ours.take(TRUNKS[0]) is False  # it may have committed a part
            ours.look()
            assert ours.take(TRUNKS[0])


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun = sweeps.leases._begun(child.pid)
    assert begun
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    try:
        assert sweeps.leases._begun(child.pid) is None
    finally:
        child.communicate()


@pytest.mark.parametrize(
    "text", [json.dumps({**me(), "pid": 1}).encode(), b"", b'{"owner": "to', b"[]"]
)
def test_a_beat_that_stands_still_makes_a_lease_stale_by_the_reader_s_own_time(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr(sweeps.leases, "_begun", lambda pid: "")
    with Leases(tmp_path, PLAN) as ours:
        file = claimed_by(ours, text)
        ours.look()
        assert not ours.any_free(TRUNKS[:1])
        assert not ours.news()
        clock[0] += sweeps.leases.LEASE_SECONDS - 1
        assert not ours.news()
        file.write_bytes(text + b" ")  # a beat
        clock[0] += sweeps.leases.LEASE_SECONDS - 1
        assert not ours.news()
        clock[0] += sweeps.leases.LEASE_SECONDS - 1
        assert not ours.news()
        clock[0] += 1
        assert ours.news()
        assert not file.exists()


def test_a_beat_is_seen_on_every_lease_of_its_process(tmp_path: Path, clock: list[float]) -> None:
    with Leases(tmp_path, PLAN) as ours, Leases(tmp_path, PLAN) as theirs:
        for work in TRUNKS:
            assert theirs.take(work)
        before = [lease_of(theirs, work).read_bytes() for work in TRUNKS]
        theirs.beat()
        assert [lease_of(theirs, work).read_bytes() for work in TRUNKS] == before  # too soon
        ours.look()
        assert not ours.any_free(TRUNKS)
        for _ in range(5):
            clock[0] += sweeps.leases.LEASE_SECONDS - 1
            theirs.beat()
            assert not ours.news()


def test_a_lease_that_was_renewed_in_the_meantime_is_put_back(tmp_path: Path) -> None:
    with Leases(tmp_path, PLAN) as ours, Leases(tmp_path, PLAN) as theirs:
        file = claimed_by(ours, {**me(), "pid": dead_pid()})
        seen = file.read_bytes()
        file.unlink()
        assert theirs.take(TRUNKS[0])  # between our look and our removal
        ours._take_away(file.name, seen)
        assert os.path.samefile(file, theirs._worker)


def test_who_lost_a_lease_leaves_the_next_owner_s_alone(tmp_path: Path) -> None:
    with Leases(tmp_path, PLAN) as ours, Leases(tmp_path, PLAN) as theirs:
        assert theirs.take(TRUNKS[0])
        ours._take_away(lease_of(ours, TRUNKS[0]).name, theirs._worker.read_bytes())
        ours.look()
        assert ours.take(TRUNKS[0])
        theirs.give_back(TRUNKS[0])
        assert os.path.samefile(lease_of(ours, TRUNKS[0]), ours._worker)


def test_what_is_left_over_is_forgotten(tmp_path: Path) -> None:
    with Leases(tmp_path, PLAN) as ours:
        claimed_by(ours, me())
        forget(tmp_path)
    forget(tmp_path)  # also where nothing is
    with Leases(tmp_path, PLAN) as ours:
        assert ours.take(TRUNKS[0])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".leases").write_text("a file")
    with pytest.raises(Failed, match=r"cannot write to .*leases: "):
        Leases(tmp_path, PLAN)
