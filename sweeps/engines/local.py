"""Trains pieces of work on this machine: lanes of one stack, refilled until nothing is left.

Host work (gathering the next chunk's tokens, reading the last chunk's losses) is done while the
devices run; states are written by a thread of their own, and a piece's children start when its
marker is on disk. A free lane takes the ready piece with the longest way still behind it.
"""

import math
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Protocol

import jax
import numpy as np

from lab import hosts, mesh
from lab.device_text import DeviceText
from lab.errors import Failed
from lab.evaluate import EvaluationSet, scores
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.mixture import Stream
from lab.optimizer import Hyper, hyper
from lab.store import EvaluationRow, Record, StepRow, Store
from lab.train import Chunk, Trainer
from sweeps.plan import Plan, Segment
from sweeps.remaining import Work

CHUNK_STEPS = 64  # at most this many steps a dispatch
CHUNK_BYTES = 2**26  # and at most this much text
DISPATCH_SECONDS = 2.0  # aimed at, so that the display moves
COMMIT_SECONDS = 300.0  # a long piece commits what it has this often
KEEP_BYTES = 2**28  # and when the states that a lane keeps take this much memory


class Watcher(Protocol):
    """Who wants to know how it goes."""

    def started(self, work: Work) -> None: ...
    def logged(self, work: Work, rows: list[StepRow]) -> None: ...
    def evaluated(self, work: Work, corpus: str, row: EvaluationRow) -> None: ...
    def finished(self, work: Work, diverged_step: int | None) -> None: ...


@dataclass
class Lane:
    """A piece of work in a lane of the stack; `begun` is the step of its last commit."""

    number: int
    work: Work
    segment: Segment
    stream: Stream
    sets: list[EvaluationSet]
    hyper: Hyper
    step: int
    begun: int
    evaluate: list[int]
    committed_at: float
    step_rows: list[StepRow] = field(default_factory=list)
    evaluation_rows: list[EvaluationRow] = field(default_factory=list)
    diverged_step: int | None = None
    kept: dict[int, Any] = field(default_factory=dict)  # states at stops since the last commit
    intermediate: FilePath | None = None

    def next_stop(self) -> int:
        return next((step for step in self.evaluate if step > self.step), self.work.stop)


@dataclass
class InFlight:
    """A dispatched chunk or evaluation whose results have not been read yet."""

    lanes: list[tuple[int, Lane, int, int]]  # (lane, whose, first step, steps)
    log: Any
    evaluation: Any
    evaluated: list[tuple[int, Lane, int]]  # (lane, whose, step)


@dataclass
class LocalEngine:
    """All devices of this host, or of all hosts that have met (`lab.hosts`).

    `lanes` is the stack size that the plan fixed. Of several hosts only the first opens the store.
    """

    plan: Plan
    store: Store
    lanes: int
    watcher: Watcher
    layout: Layout = A_RUN_A_DEVICE
    commit_seconds: float = COMMIT_SECONDS
    chunk_steps: int = CHUNK_STEPS
    keep_bytes: int = KEEP_BYTES

    def train(self, work: list[Work], stored: dict[str, FilePath]) -> None:
        """Do all work. `stored` maps state to folder. Raises Failed; what is committed stays."""
        mesh.start(self.lanes, self.layout)
        stack = mesh.lanes(self.lanes, self.layout)
        by_group: dict[Any, list[int]] = {}
        for number, piece in enumerate(work):
            by_group.setdefault(self.plan.segments[piece.segment].shape, []).append(number)
        for shape in self.plan.groups():
            if numbers := by_group.get(shape):
                try:
                    _Group(self, work, numbers, stored, stack).run()
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    raise Failed(
                        f"out of memory with a stack of {self.lanes} lanes at width "
                        f"{shape.model.width}: run again with a smaller --stack, with "
                        "--accumulate or --remat, or on more devices (--mesh fsdp=)"
                    ) from error


