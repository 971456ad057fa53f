"""Ends a process whose training hangs: a device or a disk that answers no more raises nothing.

Other processes take its pieces over when its leases go stale. Alone, only an end helps: whoever
started the process sees its exit code and starts it again.
"""

import os
import threading
from types import TracebackType

from sweeps.notice import EXIT_AGAIN

HANG_SECONDS = 1800.0  # without a dispatch or compilation that finished
LOOKS = 60  # in that time


class Watchdog:
    """Counts the time since the last beat, in a thread of its own; no clock is asked.

    The time that the whole process was stopped (Ctrl-Z, a suspended machine) counts as one look.
    """

    def __init__(self) -> None:
        self.seconds = HANG_SECONDS
        self._quiet = 0  # looks since the last beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """Something has finished."""
        self._quiet = 0

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.seconds / LOOKS):
            self._quiet += 1
            if self._quiet >= LOOKS:
                said = f"lab: nothing has finished for {self.seconds:g} s: the device hangs, or the"
                os.write(2, f"{said} disk; what was committed stays, run again to go on\n".encode())
                os._exit(EXIT_AGAIN)  # nothing that hangs could be asked to end
