"""Notes of processes: written whole, believed only of those who are there."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fits.files
import sweeps.notes
from sweeps.notes import (
    NOTES,
    Note,
    Notebook,
    Owner,
    Reached,
    Spent,
    began,
    read_notes,
    this_process,
)
from sweeps.speed import Peak

NOTE = Note(
    False,
    Peak(1e9, "a matrix product here", True),
    (Spent("shape", 640, 2.5),),
    (Reached("end", 7, True),),
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


def left_by(folder: Path, owner: Owner, note: Note = NOTE) -> Path:
    """The file of a note as another process would leave it."""
    book = Notebook(folder)
    book.owner = owner
    book.write(note)
    return book.path


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    book = Notebook(tmp_path)
    book.write(NOTE)
    (found,) = read_notes(tmp_path)
    assert (found.owner, found.note, found.alive) == (this_process(), NOTE, True)
    book.write(dataclasses.replace(NOTE, ended=True))
    (found,) = read_notes(tmp_path)
    assert (found.note.ended, found.alive) == (True, False)
    assert [path.name for path in (tmp_path / NOTES).iterdir()] == [book.path.name]


def test_each_process_has_a_file_of_its_own_and_so_has_each_round(tmp_path: Path) -> None:
    for _ in range(3):
        Notebook(tmp_path).write(NOTE)
    assert len(read_notes(tmp_path)) == 3


def test_who_is_there_is_alive_until_it_is_killed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    start = began(sleeper.pid)
    assert start is not None
    left_by(tmp_path, dataclasses.replace(this_process(), pid=sleeper.pid, began=start))
    assert [one.alive for one in read_notes(tmp_path)] == [True]
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped: a zombie
    assert [one.alive for one in read_notes(tmp_path)] == [False]
    sleeper.wait()
    assert [one.alive for one in read_notes(tmp_path)] == [False]


def test_a_number_that_was_given_out_again_is_another_process(tmp_path: Path) -> None:
    """The note's number is of a process that lives: this one. It began at another time."""
    ours = this_process()
    left_by(tmp_path, dataclasses.replace(ours, began=ours.began + "0"))
    left_by(tmp_path, dataclasses.replace(ours, system="before the machine was started again"))
    assert [one.alive for one in read_notes(tmp_path)] == [False, False]


def test_of_another_machine_nobody_here_knows(tmp_path: Path) -> None:
    left_by(tmp_path, dataclasses.replace(this_process(), host="elsewhere"))
    left_by(
        tmp_path,
        dataclasses.replace(this_process(), host="elsewhere"),
        dataclasses.replace(NOTE, ended=True),
    )
    assert sorted(str(one.alive) for one in read_notes(tmp_path)) == ["False", "None"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a system without /proc")
def test_a_process_whose_name_has_brackets_began_too(tmp_path: Path) -> None:
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as child:
        start = began(child.pid)
        child.kill()
    assert start is not None
    assert start.isdigit()
    assert began(2**22 + 1) is None  # above the largest number that Linux gives out


def test_systems_without_proc_are_asked_by_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    def ps(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.append(command)
        return subprocess.CompletedProcess(command, 0, "Wed Nov 25 04:45:18 2026\n", "")

    monkeypatch.setattr(sweeps.notes, "Path", lambda _: Path("/nowhere"))
    monkeypatch.setattr(sweeps.notes.subprocess, "run", ps)
    assert began(17) == "Wed Nov 25 04:45:18 2026"
    assert told == [["ps", "-o", "lstart=", "-p", "17"]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text[:-10],
        lambda text: text.replace("640", '"many"'),
        lambda text: text.replace("640", "NaN"),
        lambda text: text.replace('"step": 7', '"step": 7, "more": 1'),
    ],
)
def test_a_spoilt_note_says_nothing(tmp_path: Path, spoil: object) -> None:
    path = left_by(tmp_path, this_process())
    text = path.read_text()
    path.write_text(spoil(text))  # type: ignore[operator]
    assert read_notes(tmp_path) == []


def test_a_note_holds_no_time_of_day_and_no_plan(tmp_path: Path) -> None:
    tree = json.loads(left_by(tmp_path, this_process()).read_text())
    assert set(tree) == {"owner", "note"}
    assert set(tree["note"]) == {"ended", "peak", "spent", "reached"}
    assert set(tree["owner"]) == {"host", "system", "pid", "began"}


def test_a_full_disk_stops_no_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Notebook(tmp_path)
    book.write(NOTE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fits.files.Path, "write_bytes", full)
        book.write(dataclasses.replace(NOTE, ended=True))
    (found,) = read_notes(tmp_path)
    assert found.note == NOTE  # the one before is whole