class _Group:
    """The pieces of one shape."""

    def __init__(
        self,
        engine: LocalEngine,
        work: list[Work],
        numbers: Iterable[int],
        stored: dict[str, FilePath],
        stack: mesh.Lanes,
    ) -> None:
        self.engine, self.plan, self.store = engine, engine.plan, engine.store
        self.work, self.stored = work, stored
        self.waiting = set(numbers)
        self.priority = _ways_behind(work)
        run = self.plan.segments[work[min(self.waiting)].segment].path.run
        window_bytes = 4 * run.batch * (run.model.context + 1)
        chunk = max(1, min(engine.chunk_steps, CHUNK_BYTES // window_bytes))
        corpora = [self.plan.corpora[name] for name in self._names(numbers)]
        self.text = DeviceText(corpora, stack, chunk, run.batch, run.model.context)
        self.trainer = Trainer(run.shape, stack, chunk, self.text.own)
        self.provenance = mesh.provenance(stack)
        self.stack = self.trainer.empty_stack()
        self.lanes: list[Lane | None] = [None] * stack.count
        windows = np.stack([one.tokens() for one in self.plan.sets_for(run)])
        self.windows = mesh.placed(windows, stack.replicated)
        self.in_flight: deque[InFlight] = deque()
        self.commits: dict[int, Future[FilePath]] = {}  # piece of work -> its commit
        self.done: set[int] = set()
        self.dead: set[int] = set()  # diverged, or below one that did
        self.seconds_a_step = 0.0

    def run(self) -> None:
        """Train until every piece is committed or cannot be had."""
        # With several hosts all must know at the same step what has been committed: no waiting.
        writers = _AtOnce() if hosts.several() else ThreadPoolExecutor(1, "commit")
        with writers as writer:
            self.writer = writer
            while True:
                self._settle()
                self._fill()
                active = [(k, lane) for k, lane in enumerate(self.lanes) if lane is not None]
                if active:
                    self._advance(active)
                elif self.commits:
                    next(iter(self.commits.values())).exception()  # wait; _settle reads it
                else:
                    break

    def _names(self, numbers: Iterable[int]) -> list[str]:
        """Corpora that the pieces of this shape read."""
        runs = [self.plan.segments[self.work[n].segment].path.run for n in numbers]
        return list(dict.fromkeys(name for run in runs for name in run.corpora()))

    # Lanes -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Take note of what the writer has finished. Raises what stopped it."""
        for number, future in list(self.commits.items()):
            if future.done():
                folder = future.result()
                work = self.work[number]
                segment = self.plan.segments[work.segment]
                if number not in self.dead:
                    if work.stop > work.start:  # else it held the state already
                        self.stored[segment.path.state_id(work.stop)] = folder
                    self.done.add(number)
                del self.commits[number]

    def _fill(self) -> None:
        for k, lane in enumerate(self.lanes):
            if lane is not None:
                continue
            ready = [n for n in self.waiting if self.work[n].after in (None, *self.done)]
            if ready:
                number = max(ready, key=lambda n: (self.priority[n], -n))
                self.waiting.discard(number)
                self._start(k, number)
        self._evaluate_new()

    def _start(self, k: int, number: int) -> None:
        work = self.work[number]
        segment = self.plan.segments[work.segment]
        path = segment.path
        if work.start == 0:
            state = self.trainer.initial(path.run.seed)
        else:
            state = like = self.trainer.abstract()
            if hosts.first():
                state = self.store.restore(self.stored[path.state_id(work.start)], like)
            state = hosts.shared(state, like)
        if any(s.start == work.start and s.reset_optimizer for s in path.stretches):
            state = self.trainer.reset_optimizer(state)
        self.stack = self.trainer.put(self.stack, k, state)
        self.lanes[k] = Lane(
            number,
            work,
            segment,
            Stream(path, self.plan.by_digest),
            self.plan.sets_for(path.run),
            hyper(path.run.optimizer),
            step=work.start,
            begun=work.start,
            evaluate=work.evaluate,
            committed_at=time.monotonic(),
        )
        self.engine.watcher.started(work)

    def _evaluate_new(self) -> None:
        """Evaluate lanes that start at a stop; finish those that were to do no more."""
        new = [
            (k, lane)
            for k, lane in enumerate(self.lanes)
            if lane is not None
            and lane.step == lane.work.start
            and lane.step in lane.evaluate
            and not lane.evaluation_rows
        ]
        if not new:
            return
        self.in_flight.append(self._dispatch_evaluation(new, [], None))
        self._read_results(0)
        for k, lane in new:
            if lane.step == lane.work.stop:
                self._finish(k, lane)

    def _advance(self, active: list[tuple[int, Lane]]) -> None:
        steps = min(lane.next_stop() - lane.step for _, lane in active)
        steps = min(steps, self.trainer.chunk)
        if self.seconds_a_step > 0:
            steps = min(steps, max(1, int(DISPATCH_SECONDS / self.seconds_a_step)))
        steps = hosts.agree(steps)  # clocks differ
        begun = time.monotonic()
        chunk = self._chunk(active, steps)
        self.stack, log = self.trainer.train(self.stack, chunk)
        trained = [(k, lane, lane.step, steps) for k, lane in active]
        for _, lane in active:
            lane.step += steps
        at_stop = [(k, lane) for k, lane in active if lane.step in lane.evaluate]
        self.in_flight.append(self._dispatch_evaluation(at_stop, trained, log))
        for k, lane in at_stop:
            if lane.step < lane.work.stop:
                lane.kept[lane.step] = self.trainer.take(self.stack, k)
        self._read_results(1)
        for k, lane in active:
            if lane.step == lane.work.stop or lane.diverged_step is not None:
                self._read_results(0)
                self._finish(k, lane)
            elif hosts.agree(
                time.monotonic() - lane.committed_at >= self.engine.commit_seconds
                or sum(map(_bytes, lane.kept.values())) >= self.engine.keep_bytes
            ):
                self._read_results(0)
                self._commit_part(k, lane)
        self.seconds_a_step = (time.monotonic() - begun) / steps

    def _chunk(self, active: list[tuple[int, Lane]], steps: int) -> Chunk:
        """Inputs of the next `steps` steps; those of idle lanes and behind `steps` mean nothing."""
        count, most = len(self.lanes), self.trainer.chunk
        lr = np.zeros((count, most), np.float32)
        hypers = [lane.hyper if lane is not None else active[0][1].hyper for lane in self.lanes]
        wanted = np.zeros(count, np.int32)
        for k, lane in active:
            lr[k, :steps] = lane.segment.path.lr[lane.step : lane.step + steps]
            wanted[k] = steps
        stacked = Hyper(*(np.array(column, np.float32) for column in zip(*hypers, strict=True)))
        streams = {k: (lane.stream, lane.step) for k, lane in active}
        return Chunk(*self.text.read(streams, steps), lr, stacked, wanted)

    def _dispatch_evaluation(
        self, which: list[tuple[int, Lane]], trained: list[tuple[int, Lane, int, int]], log: Any
    ) -> InFlight:
        evaluation = None
        if which:
            wanted = np.zeros(len(self.lanes), bool)
            wanted[[k for k, _ in which]] = True
            evaluation = self.trainer.evaluate(self.stack, self.windows, wanted)
        return InFlight(trained, log, evaluation, [(k, lane, lane.step) for k, lane in which])

    # Results ---------------------------------------------------------------------------------

    def _read_results(self, leave: int) -> None:
        """Read what the devices have done, but for the last `leave` dispatches."""
        while len(self.in_flight) > leave:
            one = self.in_flight.popleft()
            if one.lanes:
                losses, norms = hosts.whole(tuple(one.log))
                for k, lane, first, steps in one.lanes:
                    self._read_steps(lane, first, losses[k, :steps], norms[k, :steps])
            if one.evaluated:
                nats, correct = hosts.whole(tuple(one.evaluation))
                for k, lane, step in one.evaluated:
                    self._read_evaluation(lane, step, nats[k], correct[k])

    def _read_steps(self, lane: Lane, first: int, losses: Any, norms: Any) -> None:
        run = lane.segment.path.run
        before = len(lane.step_rows)
        for k, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
            if lane.diverged_step is not None:
                break
            step = first + k
            if not (math.isfinite(loss) and math.isfinite(norm)):
                lane.diverged_step = step
                break
            lr = float(lane.segment.path.lr[step])
            lane.step_rows.append(StepRow(step, loss, lr, norm, run.tokens_per_step * (step + 1)))
        self.engine.watcher.logged(lane.work, lane.step_rows[before:])

    def _read_evaluation(self, lane: Lane, step: int, nats: Any, correct: Any) -> None:
        if lane.diverged_step is not None and step > lane.diverged_step:
            return
        state = lane.segment.stop_ids[step]
        for e, one in enumerate(lane.sets):
            got = scores(nats[e], correct[e], one)
            if not math.isfinite(got.loss_nats):
                # the update before this state did it; its own loss was still finite
                lane.diverged_step = step - 1
                lane.evaluation_rows = [r for r in lane.evaluation_rows if r.step < step]
                return
            row = EvaluationRow(
                state, step, one.set_id, got.loss_nats, got.bits_per_byte, got.accuracy
            )
            lane.evaluation_rows.append(row)
            self.engine.watcher.evaluated(lane.work, one.corpus.name, row)

    def _finish(self, k: int, lane: Lane) -> None:
        """Hand a lane's piece to the writer and free the lane."""
        work = lane.work
        self.lanes[k] = None
        if lane.diverged_step is not None:
            self._bury(lane.number)
            self._commit(lane, lane.diverged_step + 1, None)
        else:
            state = self.trainer.take(self.stack, k) if work.stop > work.start else None
            self._commit(lane, work.stop, state)
        self.engine.watcher.finished(work, lane.diverged_step)

    def _bury(self, number: int) -> None:
        """A diverged piece takes with it everything that would start from it."""
        self.dead.add(number)
        for child in [n for n in self.waiting if self.work[n].after == number]:
            self.waiting.discard(child)
            self._bury(child)

    def _write(self, lane: Lane, end: int, state: Any) -> FilePath:
        """Commit what a lane has since its last commit; runs in the writer's thread."""
        if not hosts.first():
            return FilePath()  # written once; the others never open it
        path = lane.segment.path
        record = Record(
            start=path.state_id(lane.begun) if lane.begun > 0 else None,
            start_step=lane.begun,
            end=path.state_id(end),
            end_step=end,
            diverged_step=lane.diverged_step,
            state=state is not None,
            provenance=self.provenance,
        )
        stops = {step: kept for step, kept in lane.kept.items() if step < end}
        folder = self.store.commit(record, lane.step_rows, lane.evaluation_rows, state, stops)
        if lane.intermediate is not None:
            self.store.drop_state(lane.intermediate)
        return folder

    def _commit(self, lane: Lane, end: int, state: Any) -> None:
        self.commits[lane.number] = self.writer.submit(self._write, lane, end, state)

    def _commit_part(self, k: int, lane: Lane) -> None:
        """Commit what a long piece has so far, so that a kill costs minutes at most."""
        if lane.diverged_step is not None:
            return  # seen only now: the next round buries it
        state = self.trainer.take(self.stack, k)
        folder = self.writer.submit(self._write, lane, lane.step, state).result()
        # states at stops stay: another corpus may be evaluated on them
        lane.intermediate = None if lane.step in lane.segment.stop_ids else folder
        lane.begun, lane.step_rows, lane.evaluation_rows, lane.kept = lane.step, [], [], {}
        lane.committed_at = time.monotonic()


class _AtOnce(Executor):
    """Does what it is given before it returns."""

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **more))
        return future


def _bytes(state: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def _ways_behind(work: list[Work]) -> list[int]:
    """Steps of the longest chain of pieces that starts with each piece."""
    ways = [piece.stop - piece.start for piece in work]
    for number in reversed(range(len(work))):  # parents stand before their children
        after = work[number].after
        if after is not None:
            own = work[after].stop - work[after].start
            ways[after] = max(ways[after], own + ways[number])
    return ways
