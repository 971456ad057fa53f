"""`lab bench soak`: a sweep killed at random moments, again and again, against an undisturbed one.

Several `lab run` on one folder; after a random time one of them, drawn too, gets a signal (kill -9,
or SIGTERM as a preemption notice) and is started anew. Whenever a folder is whole its table is held
against the undisturbed one byte for byte, and the next folder begins. The draw is seeded; when a
signal hits is up to the machine.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import Failed
from sweeps.notice import EXIT_AGAIN

ASKED = ("cmr", "--scale", "smoke")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)  # drawn from
TABLE = "results.csv"


@dataclass
class Tally:
    """What a soak has seen. `lives` are processes that were started; `wrong` says what went so."""

    kills: int = 0
    lives: int = 0
    whole: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def bench_soak(
    kills: int, processes: int, seed: int, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Kill `kills` times with `processes` at once on each folder. Raises Failed on the first run
    that ends in another table or with an exit code that nobody documented."""
    drawn = random.Random(seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lab-soak-") as place:
        folder = Path(place)
        undisturbed = _table(_one_run(folder / "undisturbed"))
        seconds = time.monotonic() - begun
        tally = Tally()
        while tally.kills < kills:
            out = folder / f"disturbed-{tally.whole}"
            _disturb(out, kills, processes, seconds, drawn, tally)
            if _table(out) != undisturbed:
                raise Failed(f"the table of a disturbed sweep differs (seed {seed}): {tally}")
            tally.whole += 1
            shutil.rmtree(out)
            say(f"{tally.kills} of {kills} kills, {tally.whole} tables whole and the same")
    return {
        "kills": tally.kills,
        "processes": processes,
        "lives": tally.lives,
        "tables": tally.whole,
        "different": 0,
        "ended": dict(tally.ended),
        "undisturbed_seconds": seconds,
        "seconds": time.monotonic() - begun,
    }


def _disturb(
    out: Path, kills: int, processes: int, seconds: float, drawn: random.Random, tally: Tally
) -> None:
    """Bring one folder to its end, through as many kills as fall into it. Raises Failed."""
    alive: list[subprocess.Popen[bytes]] = []
    try:
        while True:
            while len(alive) < processes:
                alive.append(_started(out))
                tally.lives += 1
            if tally.kills >= kills:
                for one in alive:
                    _ended(one, tally)
                return
            until = time.monotonic() + drawn.uniform(0.0, seconds)
            while time.monotonic() < until and any(one.poll() is None for one in alive):
                time.sleep(0.02)
            still = [one for one in alive if one.poll() is None]
            if not still:
                for one in alive:
                    _ended(one, tally)
                return
            victim = drawn.choice(still)
            victim.send_signal(drawn.choice(SIGNALS))
            tally.kills += 1
            _ended(victim, tally)
            alive.remove(victim)
    finally:
        for one in alive:
            if one.poll() is None:
                one.kill()
                one.communicate()


def _started(out: Path) -> subprocess.Popen[bytes]:
    told = ["run", *ASKED, "--out", str(out), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *told],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )


def _ended(process: subprocess.Popen[bytes], tally: Tally) -> None:
    """Wait for the end of a process and count it. Raises Failed on one that nobody documented."""
    _, errors = process.communicate()
    code = process.returncode
    # SIGTERM before the handler is there, or after it is gone, ends a process like any other
    names = {0: "whole", -signal.SIGKILL: "kill -9", -signal.SIGTERM: "SIGTERM, at once"}
    names[EXIT_AGAIN] = "SIGTERM, saved"
    if code not in names:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise Failed(f"a disturbed sweep ended with exit code {code}: {' '.join(last)}")
    tally.ended[names[code]] += 1


def _one_run(out: Path) -> Path:
    tally = Tally()
    _ended(_started(out), tally)
    return out


def _table(out: Path) -> bytes:
    try:
        return (out / TABLE).read_bytes()
    except OSError as error:
        raise Failed(f"a sweep that ended has no {TABLE}: {error.strerror}") from error
