"""Whichever write a disk has no room for: one line is said, and the next run has the same bits.

Faults are injected where Python opens, makes, links and renames files, one write after another.
Real ones come from the kernel, and tensorstore meets them too: a small tmpfs, a limit on the size
of a file.
"""

import builtins
import errno
import io
import os
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fits.errors
from lab.errors import Failed, Refused
from lab.store import MARKER
from sweeps.cli import main
from sweeps.notes import NOTES
from sweeps.run import Outcome
from tests.sweeps.small import STEP, TRUNK, csv, files_below, small_sweep, study_file, trained

Lab = Callable[..., tuple[int, str, str]]

BRANCH = 2
LITTLE = small_sweep(ratios=(0.0,), branch=BRANCH)  # two segments
FULL = "disk full|No space left on device"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the little sweep."""
    out = tmp_path_factory.mktemp("little")
    trained(out, LITTLE)
    return out


@pytest.fixture(scope="module")
def little(undisturbed: Path) -> Outcome:
    """Its table, undisturbed."""
    return trained(undisturbed, LITTLE)


def assert_goes_on(out: Path, little: Outcome) -> None:
    """With room again, what is missing is trained, once, and the table has the same bits."""
    committed = len(list(out.glob(f"segments/*/{MARKER}")))
    after = trained(out, LITTLE)
    assert csv(after) == csv(little)
    assert after.trained_tokens == [TRUNK + BRANCH, BRANCH, 0][committed] * STEP
    assert trained(out, LITTLE).trained_tokens == 0


# Injected ------------------------------------------------------------------------------------


class Disk:
    """Has room for `left` more writes below a folder, then for none."""

    def __init__(self, folder: Path, left: int) -> None:
        self.folder, self.left, self.full = os.fspath(folder), left, False
        self.markers: list[int] = []  # room that was left when a marker was made

    def write(self, path: Any) -> None:
        place = os.path.abspath(os.fspath(path))
        if not place.startswith(self.folder) or f"/{NOTES}" in place:
            return  # what is shown meanwhile is written by the clock, and may fail
        if place.endswith(MARKER):
            self.markers.append(self.left)
        if self.left == 0:
            self.full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        self.left -= 1


def _writes(mode: str = "r", *_: Any, **__: Any) -> bool:
    return bool(set(mode) & set("wxa+"))


def _creates(flags: int, *_: Any, **__: Any) -> bool:
    return bool(flags & os.O_CREAT)


@contextmanager
def room_for(folder: Path, writes: int) -> Iterator[Disk]:
    """A disk that is full after so many files below `folder` were opened, made or renamed."""
    disk = Disk(folder, writes)

    def on(function: Any, which: int, counts: Callable[..., bool] = lambda *_, **__: True) -> Any:
        def call(*told: Any, **named: Any) -> Any:
            if not isinstance(told[which], int) and counts(*told[1:], **named):
                disk.write(told[which])
            return function(*told, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module in (io, builtins):
            patch.setattr(module, "open", on(open, 0, _writes))
        patch.setattr(os, "open", on(os.open, 0, _creates))
        patch.setattr(os, "mkdir", on(os.mkdir, 0))
        patch.setattr(os, "link", on(os.link, 1))
        patch.setattr(os, "replace", on(os.replace, 1))
        yield disk


def waiting(threads: set[threading.Thread]) -> list[str]:
    """Threads that a process would wait for at its end; workers of a pool end with it."""
    until = time.monotonic() + 5
    while others := [
        one
        for one in threading.enumerate()
        if not (one.daemon or one in threads or re.search("_[0-9]+$", one.name))
    ]:
        if time.monotonic() > until:
            break
        others[0].join(0.05)
    return [one.name for one in others]


TO_THE_MARKER = 29  # writes of the first segment, its marker the last, and what comes before it
WRITES = [*range(TO_THE_MARKER), *range(TO_THE_MARKER, 48, 6)]


@pytest.mark.parametrize("writes", WRITES)
def test_a_disk_that_is_full_after_any_write_costs_no_number(
    tmp_path: Path,
    little: Outcome,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    writes: int,
) -> None:
    threads = set(threading.enumerate())
    out = tmp_path / "out"
    with (
        room_for(out, writes) as disk,
        pytest.raises((Failed, fits.errors.Failed, Refused), match=FULL) as said,
    ):
        trained(out, LITTLE)
    assert disk.full
    assert "\n" not in str(said.value)
    assert waiting(threads) == []  # orbax's threads waited for minutes, and the process for them
    assert (tuple(capfd.readouterr()), caplog.records) == (("", ""), [])  # it logged stack traces
    if isinstance(said.value, Refused):
        assert {name: file for name, file in files_below(out).items() if file} == {}
    assert_goes_on(out, little)


def test_these_are_all_writes_of_the_little_sweep(tmp_path: Path) -> None:
    with room_for(tmp_path / "out", 1000) as disk:
        trained(tmp_path / "out", LITTLE)
    first, second = (1001 - left for left in disk.markers)
    assert first == TO_THE_MARKER
    assert second - 1 == WRITES[-1]
    assert 1000 - disk.left == second + 1  # the lease, given back


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mine.py` and what `lab run mine.py` wrote below `out`."""
    place = tmp_path_factory.mktemp("mine")
    assert main(["run", str(study_file(place)), "--out", str(place / "out"), *QUIETLY]) == 0
    return place


