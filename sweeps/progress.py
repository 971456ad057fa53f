"""What a person sees while a sweep runs: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sweeps.remaining import Work

PLAIN_LINE_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Seconds as people read them: 42 s, 3 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: float) -> str:
    """A large number as people read it: 950, 41.6 k, 22.1 M, 3.1 B, 2.0e+21."""
    for limit, unit in ((1e3, ""), (1e6, " k"), (1e9, " M"), (1e12, " B")):
        if number < limit:
            return f"{number:.0f}" if not unit else f"{number / (limit / 1e3):.1f}{unit}"
    return f"{number:.2g}"


class Display:
    """Tokens, last loss of each corpus, and time left (by FLOPs). Implements the engine's Watcher.

    Quiet if told so; everything goes to standard error.
    """

    def __init__(self, tokens: int, flops: int, segments: int, quiet: bool = False) -> None:
        self.tokens, self.flops, self.segments = tokens, flops, segments
        self.tokens_done = self.flops_done = self.segments_done = 0
        self.losses: dict[str, float] = {}
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.live = not quiet and self.console.is_terminal
        self.begun = self.last_line = time.monotonic()
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
