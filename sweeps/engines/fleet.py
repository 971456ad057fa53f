"""Trains a sweep through an engine: hands tasks over, follows them in the store, replaces the lost.

    DIR/.engine/            private (0700): what engines write, logs of workers
    DIR/.engine/jobs.jsonl  what was handed over, a line each, so that a driver that is started
                            again, anywhere, knows which of it still waits or runs

An engine is only ever sent a command line, `lab work DIR --segments ...`. Nothing that it says of
a task counts but whether it has it still: what is done is in the store, and a task that is gone
with something undone is handed over again. Two drivers, or a driver that forgot, cost work at
most: workers share it by leases.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from lab.errors import Failed
from sweeps.engines.tasks import Task, make_tasks
from sweeps.leases import Leases
from sweeps.notice import Notice
from sweeps.place import store_of, url_of
from sweeps.plan import Plan
from sweeps.remaining import Remaining, needed, remaining

PRIVATE = ".engine"
JOBS = "jobs.jsonl"
WORKER = (sys.executable, "-m", "sweeps.cli", "work")
POLL_SECONDS = 1.0  # between two questions to the engine
READING_SHARE = 0.2  # of the driver's time that reading the store may take
TRIES = 4  # of a task that ends and leaves just what it found
TAIL_BYTES = 4000  # of a worker's log that is looked at for its last line


class Engine(Protocol):
    """Runs command lines somewhere. `queues`: it holds a task back until others have ended."""

    name: str
    queues: bool

    def submit(self, command: Sequence[str], after: Sequence[str]) -> str:
        """Hand a command line over; its id. `after`: ids whose end, however it was, it awaits (of
        an engine that queues). Raises Refused, Failed."""
        ...

    def alive(self, ids: Collection[str]) -> set[str]:
        """Those that wait or run; one that nothing is known of for the moment counts as alive."""
        ...

    def log(self, id: str) -> Path:
        """What the command printed, if that file is there."""
        ...

    def close(self) -> None:
        """The driver ends. What can go on without it does."""
        ...


def private(folder: Path) -> Path:
    """A sweep's folder for its engines, for this user alone. Raises Failed."""
    place = folder / PRIVATE
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        place.chmod(0o700)
    except OSError as error:
        raise Failed(f"cannot make {place}: {error.strerror}") from error
    return place


