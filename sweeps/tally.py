"""What is known of a sweep in training, shape by shape: counted here, shown elsewhere.

Tokens and FLOPs are those of training; evaluation is not counted. `spent` includes what had to be
trained again, so that it can exceed what was planned; `done` does not.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lab import flops
from lab.spec import Shape, canonical
from lab.store import EvaluationRow, StepRow
from sweeps.notes import Found, Note, Reached, Spent
from sweeps.plan import Plan, Segment
from sweeps.remaining import Remaining, Work
from sweeps.speed import Peak, Speed

LEFT_LANES = 64  # segments that a note still names after they left their lanes


def shape_name(shape: Shape) -> str:
    """A short name that differs between shapes and is the same in every process."""
    return sha256(canonical(shape).encode()).hexdigest()[:12]


@dataclass
class Group:
    """The segments of one shape.

    Each is done, running, waiting or diverged (so are those that branch off a diverged one);
    `failed` are those among them that were found damaged on disk. `tokens_left` are those that can
    still be trained. `tokens_per_second` is that of who trains now, since it began with the shape:
    compiling, evaluating and writing included. `flops_before`: FLOP/s measured before, if any.
    """

    shape: Shape
    label: str
    segments: int
    tokens: int
    flops_before: float | None = None
    done: int = 0
    running: int = 0
    failed: int = 0
    diverged: int = 0
    tokens_done: int = 0
    tokens_left: int = 0
    tokens_spent: int = 0
    seconds_spent: float = 0.0
    tokens_per_second: float | None = None
    peak: float | None = None  # FLOP/s of the devices that train now
    seconds_left: float | None = None  # None where no speed is known

    @property
    def waiting(self) -> int:
        return self.segments - self.done - self.running - self.diverged

    @property
    def flops_per_token(self) -> int:
        return flops.train_flops_per_token(self.shape.model)

    @property
    def fraction_of_peak(self) -> float | None:
        if self.tokens_per_second is None or not self.peak:
            return None
        return self.tokens_per_second * self.flops_per_token / self.peak

    @property
    def seconds_planned(self) -> float | None:
        """Of the whole group, at the speed measured before it began."""
        if self.flops_before is None:
            return None
        return self.tokens * self.flops_per_token / self.flops_before

    def row(self) -> dict[str, Any]:
        """As `lab status --json` has it."""
        return {
            "width": self.shape.model.width,
            "layers": self.shape.model.layers,
            "parameters": flops.parameters(self.shape.model).total,
            "batch": self.shape.batch,
            "precision": self.shape.precision,
            "optimizer": self.shape.optimizer,
            "segments": self.segments,
            "done": self.done,
            "running": self.running,
            "waiting": self.waiting,
            "failed": self.failed,
            "diverged": self.diverged,
            "tokens": self.tokens,
            "tokens_done": self.tokens_done,
            "tokens_per_second": self.tokens_per_second,
            "fraction_of_peak": self.fraction_of_peak,
            "seconds_left": self.seconds_left,
            "flops": self.tokens * self.flops_per_token,
            "flops_done": self.tokens_done * self.flops_per_token,
            "flops_spent": self.tokens_spent * self.flops_per_token,
            "hours_planned": _hours(self.seconds_planned),
            "hours_spent": _hours(self.seconds_spent),
        }


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def make_groups(plan: Plan, speed: Speed | None) -> dict[str, Group]:
    """Every shape of a plan by `shape_name`, smallest model first, with nothing done yet."""
    shapes = plan.groups()
    labels = _labels(list(shapes))
    return {
        shape_name(shape): Group(
            shape,
            label,
            len(members),
            sum(plan.segments[k].tokens for k in members),
            speed.flops_per_second(shape.model) if speed else None,
        )
        for (shape, members), label in zip(shapes.items(), labels, strict=True)
    }


def _labels(shapes: list[Shape]) -> list[str]:
    """Width x layers, and whatever else tells the shapes apart."""
    more: list[tuple[str, Callable[[Shape], Any]]] = [
        ("batch ", lambda one: one.batch),
        ("context ", lambda one: one.model.context),
        ("heads ", lambda one: one.model.heads),
        ("mlp ", lambda one: one.model.mlp_width),
        ("", lambda one: one.precision),
        ("", lambda one: one.optimizer),
    ]
    said = {shape: f"{shape.model.width}x{shape.model.layers}" for shape in shapes}
    for word, value in more:
        for label in [one for one, count in Counter(said.values()).items() if count > 1]:
            alike = [shape for shape in shapes if said[shape] == label]
            if len({value(shape) for shape in alike}) > 1:
                said |= {shape: f"{label} {word}{value(shape)}" for shape in alike}
    return [said[shape] for shape in shapes]


def expect(groups: Iterable[Group]) -> None:
    """Reckon the time left of every group, by FLOPs: at its own speed so far; else at the speed
    measured before; else at that of the group under way that is nearest in cost."""
    groups = list(groups)
    seen = {
        one.flops_per_token: one.tokens_per_second * one.flops_per_token
        for one in groups
        if one.tokens_per_second
    }
    for one in groups:
        rate = one.flops_before
        if one.tokens_per_second:
            rate = one.tokens_per_second * one.flops_per_token
        elif rate is None and seen:
            rate = Speed("the groups under way", seen).flops_per_second(one.shape.model)
        left = one.tokens_left * one.flops_per_token
        one.seconds_left = 0.0 if left == 0 else left / rate if rate else None


def total_left(groups: Iterable[Group]) -> float | None:
    """Seconds left of all groups, one after another; None where one's are not known."""
    left = [one.seconds_left for one in groups]
    return None if any(one is None for one in left) else sum(one or 0.0 for one in left)


