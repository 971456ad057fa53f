"""`lab run` among several hosts, in a process of its own that is watched from here.

When another host dies, jax aborts the process in the middle of a stack trace, and calls no one. So
the training is a child: its abort becomes one line and an exit code, and it ends with its parent.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence

from lab.errors import Failed
from lab.hosts import LOST


def run(argv: Sequence[str]) -> int:
    """`lab` with these arguments in a watched process: its exit code. Raises Failed."""
    child = [sys.executable, "-m", "sweeps.watched", *argv]
    with subprocess.Popen(child, stdin=subprocess.PIPE) as process:
        code = process.wait()
    if code == -signal.SIGABRT:
        raise Failed(LOST)
    return code


def _end_with_parent() -> None:
    sys.stdin.read()  # nobody writes: it returns when the parent is gone
    os._exit(1)


def _child() -> None:
    from sweeps.cli import EXIT_FAILED, main

    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = EXIT_FAILED
    try:
        code = main(sys.argv[1:], watched=True)
    except Exception as error:  # noqa: BLE001  # said, and then out as below
        # A broken connection is a JaxRuntimeError or a ValueError, with XLA's status before it.
        if re.match(r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|DEADLINE_EXCEEDED): ", str(error)):
            print(f"lab: {str(error).splitlines()[0]}\nlab: {LOST}", file=sys.stderr)
        else:
            traceback.print_exc()
    if code != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # not through jax's farewell: it waits for hosts that may never come


if __name__ == "__main__":
    _child()