@dataclass
class Fleet:
    """A sweep's driver. `workers`: tasks that the engine has at once, waiting or running."""

    open_engine: Callable[[], Engine]  # asked when something is to be trained
    folder: Path
    workers: int
    say: Callable[[str], None]
    seconds: float = POLL_SECONDS
    _engine: Engine | None = None
    _handed: dict[str, frozenset[str]] = field(default_factory=dict)  # id -> ends of its segments
    _failures: dict[frozenset[str], tuple[int, object]] = field(default_factory=dict)

    def train(self, plan: Plan, todo: Remaining, stack: int, leases: Leases, notice: Notice) -> int:
        """See to it that what is to be done is done. Tokens of what is, until told to stop.

        Raises Failed where a task ends again and again and nothing comes of it.
        """
        self._open()
        assert self._engine is not None
        asked = {one.segment for one in todo.work}
        left, said = todo, ""
        tokens = _tokens(plan, todo)
        while not notice.given():
            alive = self._engine.alive(self._handed.keys())
            gone = self._handed.keys() - alive
            if gone or leases.news():
                leases.look()
                begun = time.monotonic()
                index = store_of(self.folder).load(set_aside=False)
                pause = (time.monotonic() - begun) / READING_SHARE
                left = needed(remaining(plan, index), asked)
                self._note_failures(plan, left, gone)
            else:
                pause = 0.0
            if not left.work:
                break
            waiting = self._hand_over(plan, left, stack, self._engine)
            done = len(asked) - len({one.segment for one in left.work})
            line = (
                f"{self._engine.name}: {done} of {len(asked)} segments done, "
                f"{len(self._handed)} tasks handed over, {waiting} to come"
            )
            if line != said:
                self.say(line)
            said = line
            _pause(max(self.seconds, pause), notice)
        return tokens - _tokens(plan, left)

    def average(self, count: int, notice: Notice) -> int:
        """Have `count` averages of states evaluated, if there are any. Raises Failed."""
        if count == 0:
            return 0
        self._open()
        assert self._engine is not None
        id = self._engine.submit([*WORKER, self._named(), "--averages"], [])
        while self._engine.alive([id]) and not notice.given():
            _pause(self.seconds, notice)
        tries, before = self._failures.get(frozenset(), (0, None))
        tries = tries + 1 if before in (None, count) else 1
        self._failures[frozenset()] = tries, count
        if tries > TRIES:
            why = _last_line(self._engine.log(id))
            raise Failed(f"averages are not evaluated, the last time: {why}")
        return count

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No more is to be trained, or the driver was told to stop."""
        if self._engine is not None:
            self._engine.close()

    def _open(self) -> None:
        if self._engine is None:
            private(self.folder)
            self._engine = self.open_engine()
            self._handed = self._known()

    def _hand_over(self, plan: Plan, left: Remaining, stack: int, engine: Engine) -> int:
        """Give the engine what it has room for and may have. Tasks that are left to be given."""
        number = {segment.end_id: k for k, segment in enumerate(plan.segments)}
        held = {
            frozenset(number[end] for end in ends if end in number): id
            for id, ends in self._handed.items()
        }
        tasks = make_tasks(plan, left, stack, self.workers, held)
        ids: list[str | None] = [self._holder(held, one) for one in tasks]
        for k, task in enumerate(tasks):
            if ids[k] is not None or len(self._handed) >= self.workers:
                continue
            after = [ids[n] for n in sorted(task.after)]
            if (not engine.queues and after) or None in after:
                continue  # of its parents some are not done, or not even handed over
            ends = [plan.segments[n].end_id for n in task.segments]
            command = [*WORKER, self._named(), "--segments", ",".join(ends)]
            command.append("--quiet")
            ids[k] = id = engine.submit(command, [one for one in after if one is not None])
            self._handed[id] = frozenset(ends)
            self._note(id, ends, engine)
        return ids.count(None)

    def _named(self) -> str:
        """The sweep's folder, as workers anywhere find it."""
        return url_of(self.folder) or str(self.folder.absolute())

    @staticmethod
    def _holder(held: dict[frozenset[int], str], task: Task) -> str | None:
        return next((id for known, id in held.items() if known & set(task.segments)), None)

    def _note_failures(self, plan: Plan, left: Remaining, gone: Collection[str]) -> None:
        """Forget tasks that ended; raise Failed if one ended so before and left the same undone."""
        assert self._engine is not None
        for id in gone:
            ends = self._handed.pop(id)
            undone = [
                (one.start, one.stop)
                for one in left.work
                if plan.segments[one.segment].end_id in ends
            ]
            count, before = self._failures.get(ends, (0, None))
            count = count + 1 if undone == before or before is None else 1
            self._failures[ends] = count, undone
            if not undone:
                continue
            why = _last_line(self._engine.log(id))
            if count >= TRIES:
                raise Failed(f"a task ended {count} times and got nowhere, the last time: {why}")
            self.say(f"a task ended with {len(undone)} pieces undone, handed over again: {why}")

    # What a driver that comes later must know -------------------------------------------------

    def _note(self, id: str, ends: Sequence[str], engine: Engine) -> None:
        line = json.dumps({"engine": engine.name, "id": id, "segments": list(ends)})
        with contextlib.suppress(OSError):  # a full disk: it may be handed over twice
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            handle = os.open(self.folder / PRIVATE / JOBS, flags, 0o600)
            try:
                os.write(handle, f"{line}\n".encode())
            finally:
                os.close(handle)

    def _known(self) -> dict[str, frozenset[str]]:
        """What was handed to this engine before and is there still."""
        assert self._engine is not None
        found: dict[str, frozenset[str]] = {}
        with contextlib.suppress(OSError):
            for line in (self.folder / PRIVATE / JOBS).read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError, LookupError, TypeError):  # cut off by a kill
                    tree = json.loads(line)
                    if tree["engine"] == self._engine.name:
                        found[str(tree["id"])] = frozenset(map(str, tree["segments"]))
        alive = self._engine.alive(found.keys())
        return {id: ends for id, ends in found.items() if id in alive}


def _tokens(plan: Plan, todo: Remaining) -> int:
    return sum(
        (one.stop - one.start) * plan.segments[one.segment].path.run.tokens_per_step
        for one in todo.work
    )


def _pause(seconds: float, notice: Notice) -> None:
    until = time.monotonic() + seconds
    while not notice.given() and (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, 0.2))


def _last_line(log: Path) -> str:
    """The last that a worker said; a log is shown, never believed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return f"no log in {log}"
    said = [line.strip() for line in lines if line.strip()]
    return "".join(one for one in said[-1] if one.isprintable())[:300] if said else f"see {log}"
