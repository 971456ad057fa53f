"""Views of a sweep in TensorBoard or Weights & Biases. Never the store, and never in the way.

Each tracker has a thread and a bounded queue of its own: who trains puts rows in and goes on. A
tracker that raises is named once and switched off; one that is slow loses rows, which are counted
and said; one that hangs is left behind. What is trained, and every byte of the results, is the same
with and without.

A segment is a curve, as in the results: runs that share a trunk share its curve.

    tensorboard   DIR/tensorboard/<segment>/   event files, by tensorboardX: of the writers that
                  need neither TensorFlow nor PyTorch (flax.metrics needs the former)
    wandb         a W&B run a segment, in the project STUDY, group the folder's name; where it goes
                  is W&B's own business (wandb login, WANDB_MODE=offline, WANDB_PROJECT ...)
"""

import contextlib
import importlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import Refused

if TYPE_CHECKING:  # `lab --help` names the trackers, and loads no heavy library
    from lab.store import EvaluationRow, StepRow
    from sweeps.engines.local import Watcher
    from sweeps.plan import Plan
    from sweeps.remaining import Work

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # tracker -> what it imports
QUEUED = 10_000  # steps and evaluations that may wait for a slow tracker
CLOSE_SECONDS = 10.0  # a tracker has to write what waits, when training is over
FLUSH_SECONDS = 10


