"""Asked to stop: SIGTERM as a cluster sends it before it takes a machine away, and Ctrl-C.

The training loop ends its dispatch, commits every lane at its present step, and the process exits
with a code that says "run again". A second Ctrl-C is left to the kernel: it ends the process at
once, wherever that is.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run again to go on

CTRL_C = b"lab: stopping: what is trained is being saved; Ctrl-C again stops at once\n"
SHOW_CURSOR = b"\x1b[?25h"  # the progress display hides it, and a second Ctrl-C asks nobody


class Preempted(Exception):
    """Training stopped because the process was asked to; all that was trained is committed."""


class Notice:
    """Whether the process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def given(self) -> bool:
        return self.signal is not None

    def obey(self) -> None:
        """End if asked to: raises KeyboardInterrupt for Ctrl-C, Preempted for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise Preempted("stopped by SIGTERM; what was trained is saved, run again to go on")

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # written past Python's buffers, which a signal may find half written
            os.write(2, (SHOW_CURSOR if sys.stderr.isatty() else b"") + CTRL_C)
        self.signal = number


@contextmanager
def notices(taken: bool = True) -> Iterator[Notice]:
    """Take signals as notices, in the main thread; elsewhere, and unless `taken`, none comes.

    What the process ignored (`nohup`) it goes on to ignore.
    """
    notice = Notice()
    before = {}
    if taken and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, notice._take)
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
