"""What a person sees while a sweep runs: a live line on a terminal, plain lines elsewhere."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sweeps.remaining import Work

PLAIN_LINE_SECONDS = 10.0
FILE_SECONDS = 1.0
PROGRESS_FILE = ".progress.json"


def duration(seconds: float) -> str:
    """Seconds as people read them: 42 s, 3 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: float) -> str:
    """A large number as people read it: 950, 41.6 k, 22.1 M, 3.1 B, 1.4 T."""
    for limit, unit in ((1e3, ""), (1e6, " k"), (1e9, " M"), (1e12, " B"), (1e15, " T")):
        if number < limit:
            return f"{number:.0f}" if not unit else f"{number / (limit / 1e3):.1f}{unit}"
    return f"{number:.2g}"


class Display:
    """Tokens, last loss of each corpus, and time left (by FLOPs). Implements the engine's Watcher.

    Quiet if told so; everything goes to standard error. The same line is left in a small file of
    the output folder (`folder`), for `lab status`.
    """

    def __init__(
        self, tokens: int, flops: int, segments: int, folder: Path | None, quiet: bool = False
    ) -> None:
        self.file = folder / PROGRESS_FILE if folder is not None else None
        self.running = 0
        self.tokens, self.flops, self.segments = tokens, flops, segments
        self.tokens_done = self.flops_done = self.segments_done = 0
        self.losses: dict[str, float] = {}
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.live = not quiet and self.console.is_terminal
        self.begun = self.last_line = time.monotonic()
        self.last_written = 0.0
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> "Display":
        self.begun = self.last_line = time.monotonic()
        if self.live:
            self.progress = Progress(
                BarColumn(bar_width=24), TextColumn("{task.description}"), console=self.console
            )
            self.task = self.progress.add_task("starting", total=max(1, self.flops))
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.progress is not None:
            self.progress.stop()
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def started(self, work: Work) -> None:
        """A segment got a lane."""
        self.running += 1
        self._show()

    def trained(self, tokens: int, flops: int) -> None:
        """`tokens` more are done."""
        self.tokens_done += tokens
        self.flops_done += flops
        self._show()

    def loss(self, corpus: str, loss_nats: float) -> None:
        """A state was evaluated."""
        self.losses[corpus] = loss_nats

    def finished(self, work: Work, diverged_step: int | None) -> None:
        """A segment is trained."""
        self.segments_done += 1
        self.running -= 1
        if diverged_step is not None:
            self.say(
                f"diverged: a run's loss is not finite at step {diverged_step}; the others go on"
            )
        self._show()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.progress is not None:
            self.progress.console.print(line, markup=False)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def line(self) -> str:
        """The state of things in one line."""
        elapsed = time.monotonic() - self.begun
        parts = [
            f"{count(self.tokens_done)}/{count(self.tokens)} tokens",
            f"{self.segments_done}/{self.segments} segments",
        ]
        parts += [f"{name} {loss:.3f}" for name, loss in self.losses.items()]
        if self.flops_done > 0 and elapsed > 0:
            left = elapsed * (self.flops - self.flops_done) / self.flops_done
            parts.append(f"{count(self.tokens_done / elapsed)} tokens/s")
            parts.append(f"{duration(max(0.0, left))} left")
        return " | ".join(parts)

    def _show(self) -> None:
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=self.flops_done, description=self.line())
        elif not self.quiet and time.monotonic() - self.last_line >= PLAIN_LINE_SECONDS:
            self.last_line = time.monotonic()
            self.say(self.line())
        if self.file is not None and time.monotonic() - self.last_written >= FILE_SECONDS:
            self.last_written = time.monotonic()
            note = {"pid": os.getpid(), "running": self.running, "line": self.line()}
            with contextlib.suppress(OSError):  # a full disk stops the run elsewhere, and says so
                self.file.write_text(json.dumps(note))


def alive(folder: Path) -> dict[str, Any] | None:
    """What the process that trains into a folder on this machine last said, if there is one."""
    try:
        note = json.loads((folder / PROGRESS_FILE).read_text())
        os.kill(int(note["pid"]), 0)
        return {"running": int(note["running"]), "line": str(note["line"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
