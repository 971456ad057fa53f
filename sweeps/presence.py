"""Who works in an output folder now: any number of processes that train one sweep, or one alone.

The file `.lock` is locked by the kernel (flock), shared by all who train and exclusively by whoever
changes what others lean on: a sweep that begins or grows, `lab merge`, `lab gc`, several hosts that
train as one. The kernel drops a lock with its process, however that ends, so the file itself says
nothing and is never removed.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import Refused

LOCK_FILE = ".lock"
PATIENCE_SECONDS = 20.0  # a process that begins is alone in the folder for that long at most


class Presence:
    """This process in a folder. `alone`: no other is, and none comes."""

    def __init__(self, handle: int, alone: bool) -> None:
        self._handle = handle
        self.alone = alone

    def share(self) -> None:
        """Let others in. One of them may have been alone in the folder when this returns."""
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        self.alone = False


@contextmanager
def present(folder: Path, must_be_alone: bool = False) -> Iterator[Presence]:
    """Be in a folder, which is made: alone if nobody else is there, else with the others.

    Raises Refused where another process has the folder to itself, or there is one at all and this
    one `must_be_alone`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror}") from None
    try:
        yield Presence(handle, _entered(folder, handle, must_be_alone))
    finally:
        os.close(handle)  # and with it the lock


def _entered(folder: Path, handle: int, must_be_alone: bool) -> bool:
    """Wait to be let in; whether this process is alone. Raises Refused."""
    begun = time.monotonic()
    while True:
        if _locked(folder, handle, fcntl.LOCK_EX):
            return True
        if must_be_alone or time.monotonic() - begun > PATIENCE_SECONDS:
            raise Refused(busy(folder))
        if _locked(folder, handle, fcntl.LOCK_SH):
            return False
        time.sleep(0.05)


def refuse_busy(folder: Path) -> None:
    """Raise Refused if another process is in the folder now; changes nothing."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused(f"cannot open {folder / LOCK_FILE}: {error.strerror}") from None
    try:
        if not _locked(folder, handle, fcntl.LOCK_EX):
            raise Refused(busy(folder))
    finally:
        os.close(handle)


def _locked(folder: Path, handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        raise Refused(f"cannot lock {folder / LOCK_FILE}: {error.strerror}") from None
    return True


def busy(folder: Path) -> str:
    """One line about a folder that others work in."""
    return f"another process is training into {folder}: wait for it"