def shown(files: dict[str, bytes]) -> set[str]:
    """Names of files without those that begin with a dot: locks, leases."""
    return {name for name in files if not name.startswith(".")}


QUIETLY = ["--stack", "2", "--quiet"]
WRITTEN = ("results.csv", "results.parquet", "fit.json", "tables/last_losses.csv")


@pytest.mark.parametrize("writes", range(33))  # all there are
def test_a_disk_that_is_full_while_the_answer_is_written_is_one_line(
    lab_command: Lab, mine: Path, tmp_path: Path, writes: int
) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine / "out", out)
    whole = files_below(out)
    for name in ("results.csv", "report.html"):  # the others are there already
        (out / name).unlink()
    before = files_below(out)
    told = ["run", mine / "mine.py", "--out", out, *QUIETLY]
    with room_for(out, writes) as disk:
        code, printed, err = lab_command(*told)
    assert disk.full
    assert (printed, err.count("\n")) == ("", 1)
    assert re.search(f"^lab: .*({FULL})", err)
    left = files_below(out)
    assert code == (2 if left == before and "cannot write to" in err else 1)
    for name in WRITTEN:  # each is whole, or as it was
        assert left.get(name) in (whole[name], before.get(name))
    assert not [name for name in left if name.endswith(".partial")]
    assert lab_command(*told)[0] == 0
    after = files_below(out)
    assert {name: after[name] for name in WRITTEN} == {name: whole[name] for name in WRITTEN}
    assert shown(after) == shown(whole)


@pytest.mark.parametrize("to", ["table.csv", "table.parquet", "steps.csv"])
def test_a_disk_that_is_full_takes_no_half_table(
    lab_command: Lab, mine: Path, tmp_path: Path, to: str
) -> None:
    (tmp_path / to).write_text("what was there")
    before = files_below(tmp_path), files_below(mine)
    for writes in (0, 1):
        with room_for(tmp_path, writes) as disk:
            code, printed, err = lab_command("results", mine / "out", "--to", to)
        assert disk.full
        assert (code, printed, err) == (1, "", f"lab: cannot write {to}: disk full\n")
        assert (files_below(tmp_path), files_below(mine)) == before


# Real ----------------------------------------------------------------------------------------


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A tmpfs at a folder; skipped where one may not be mounted."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    place.mkdir()
    told = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", os.fspath(place)]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", os.fspath(place)], check=True)


def blocks(folder: Path) -> int:
    """Bytes of a folder on a disk with blocks of 4096."""
    return sum(-(-len(content) // 4096) * 4096 for content in files_below(folder).values())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_small_disk_costs_no_number(
    tmp_path: Path, undisturbed: Path, little: Outcome, share: float
) -> None:
    disk = tmp_path / "disk"
    size = int(share * blocks(undisturbed)) // 4096 * 4096
    with mounted(disk, f"size={size}"):
        with pytest.raises((Failed, fits.errors.Failed), match="disk full") as said:
            trained(disk / "out", LITTLE)
        assert "\n" not in str(said.value)
        subprocess.run(["mount", "-o", "remount,size=16m", os.fspath(disk)], check=True)
        assert_goes_on(disk / "out", little)


# Bytes: room for the sweep's description, for logs, for what orbax notes, and for arrays as
# tensorstore writes them.
@pytest.mark.parametrize("most", [300, 1500, 4000, 7000, 30_000, 60_000])
def test_a_file_that_may_not_grow_costs_no_number(
    tmp_path: Path, little: Outcome, most: int
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises((Failed, fits.errors.Failed), match=r"(?i)file too large") as said:
            trained(tmp_path / "out", LITTLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(said.value)
    assert_goes_on(tmp_path / "out", little)


@pytest.mark.parametrize(
    "told", ["run MINE --out shut/out", "run MINE --out shut", "merge shut OUT"]
)
def test_a_disk_that_is_only_read_is_one_line_and_exit_code_2(
    lab_command: Lab, mine: Path, tmp_path: Path, told: str
) -> None:
    words = told.replace("MINE", str(mine / "mine.py")).replace("OUT", str(mine / "out")).split()
    with mounted(tmp_path / "shut", "ro"):
        code, printed, err = lab_command(*words)
        assert (code, printed) == (2, "")
        assert re.fullmatch(r"lab: cannot write to shut(/out)?: Read-only file system\n", err)
        assert files_below(tmp_path) == {}