class Curve(Protocol):
    """Where the values of one segment go. May raise whatever its package raises, and may hang."""

    def show(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


# Opens the curve of a segment: its name, and what its runs have in common.
Opener = Callable[[str, dict[str, Any]], Curve]


def read_names(told: str | None) -> tuple[str, ...]:
    """Trackers told as `tensorboard,wandb`. Raises Refused where a package is missing."""
    names = tuple(dict.fromkeys(told.split(","))) if told else ()
    for name in names:
        try:
            importlib.import_module(PACKAGES[name])
        except ImportError as error:
            raise Refused(
                f"--track {name} needs the package {PACKAGES[name]} ({error}): "
                f"pip install 'scaling-law-lab[{name}]'"
            ) from None
    return names


@contextmanager
def tracked(
    watcher: "Watcher", names: Sequence[str], plan: "Plan", folder: Path, say: Callable[[str], None]
) -> Iterator["Watcher"]:
    """`watcher` and the named trackers as one. `say` hears, once each, what goes wrong."""
    trackers = [Tracker(name, _opener(name, plan, folder), plan, say) for name in names]
    try:
        yield Everyone([watcher, *trackers])
    finally:
        until = time.monotonic() + CLOSE_SECONDS
        for one in trackers:
            one.hand_over()  # all at once: none waits for another to end
        for one in trackers:
            one.close(until)


class Everyone:
    """Several watchers as one."""

    def __init__(self, watchers: "Sequence[Watcher]") -> None:
        self.watchers = watchers

    def started(self, work: "Work") -> None:
        for one in self.watchers:
            one.started(work)

    def logged(self, work: "Work", rows: "list[StepRow]") -> None:
        for one in self.watchers:
            one.logged(work, rows)

    def evaluated(self, work: "Work", corpus: str, row: "EvaluationRow") -> None:
        for one in self.watchers:
            one.evaluated(work, corpus, row)

    def finished(self, work: "Work", diverged_step: int | None) -> None:
        for one in self.watchers:
            one.finished(work, diverged_step)


class Tracker:
    """One tracker behind its queue. Implements the engine's Watcher; never raises, never waits."""

    def __init__(self, name: str, open_: Opener, plan: "Plan", say: Callable[[str], None]) -> None:
        self.name, self.open, self.plan, self.say = name, open_, plan, say
        self.queue: queue.Queue[Callable[[], None] | None] = queue.Queue(QUEUED)
        self.off = threading.Event()
        self.dropped = 0
        self.curves: dict[int, Curve] = {}  # of segments in a lane; the thread's own
        self.thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.thread.start()

    # Called by who trains ---------------------------------------------------------------------

    def started(self, work: "Work") -> None:
        """A piece got a lane. Its curve opens with its first value."""

    def logged(self, work: "Work", rows: "list[StepRow]") -> None:
        """Steps were trained."""
        names = ("loss_nats", "lr", "grad_norm", "tokens")
        for row in rows:
            values = {f"train/{name}": float(getattr(row, name)) for name in names}
            self._put(self._showing(work, row.step, values))

    def evaluated(self, work: "Work", corpus: str, row: "EvaluationRow") -> None:
        """A state was evaluated on one corpus."""
        names = ("loss_nats", "bits_per_byte", "accuracy")
        values = {f"{corpus}/{name}": float(getattr(row, name)) for name in names}
        self._put(self._showing(work, row.step, values))

    def finished(self, work: "Work", diverged_step: int | None) -> None:
        """A piece is trained: close its curve."""
        self._put(lambda: self._close(work.segment))

    def _showing(self, work: "Work", step: int, values: dict[str, float]) -> Callable[[], None]:
        return lambda: self._curve(work.segment).show(step, values)

    def _put(self, message: Callable[[], None]) -> None:
        if self.off.is_set():
            return
        try:
            self.queue.put_nowait(message)
        except queue.Full:
            if self.dropped == 0:
                self.say(f"tracker {self.name} is slower than training: it misses rows from now on")
            self.dropped += 1

    def hand_over(self) -> None:
        """Nothing more will come: tell the thread, where there is room to."""
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(None)

    def close(self, until: float) -> None:
        """Wait for the thread until then (monotonic seconds); say what is not shown."""
        with contextlib.suppress(queue.Full):  # a second None is never read
            self.queue.put(None, timeout=max(0.0, until - time.monotonic()))
        self.thread.join(max(0.0, until - time.monotonic()))
        if self.thread.is_alive():
            self.off.set()
            self.dropped += self.queue.qsize()
            self.say(
                f"tracker {self.name} did not end within {CLOSE_SECONDS:g} s and is left behind"
            )
        if self.dropped:
            self.say(f"tracker {self.name} misses {self.dropped} values; the results have them")

    # In the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (message := self.queue.get()) is not None and not self.off.is_set():
                message()
            for one in self.curves.values():
                one.close()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # packages raise what they like
            self.off.set()
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.say(f"tracker {self.name} is switched off: {why}")

    def _curve(self, k: int) -> Curve:
        """The open curve of a segment."""
        if k not in self.curves:
            segment = self.plan.segments[k]
            runs = [self.plan.runs[number] for number in segment.runs]
            common = {
                name: value
                for name, value in runs[0].values.items()
                if all(run.values.get(name) == value for run in runs)
            }
            arms = list(dict.fromkeys(run.arm for run in runs))
            config = {
                "segment": segment.end_id[:12],  # as in the results
                "arms": arms,
                "from_step": segment.start,
                "to_step": segment.stop,
                "runs": len(runs),
                **{name: _plain(value) for name, value in common.items()},
            }
            self.curves[k] = self.open(segment_label(k, arms, common), config)
        return self.curves[k]

    def _close(self, k: int) -> None:
        if k in self.curves:
            self.curves.pop(k).close()


def segment_label(number: int, arms: Sequence[str], common: dict[str, Any]) -> str:
    """A name for people that is a safe file name: number, arm, values its runs have in common."""
    said = "+".join(arms) + "".join(f" {name}={_plain(value)}" for name, value in common.items())
    return f"{number:04d} {re.sub(r'[^A-Za-z0-9=+_. -]', '_', said)}"[:120].rstrip(". ")


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


# The packages -------------------------------------------------------------------------------


def _opener(name: str, plan: "Plan", folder: Path) -> Opener:
    if name == "tensorboard":
        return lambda label, config: _TensorBoard(folder / "tensorboard" / label)
    project, group = plan.sweep.study, folder.resolve().name
    return lambda label, config: _WandB(project, group, label, config, folder)


class _TensorBoard:
    """One segment's event files. Steps that a killed run left are drawn twice, with equal values.

    tensorboardX 2.6: SummaryWriter(logdir, comment, purge_step, max_queue, flush_secs, ...),
    add_scalar(tag, scalar_value, global_step), close().
    """

    def __init__(self, folder: Path) -> None:
        writer = importlib.import_module("tensorboardX").SummaryWriter
        self.writer = writer(str(folder), flush_secs=FLUSH_SECONDS)

    def show(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _WandB:
    """One segment's W&B run. Values of one step are gathered: its steps must not fall.

    wandb: init(project, group, name, config, dir, reinit, settings), several runs in one process by
    reinit="create_new" (from 0.19.10); Run.log(data, step), Run.finish(). Its capture of the
    terminal is off, since the live table writes there.
    """

    def __init__(
        self, project: str, group: str, name: str, config: dict[str, Any], folder: Path
    ) -> None:
        self.run = importlib.import_module("wandb").init(
            project=project,
            group=group,
            name=name,
            config=config,
            dir=str(folder),
            reinit="create_new",
            settings={"console": "off", "login_timeout": FLUSH_SECONDS},
        )

    def show(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()
