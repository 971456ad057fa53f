"""What a person sees of a sweep: a table that lives on a terminal, plain lines elsewhere.

What there is to see is counted in `sweeps.tally` and `sweeps.status`.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.console import Group as Stacked
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lab.store import EvaluationRow, StepRow
from sweeps.notes import Notebook, read_notes
from sweeps.plan import Plan
from sweeps.remaining import Remaining, Work
from sweeps.speed import Peak, Speed
from sweeps.tally import Group, Tally, expect, total_left

PLAIN_LINE_SECONDS = 10.0
TABLE_SECONDS = 0.25
FILE_SECONDS = 1.0
WIDTH = 132  # of a table in a file or pipe
SHOWN = 12  # groups of a table; what is finished gives way first


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


def clock(seconds: float) -> str:
    """Seconds in little room: 0:42, 3:10, 2:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def group_table(groups: Sequence[Group]) -> Table:
    """A row a shape, and one for all: segments, tokens, speed, time left, cost against plan.

    "FLOPs" is the share of those planned that was trained, again included; "time" is spent/planned.
    A dash stands for what nobody knows. Columns about what went wrong are there when it did.
    """
    ill = [name for name in ("failed", "diverged") if _total(groups, name)]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("model", no_wrap=True)
    names = ["done", "running", "waiting", *("damaged" if one == "failed" else one for one in ill)]
    for name in (*names, "tokens", "tokens/s", "of peak", "left", "FLOPs", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    unfinished = [one for one in groups if one.done + one.diverged < one.segments]
    shown = list(groups) if len(groups) <= SHOWN else unfinished[:SHOWN]
    for one in shown:
        table.add_row(*_cells(one.label, [one], ill), style=None if one.running else "dim")
    if len(shown) < len(groups):
        table.add_row(f"and {len(groups) - len(shown)} more", style="dim")
    if len(groups) > 1:
        table.add_row(*_cells("all", groups, ill), style="bold")
    return table


def cost(groups: Sequence[Group]) -> str:
    """What was spent, of what was planned, in one line."""
    planned, spent, done = (
        sum(getattr(one, name) * one.flops_per_token for one in groups)
        for name in ("tokens", "tokens_spent", "tokens_done")
    )
    line = f"cost: {spent:.3g} of {planned:.3g} FLOPs"
    if spent > done:
        line += f", {percent((spent - done) / spent)} of them trained again"
    if spent < done:
        line += "; the rest of what is done was brought here, or trained before costs were noted"
    seconds = [one.seconds_planned for one in groups]
    known = [one for one in seconds if one is not None]
    of = (
        f" of {duration(sum(known))}"
        if len(known) == len(seconds)
        else " (no speed was measured to plan with)"
    )
    return f"{line}; {duration(sum(one.seconds_spent for one in groups))}{of}"


def _total(groups: Sequence[Group], name: str) -> int:
    return sum(getattr(one, name) for one in groups)


def _cells(label: str, groups: Sequence[Group], ill: Sequence[str]) -> list[str]:
    """One row for one group, or for several together."""
    under_way = [one for one in groups if one.running]
    rates = [one.tokens_per_second for one in under_way if one.tokens_per_second]
    share = under_way[0].fraction_of_peak if len(under_way) == 1 else None
    left = total_left(groups)
    planned = sum(one.tokens * one.flops_per_token for one in groups)
    spent = sum(one.tokens_spent * one.flops_per_token for one in groups)
    expected = [one.seconds_planned for one in groups]
    known = [one for one in expected if one is not None]
    of = clock(sum(known)) if len(known) == len(expected) else "-"
    return [
        label,
        f"{_total(groups, 'done')}/{_total(groups, 'segments')}",
        *(str(_total(groups, name)) for name in ("running", "waiting", *ill)),
        f"{count(_total(groups, 'tokens_done'))}/{count(_total(groups, 'tokens'))}",
        count(sum(rates)) if rates else "-",
        "-" if share is None else percent(share),
        "-" if left is None else clock(left),
        percent(spent / planned) if planned else "-",
        f"{clock(sum(one.seconds_spent for one in groups))}/{of}",
    ]


def percent(share: float) -> str:
    """A share as people read it: 0.4%, 23%, 104%."""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def print_groups(groups: Sequence[Group]) -> None:
    """The table on standard output; as wide as it needs to be where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(group_table(groups))


class Display:
    """Shows what a tally counts while a sweep trains. Implements the engine's Watcher.

    Quiet if told so; everything goes to standard error. What `lab status` is to know is left in a
    note in the output folder (`folder`, if there is one). `peak` is asked when the first piece has
    started: devices are up then.
    """

    def __init__(
        self,
        plan: Plan,
        todo: Remaining,
        folder: Path | None,
        quiet: bool = False,
        speed: Speed | None = None,
        peak: Callable[[], Peak] | None = None,
    ) -> None:
        notes = read_notes(folder) if folder is not None else []
        self.tally = Tally(plan, todo, speed, notes, time.monotonic)
        self.notebook = Notebook(folder) if folder is not None else None
        self.quiet, self.peak = quiet, peak
        self.console = Console(stderr=True, highlight=False)
        self.live: Live | None = None
        self.begun = self.shown = time.monotonic()
        self.last_written = 0.0

    def __enter__(self) -> "Display":
        self.begun = self.shown = time.monotonic()
        if not self.quiet and self.console.is_terminal:
            # drawn by who trains, never by a thread that would read while we count
            self.live = Live(self.table(), console=self.console, auto_refresh=False)
            self.live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.update(self.table())
            self.live.stop()
        if self.notebook is not None:
            self.notebook.write(self.tally.note(ended=True))

    def started(self, work: Work) -> None:
        """A piece got a lane."""
        if self.tally.peak is None and self.peak is not None:
            self.tally.peak = self.peak()
        self.tally.started(work)
        self._show()

    def logged(self, work: Work, rows: list[StepRow]) -> None:
        """Steps were trained."""
        self.tally.logged(work, rows)
        self._show()

    def evaluated(self, work: Work, corpus: str, row: EvaluationRow) -> None:
        """A state was evaluated on one corpus."""
        self.tally.evaluated(work, corpus, row)

    def finished(self, work: Work, diverged_step: int | None) -> None:
        """A piece is trained."""
        self.tally.finished(work, diverged_step)
        if diverged_step is not None:
            self.say(
                f"diverged: a run's loss is not finite at step {diverged_step}; the others go on"
            )
        self._show()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live is not None:
            self.live.console.print(line, markup=False)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def line(self) -> str:
        """The state of things in one line."""
        groups = self.tally.groups
        expect(groups)
        elapsed = time.monotonic() - self.begun
        parts = [
            f"{count(_total(groups, 'tokens_done'))}/{count(_total(groups, 'tokens'))} tokens",
            f"{_total(groups, 'done')}/{_total(groups, 'segments')} segments",
        ]
        if len(groups) > 1:
            parts += [f"{one.label}: {one.done}/{one.segments}" for one in groups if one.running]
        if diverged := _total(groups, "diverged"):
            parts.append(f"{diverged} diverged")
        parts += [f"{name} {loss:.3f}" for name, loss in self.tally.losses.items()]
        if self.tally.tokens_trained > 0 and elapsed > 0:
            parts.append(f"{count(self.tally.tokens_trained / elapsed)} tokens/s")
            shares = [one.fraction_of_peak for one in groups if one.running]
            parts += [f"{percent(share)} of peak" for share in shares if share is not None]
            left = total_left(groups)
            parts += [] if left is None else [f"{duration(left)} left"]
        return " | ".join(parts)

    def table(self) -> Stacked:
        """The state of things as a table, and what belongs to no shape below it."""
        expect(self.tally.groups)
        losses = [f"{name} {loss:.3f}" for name, loss in self.tally.losses.items()]
        below = [f"last losses: {', '.join(losses)}" if losses else "starting"]
        below.append(cost(self.tally.groups))
        if self.tally.peak is not None:
            below.append(f"share of peak: {self.tally.peak.of}")
        return Stacked(group_table(self.tally.groups), Text("\n".join(below), style="dim"))

    def _show(self) -> None:
        now = time.monotonic()
        if self.live is not None:
            if now - self.shown >= TABLE_SECONDS:
                self.shown = now
                self.live.update(self.table(), refresh=True)
        elif not self.quiet and now - self.shown >= PLAIN_LINE_SECONDS:
            self.shown = now
            self.say(self.line())
        if self.notebook is not None and now - self.last_written >= FILE_SECONDS:
            self.last_written = now
            self.notebook.write(self.tally.note())
