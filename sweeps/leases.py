"""Leases: which process trains which piece of work, where several train one sweep.

    .leases/<token>.worker        a process: who it is, and a beat that its training loop counts up
    .leases/<end state>.<key>     a piece of work, leased: a link to its owner's worker file
    .leases/journal               pieces that were given back, a line each

A lease saves work and guards no truth. Is one taken away from a process that lives, both train the
piece, to the same bits, and the store's marker says whose attempt counts. So nothing here waits for
a lock or trusts a clock: a lease is stale at once if its owner is a process of this machine that is
no more, else if its beat did not change for LEASE_SECONDS of the reader's own monotonic time. The
beat is written by the loop that trains and by no other thread: a device that hangs stops it.

What others finish after the store was read here is in the journal, and is not taken: whoever finds
nothing else to do reads the store again.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from lab.errors import Failed
from sweeps.plan import Plan
from sweeps.remaining import Work

LEASE_DIR = ".leases"
JOURNAL = "journal"
LEASE_SECONDS = 600.0  # of an unchanged beat: longer than a program takes to compile
BEAT_SECONDS = 1.0  # a beat is written this often at most
LEASE = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{8}")


def forget(folder: Path) -> None:
    """Remove the leases of all processes. Be alone in the folder."""
    shutil.rmtree(folder / LEASE_DIR, ignore_errors=True)


class Leases:
    """The leases of one process on the pieces of a plan. Implements the engine's Claims."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.place = folder / LEASE_DIR
        self.token = secrets.token_hex(8)
        self.beats = 0
        self._mine: set[str] = set()
        self._held: set[str] = set()  # by others, of the pieces that could be begun
        self._looked = 0  # bytes of the journal that the last look saw
        self._read = 0  # bytes of it that have been read
        self._changed: set[str] = set()  # journalled since the last look
        self._seen: dict[str, tuple[bytes, float]] = {}  # a lease's text, and since when
        try:
            self.place.mkdir(exist_ok=True)
            self._worker = self.place / f"{self.token}.worker"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            self._handle = os.open(self._worker, flags, 0o666)
            self._beaten = time.monotonic()
            self._write_beat()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> "Leases":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back everything; where it was not finished, others go on from what is committed."""
        self.drop()
        self._worker.unlink(missing_ok=True)
        os.close(self._handle)

    # A piece ---------------------------------------------------------------------------------

    def take(self, work: Work) -> bool:
        """Whether the piece is ours from now on, as the store was at the last look."""
        name = self._name(work)
        try:
            os.link(self._worker, self.place / name)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._failed(error) from error
        self._mine.add(name)
        if name in self._journalled():  # what it starts from may have changed: look again first
            self._unlink(name)
            return False
        return True

    def give_back(self, work: Work) -> None:
        """The piece is committed."""
        self._give_back(self._name(work))

    def drop(self) -> None:
        """Give back all pieces, finished or not."""
        for name in sorted(self._mine):
            self._give_back(name)

    def _give_back(self, name: str) -> None:
        self._note(name)  # first: who gets the lease next must see what happened to the piece
        self._unlink(name)

    def _unlink(self, name: str) -> None:
        self._mine.discard(name)
        with contextlib.suppress(OSError):  # taken away from us, perhaps by one who has it now
            if os.path.samestat(os.stat(self.place / name), os.fstat(self._handle)):
                os.unlink(self.place / name)

    def _name(self, work: Work) -> str:
        """Pieces of a sweep never end in the same step of a segment, wherever they begin."""
        segment = self.plan.segments[work.segment]
        key = sha256(segment.end_id.encode()).hexdigest()[:8]
        return f"{segment.path.state_id(work.stop)}.{key}"

    # The beat --------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that training goes on. Call it from the loop that trains."""
        if time.monotonic() - self._beaten >= BEAT_SECONDS:
            self._beaten = time.monotonic()
            with contextlib.suppress(OSError):  # a full disk: others may train our pieces too
                self._write_beat()

    def _write_beat(self) -> None:
        self.beats += 1
        begun = _begun(os.getpid()) or ""
        note = {"owner": self.token, "pid": os.getpid(), "host": _host(), "begun": begun}
        text = json.dumps({**note, "beat": f"{self.beats:016d}"})  # of one length: written in place
        os.pwrite(self._handle, text.encode(), 0)

    # The others ------------------------------------------------------------------------------

    def look(self) -> None:
        """Note where the journal ends. Call it before the store is read."""
        self._looked = self._read = self._journal_bytes()
        self._changed = set()

    def any_free(self, work: list[Work]) -> bool:
        """Whether a piece that could be begun now is nobody's; if not, `news` says when it is."""
        names = [self._name(piece) for piece in work if piece.after is None]
        self._held = {name for name in names if (self.place / name).exists()}
        return len(self._held) < len(set(names))

    def news(self) -> bool:
        """Whether to look again: a piece was given back, or its owner is no more. Polled."""
        freed = [name for name in sorted(self._held) if self._is_free(name)]
        return bool(freed) or self._journal_bytes() > self._looked

    def _is_free(self, name: str) -> bool:
        """Whether nobody holds a piece; a stale lease is taken away first."""
        try:
            text = (self.place / name).read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        now = time.monotonic()
        before, since = self._seen.get(name, (None, now))
        if before != text:
            self._seen[name] = (text, now)
            since = now
        owner = _owner(text)
        if not (now - since >= LEASE_SECONDS or (owner is not None and owner.is_dead())):
            return False
        self._take_away(name, text)
        return True

    def _take_away(self, name: str, seen: bytes) -> None:
        """Remove a stale lease. Another may do so too, and a third already have the piece."""
        aside = self.place / f"{self.token}.{name}.stale"
        with contextlib.suppress(OSError):
            os.rename(self.place / name, aside)
            if _token(aside.read_bytes()) != _token(seen):
                os.link(aside, self.place / name)  # it was fresh: put it back
            else:
                self._note(name)  # the owner may have committed a part of it
        aside.unlink(missing_ok=True)
        self._seen.pop(name, None)

    # The journal -----------------------------------------------------------------------------

    def _note(self, name: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the piece may be trained twice
            handle = os.open(self.place / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(handle, f"{name}\n".encode())
            finally:
                os.close(handle)

    def _journal_bytes(self) -> int:
        try:
            return os.stat(self.place / JOURNAL).st_size
        except OSError:
            return 0

    def _journalled(self) -> set[str]:
        """Pieces that were given back since the last look."""
        with contextlib.suppress(OSError), (self.place / JOURNAL).open("rb") as file:
            file.seek(self._read)
            new = file.read()
            self._read += len(new)
            self._changed.update(LEASE.findall(new.decode("ascii", "replace")))
        return self._changed

    def _failed(self, error: OSError) -> Failed:
        return Failed(f"cannot write to {self.place}: {error.strerror}")


@dataclass(frozen=True)
class Owner:
    """A process, as it says of itself."""

    pid: int
    host: str
    begun: str

    def is_dead(self) -> bool:
        """Whether it is known to be no more: a process of this machine, gone or another's pid."""
        if self.host != _host():
            return False
        begun = _begun(self.pid)
        return begun is None or (begun != self.begun and "" not in (begun, self.begun))


def _owner(text: bytes) -> Owner | None:
    try:
        note = json.loads(text)
        return Owner(int(note["pid"]), str(note["host"]), str(note["begun"]))
    except (ValueError, LookupError, TypeError):
        return None  # torn, or nothing of ours: its beat alone will tell


def _token(text: bytes) -> object:
    try:
        return json.loads(text)["owner"]
    except (ValueError, LookupError, TypeError):
        return text


def _host() -> str:
    """This machine since it was started, as seen from this process's pid namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _begun(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; "" if unknown, None if it is gone."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # somebody else's
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie trains nothing
    except (OSError, IndexError):
        return ""
