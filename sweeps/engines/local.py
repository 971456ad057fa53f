"""Trains pieces of work on this machine: lanes of one stack, refilled until nothing is left.

Nothing is left when all is committed, or held by other processes. Host work (gathering the next
chunk's tokens, reading the last chunk's losses) is done while the devices run; states are written
by a thread of their own, and a piece's children start when its marker is on disk. A free lane takes
the ready piece with the longest way still behind it, and shapes come in that order too.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Protocol

import jax
import numpy as np

from lab import hosts, mesh
from lab.adopt import adopted_state
from lab.device_text import DeviceText
from lab.errors import Failed
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.optimizer import Hyper
from lab.spec import Shape
from lab.store import EvaluationRow, StepRow, Store
from lab.train import Chunk, Trainer
from sweeps.engines.lanes import InFlight, Lane, lane_of
from sweeps.engines.pieces import Claims, NobodyElse, Pieces, flops_behind
from sweeps.plan import Plan
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
class LocalEngine:
    """All devices of this host, or of all hosts that have met (`lab.hosts`).

    `lanes` is the stack size that the plan fixed. Of several hosts only the first opens the store.
    `pulse` is called whenever a dispatch has finished, `told_to_stop` before each: then every lane
    commits what it has and the engine returns.
    """

    plan: Plan
    store: Store
    lanes: int
    watcher: Watcher
    layout: Layout = A_RUN_A_DEVICE
    claims: Claims = field(default_factory=NobodyElse)
    pulse: Callable[[], None] = lambda: None
    told_to_stop: Callable[[], bool] = lambda: False
    commit_seconds: float = COMMIT_SECONDS
    chunk_steps: int = CHUNK_STEPS
    keep_bytes: int = KEEP_BYTES

    def train(self, work: list[Work], stored: dict[str, FilePath]) -> int:
        """Do all work that can be had; returns the tokens of the pieces that were begun.

        `stored` maps state to folder. Raises Failed; what is committed stays.
        """
        mesh.start(self.lanes, self.layout)
        stack = mesh.lanes(self.lanes, self.layout)
        by_group: dict[Shape, list[int]] = {}
        for number, piece in enumerate(work):
            by_group.setdefault(self.plan.segments[piece.segment].shape, []).append(number)
        tokens = 0
        for shape in self._longest_first(work, by_group):
            pieces = Pieces(work, by_group[shape], self.claims)
            if self.told_to_stop() or not pieces.reserve():
                continue
            try:
                group = _Group(self, pieces, stored, stack)
                group.run()
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise Failed(
                    f"out of memory with a stack of {self.lanes} lanes at width "
                    f"{shape.model.width}: run again with a smaller --stack, with "
                    "--accumulate or --remat, or on more devices (--mesh fsdp=)"
                ) from error
            tokens += group.tokens
        return tokens

    def _longest_first(self, work: list[Work], by_group: dict[Shape, list[int]]) -> list[Shape]:
        """Shapes by their longest chain of pieces in FLOPs: what memory does not hold shows at
        once, and processes that share a sweep end with the short ones (`lab bench fleet`)."""
        ways = flops_behind(self.plan, work)
        return sorted(by_group, key=lambda shape: -max(ways[n] for n in by_group[shape]))


class _Group:
    """The pieces of one shape."""

    def __init__(
        self, engine: LocalEngine, pieces: Pieces, stored: dict[str, FilePath], stack: mesh.Lanes
    ) -> None:
        self.engine, self.plan, self.store = engine, engine.plan, engine.store
        self.pieces, self.stored = pieces, stored
        runs = [self.plan.segments[pieces.work[n].segment].path.run for n in pieces.numbers]
        run = runs[0]
        window_bytes = 4 * run.batch * (run.model.context + 1)
        chunk = max(1, min(engine.chunk_steps, CHUNK_BYTES // window_bytes))
        names = dict.fromkeys(name for one in runs for name in one.corpora())
        corpora = [self.plan.corpora[name] for name in names]
        self.text = DeviceText(corpora, stack, chunk, run.batch, run.model.context)
        self.trainer = Trainer(run.shape, stack, chunk, self.text.own)
        self.provenance = mesh.provenance(stack)
        self.stack = self.trainer.empty_stack()
        self.lanes: list[Lane | None] = [None] * stack.count
        windows = np.stack([one.tokens() for one in self.plan.sets_for(run)])
        self.windows = mesh.placed(windows, stack.replicated)
        self.in_flight: deque[InFlight] = deque()
        self.commits: dict[int, Future[FilePath]] = {}  # piece of work -> its commit
        self.seconds_a_step = 0.0
        self.tokens = 0

    def run(self) -> None:
        """Train until every piece is committed or cannot be had, or the engine is told to stop."""
        # With several hosts all must know at the same step what has been committed: no waiting.
        writers = _AtOnce() if hosts.several() else ThreadPoolExecutor(1, "commit")
        with writers as writer:
            self.writer = writer
            while True:
                self._settle()
                if self.engine.told_to_stop():
                    self._save()
                    break
                self._fill()
                active = self._active()
                if active:
                    self._advance(active)
                    self.engine.pulse()
                elif self.commits:
                    next(iter(self.commits.values())).exception()  # wait; _settle reads it
                else:
                    break

    def _active(self) -> list[tuple[int, Lane]]:
        return [(k, lane) for k, lane in enumerate(self.lanes) if lane is not None]

    def _save(self) -> None:
        """Commit every lane at its present step, and wait for all that is being written."""
        self._read_results(0)
        for k, lane in self._active():
            if lane.step > lane.begun:
                self._commit_part(k, lane)
        for number in list(self.commits):
            self.commits[number].exception()
        self._settle()

    # Lanes -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Take note of what the writer has finished. Raises what stopped it."""
        for number, future in list(self.commits.items()):
            if future.done():
                folder = future.result()
                work = self.pieces.work[number]
                if number not in self.pieces.dead and work.stop > work.start:
                    # else it held the state already
                    path = self.plan.segments[work.segment].path
                    self.stored[path.state_id(work.stop)] = folder
                self.pieces.committed(number)
                del self.commits[number]

    def _fill(self) -> None:
        for k, lane in enumerate(self.lanes):
            if lane is None and (number := self.pieces.take()) is not None:
                self._start(k, number)
        self._evaluate_new()

    def _start(self, k: int, number: int) -> None:
        work = self.pieces.work[number]
        segment = self.plan.segments[work.segment]
        path = segment.path
        if work.start == 0 and path.origin is None:
            state = self.trainer.initial(path.run.seed)
        else:
            state = like = self.trainer.abstract()
            if hosts.first() and work.start == 0 and path.origin is not None:
                state = adopted_state(path.origin, like)
            elif hosts.first():
                state = self.store.restore(self.stored[path.state_id(work.start)], like)
            state = hosts.shared(state, like)
        if any(s.start == work.start and s.reset_optimizer for s in path.stretches):
            state = self.trainer.reset_optimizer(state)
        self.stack = self.trainer.put(self.stack, k, state)
        self.lanes[k] = lane_of(self.plan, number, work, time.monotonic())
        self.tokens += (work.stop - work.start) * path.run.tokens_per_step
        self.engine.watcher.started(work)

    def _evaluate_new(self) -> None:
        """Evaluate lanes that start at a stop; finish those that were to do no more."""
        new = [(k, lane) for k, lane in self._active() if lane.new_at_stop()]
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
        at_stop = [(k, lane) for k, lane in active if lane.step in lane.work.evaluate]
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
                or lane.kept_bytes() >= self.engine.keep_bytes
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
                    rows = lane.read_steps(first, losses[k, :steps], norms[k, :steps])
                    self.engine.watcher.logged(lane.work, rows)
            if one.evaluated:
                nats, correct = hosts.whole(tuple(one.evaluation))
                for k, lane, step in one.evaluated:
                    for name, row in lane.read_evaluation(step, nats[k], correct[k]):
                        self.engine.watcher.evaluated(lane.work, name, row)

    def _finish(self, k: int, lane: Lane) -> None:
        """Hand a lane's piece to the writer and free the lane."""
        work = lane.work
        self.lanes[k] = None
        if lane.diverged_step is not None:
            self.pieces.bury(lane.number)
            self._commit(lane, lane.diverged_step + 1, None)
        else:
            state = self.trainer.take(self.stack, k) if work.stop > work.start else None
            self._commit(lane, work.stop, state)
        self.engine.watcher.finished(work, lane.diverged_step)

    def _write(self, lane: Lane, end: int, state: Any) -> FilePath:
        """Commit what a lane has since its last commit; runs in the writer's thread."""
        if not hosts.first():
            return FilePath()  # written once; the others never open it
        record = lane.record(end, state is not None, self.provenance)
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
        lane.committed(folder, time.monotonic())


class _AtOnce(Executor):
    """Does what it is given before it returns."""

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **more))
        return future
