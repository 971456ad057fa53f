"""What a person sees while a sweep runs, and what is left for `lab status`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps.progress
from sweeps.progress import PROGRESS_FILE, Display, alive, count, duration
from sweeps.remaining import Work

WORK = Work(segment=0, start=0, stop=4, evaluate=[4])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (60, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (41_600, "41.6 k"),
        (22_100_000, "22.1 M"),
        (3.1e9, "3.1 B"),
        (2e21, "2e+21"),
    ],
)
def test_counts_are_said_as_people_say_them(number: float, text: str) -> None:
    assert count(number) == text


def test_the_line_says_tokens_losses_and_the_time_left_by_flops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(sweeps.progress.time, "monotonic", lambda: clock[0])
    with Display(2000, 100, 3, tmp_path, quiet=True) as display:
        assert display.line() == "0/2.0 k tokens | 0/3 segments"
        display.started(WORK)
        clock[0] += 10
        display.loss("prose", 3.25)
        display.loss("prose", 3.125)
        display.trained(500, 20)
        assert display.line() == (
            "500/2.0 k tokens | 0/3 segments | prose 3.125 | 50 tokens/s | 40 s left"
        )
        display.finished(WORK, None)
        assert "1/3 segments" in display.line()


def test_without_a_terminal_it_speaks_in_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeps.progress, "PLAIN_LINE_SECONDS", 0.0)
    with Display(2000, 100, 1, tmp_path) as display:
        display.started(WORK)
        display.trained(2000, 100)
        display.finished(WORK, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    lines = said.err.splitlines()
    assert lines[1].startswith("2.0 k/2.0 k tokens | 0/1 segments")
    assert lines[2].startswith("diverged: a run's loss is not finite at step 2")


def test_told_to_be_quiet_it_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeps.progress, "PLAIN_LINE_SECONDS", 0.0)
    with Display(2000, 100, 1, tmp_path, quiet=True) as display:
        display.started(WORK)
        display.finished(WORK, 2)
    assert capfd.readouterr() == ("", "")


def test_who_trains_is_alive_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.progress, "FILE_SECONDS", 0.0)
    assert alive(tmp_path) is None
    with Display(2000, 100, 1, tmp_path, quiet=True) as display:
        display.started(WORK)
        assert alive(tmp_path) == {"running": 1, "line": display.line()}
    assert alive(tmp_path) is None


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"pid": "me"}', '{"pid": 1}'])
def test_a_spoilt_note_means_that_nobody_is_there(tmp_path: Path, note: str) -> None:
    (tmp_path / PROGRESS_FILE).write_text(note)
    assert alive(tmp_path) is None


def test_a_note_of_a_process_that_was_killed_means_that_nobody_is_there(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    note = {"pid": child.pid, "running": 1, "line": "half way"}
    (tmp_path / PROGRESS_FILE).write_text(json.dumps(note))
    assert alive(tmp_path) is None
