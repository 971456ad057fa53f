"""What each process that trains into a folder leaves there for `lab status`: a file of its own.

    .progress/<pid>-<random>.json   which segments it trains and how far it is, what it has spent

A note is replaced whole, about once a second, by the process that owns it and by nobody else, and
it stays when the process ends: what was spent is summed over all notes, killed processes' too (up
to their last second). Who still trains is decided by the process's number together with when the
system says it began, since numbers are given out again. Every duration was measured by one
process's monotonic clock; no time of day is written, and none compared but to say how long a
process has been silent.
"""

import contextlib
import json
import os
import platform
import secrets
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fits.errors import Failed
from fits.files import write_whole
from lab.errors import Refused
from lab.spec import read
from sweeps.speed import Peak

NOTES = ".progress"
SILENT_SECONDS = 120.0  # without a sign: longer than programs of small models take to compile


@dataclass(frozen=True)
class Spent:
    """Training that a process did on one shape (by `tally.shape_name`), repeated work included."""

    shape: str
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Reached:
    """How far a process is with a segment, which is named by the identity of its end state.

    `running` is whether a lane has it: the last ones that left their lanes are named too, since
    their commits may still be on the way.
    """

    segment: str
    step: int
    running: bool


@dataclass(frozen=True)
class Note:
    """What a process says of itself."""

    ended: bool
    peak: Peak | None
    spent: tuple[Spent, ...]
    reached: tuple[Reached, ...]


@dataclass(frozen=True)
class Owner:
    """A process. `system` changes when the machine starts anew or hands out numbers apart."""

    host: str
    system: str
    pid: int
    began: str


@dataclass(frozen=True)
class Found:
    """A note and whether its process is there; `alive` is None where that is not known here.
    `quiet_seconds`: since the note was replaced, as far as this machine's clock and the file's
    agree."""

    owner: Owner
    note: Note
    alive: bool | None
    quiet_seconds: float | None = None

    @property
    def trains(self) -> bool:
        """Whether it is there; elsewhere, whether it gave a sign lately."""
        if self.alive is None and self.quiet_seconds is not None:
            return self.quiet_seconds <= SILENT_SECONDS
        return bool(self.alive)


class Notebook:
    """The note of this process in one folder."""

    def __init__(self, folder: Path) -> None:
        self.owner = this_process()
        self.path = folder / NOTES / f"{self.owner.pid}-{secrets.token_hex(4)}.json"

    def write(self, note: Note) -> None:
        """Replace the note. One that cannot be written stops nothing: a full disk stops the run
        elsewhere, and says so."""
        text = json.dumps({"owner": asdict(self.owner), "note": asdict(note)})
        with contextlib.suppress(Failed):
            write_whole(self.path, text.encode())


def read_notes(folder: Path) -> list[Found]:
    """Every note of a folder that can be read; only reads."""
    found = []
    for path in sorted((folder / NOTES).glob("*.json")):
        try:
            tree = json.loads(path.read_bytes())
            quiet = max(0.0, time.time() - path.stat().st_mtime)
            owner = read(Owner, tree["owner"], "owner")
            note = read(Note, tree["note"], "note")
        except (OSError, ValueError, LookupError, TypeError, Refused):
            continue  # spoilt, or of another lab: it says nothing
        found.append(Found(owner, note, False if note.ended else _alive(owner), quiet))
    return found


def this_process() -> Owner:
    """Who we are."""
    pid = os.getpid()
    return Owner(platform.node(), _system(), pid, began(pid) or "")


def _alive(owner: Owner) -> bool | None:
    if owner.host != platform.node():
        return None
    return owner.system == _system() and owner.began == began(owner.pid)


def _system() -> str:
    """What numbers of processes belong to: this start of the machine, this container."""
    with contextlib.suppress(OSError):
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    return ""


def began(pid: int) -> str | None:
    """When a process of this machine began, in its system's own words; None if there is none."""
    try:
        # the fields behind the name, which may itself hold blanks and brackets (proc(5))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    told = ["ps", "-o", "lstart=", "-p", str(pid)]  # systems without /proc
    try:
        return subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