def spent_before(groups: dict[str, Group], notes: Iterable[Found]) -> None:
    """Add what the processes that left notes have spent."""
    for found in notes:
        for one in found.note.spent:
            if one.shape in groups:
                groups[one.shape].tokens_spent += one.tokens
                groups[one.shape].seconds_spent += one.seconds


def tokens_before(segment: Segment, diverged_step: int) -> int:
    """Tokens of a segment up to a step whose loss was not finite, in it or before it."""
    steps = min(segment.stop, diverged_step + 1) - segment.start
    return max(0, steps) * segment.path.run.tokens_per_step


class Tally:
    """Counts what one process does. Implements the engine's Watcher.

    `todo`: what it is to do, of what is missing; what a budget cuts is in no group. `notes`: what
    other processes have spent on the same folder.
    """

    def __init__(
        self,
        plan: Plan,
        todo: Remaining,
        speed: Speed | None = None,
        notes: Iterable[Found] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan, self.work, self.clock = plan, todo.work, clock
        self.by_name = make_groups(plan, speed)
        self.groups = list(self.by_name.values())
        by_shape = {group.shape: group for group in self.groups}
        self.of_segment = [by_shape[segment.shape] for segment in plan.segments]
        self.pieces = Counter(work.segment for work in self.work)  # of a segment, not finished yet
        self.running: Counter[int] = Counter()
        self.reached: dict[int, int] = {}
        self.left_lanes: deque[int] = deque(maxlen=LEFT_LANES)
        self.losses: dict[str, float] = {}  # of each corpus, the last
        self.peak: Peak | None = None
        self.tokens_trained = 0
        self.own: dict[str, Spent] = {}
        self._begun: dict[str, float] = {}  # when each group began
        self.names = {group.shape: name for name, group in self.by_name.items()}
        self.left: Counter[int] = Counter()  # tokens of each segment that are still to be trained
        for work in self.work:
            tokens = plan.segments[work.segment].path.run.tokens_per_step
            self.left[work.segment] += (work.stop - work.start) * tokens
        self.settled = set(todo.diverged)  # segments that divergence settles
        for group in self.groups:
            group.segments = group.tokens = 0
        for k in {*todo.done, *todo.diverged, *self.pieces}:
            group, segment = self.of_segment[k], plan.segments[k]
            group.segments += 1
            group.tokens += segment.tokens
            if k in todo.diverged:
                group.diverged += 1
                group.tokens_done += tokens_before(segment, todo.diverged[k])
            else:
                group.done += k not in self.pieces
                group.tokens_done += segment.tokens - self.left[k]
                group.tokens_left += self.left[k]
        spent_before(self.by_name, notes)
        self.groups = [group for group in self.groups if group.segments]

    # The engine's Watcher ---------------------------------------------------------------------

    def started(self, work: Work) -> None:
        """A piece got a lane."""
        group = self.of_segment[work.segment]
        self._begun.setdefault(self.names[group.shape], self.clock())
        self.running[work.segment] += 1
        if self.running[work.segment] == 1 and work.segment not in self.settled:
            group.running += 1
        self.reached[work.segment] = work.start

    def logged(self, work: Work, rows: list[StepRow]) -> None:
        """Steps were trained."""
        if not rows:
            return
        segment = self.plan.segments[work.segment]
        group = self.of_segment[work.segment]
        tokens = len(rows) * segment.path.run.tokens_per_step
        self.left[work.segment] -= tokens
        if work.segment not in self.settled:
            group.tokens_done += tokens
            group.tokens_left -= tokens
        group.tokens_spent += tokens
        self.tokens_trained += tokens
        self.reached[work.segment] = rows[-1].step + 1
        self._time(group, tokens)

    def evaluated(self, work: Work, corpus: str, row: EvaluationRow) -> None:
        """A state was evaluated on one corpus."""
        self.losses[corpus] = row.loss_nats

    def finished(self, work: Work, diverged_step: int | None) -> None:
        """A piece left its lane, its commit on the way."""
        k, group = work.segment, self.of_segment[work.segment]
        self.running[k] -= 1
        self.pieces[k] -= 1
        self.left_lanes.append(k)
        if k not in self.settled:
            if self.running[k] == 0:
                group.running -= 1
            if self.pieces[k] == 0 and diverged_step is None:
                group.done += 1
        if diverged_step is not None:
            self._settle(work)
        self._time(group, 0)

    def _settle(self, work: Work) -> None:
        """A diverged piece settles its segment, and all that would start from it."""
        gone = [number for number, one in enumerate(self.work) if one is work]
        for number, one in enumerate(self.work):  # parents stand before their children
            if one.after in gone:
                gone.append(number)
        for k in {self.work[number].segment for number in gone} - self.settled:
            self.settled.add(k)
            self.of_segment[k].diverged += 1
            self.of_segment[k].tokens_left -= self.left[k]

    def _time(self, group: Group, tokens: int) -> None:
        """Bring the seconds and the speed of a group up to now."""
        name = self.names[group.shape]
        before = self.own.get(name, Spent(name, 0, 0.0))
        seconds = self.clock() - self._begun[name]
        self.own[name] = now = Spent(name, before.tokens + tokens, seconds)
        group.seconds_spent += seconds - before.seconds
        if now.tokens and seconds > 0:
            group.tokens_per_second = now.tokens / seconds
        group.peak = self.peak.flops_per_second if self.peak else None

    def note(self, ended: bool = False) -> Note:
        """What `lab status` is to know of this process."""
        if ended:  # every commit is made, or will never be
            return Note(True, self.peak, tuple(self.own.values()), ())
        running = [k for k, count in self.running.items() if count > 0]
        left = [k for k in dict.fromkeys(self.left_lanes) if k not in running]
        return Note(
            False,
            self.peak,
            tuple(self.own.values()),
            tuple(
                Reached(self.plan.segments[k].end_id, self.reached[k], k in running)
                for k in [*running, *left]
            ),
        )
