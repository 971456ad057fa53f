"""work: a worker of a sweep that stands in a folder; what engines start, and what you can."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from lab.errors import Refused
from sweeps.progress import count
from sweeps.run import join_sweep


def work(told: argparse.Namespace) -> Any:
    """Train what is missing and can be had. Needs the folder and the texts, no study."""
    if told.tied:
        threading.Thread(target=_stop_when_left, name="tied", daemon=True).start()
    segments = None if told.segments is None else told.segments.split(",")
    if told.averages:
        if segments is not None:
            raise Refused("--averages or --segments, not both")
        segments = []

    def say(line: str) -> None:
        print(f"lab: {line}", file=sys.stderr, flush=True)

    trained = join_sweep(Path(told.folder), segments, told.quiet or told.json, say)
    if not told.json:
        print(f"trained {count(trained)} tokens here; nothing that was asked for is left")
    return {"out": told.folder, "trained_tokens": trained}


def _stop_when_left() -> None:
    """Ask this process to stop as soon as nobody holds the other end of its standard input."""
    while os.read(0, 4096):  # not through sys.stdin, which a thread must not hold at the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
