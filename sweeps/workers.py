"""Who trains a sweep, worker by worker: on what, how fast, and which of them is slow or silent.

A worker on another machine is known by its note alone, and by when it was replaced last: by the
clock of this machine against the file's, so that clocks which differ show here. Nothing is decided
by it. Who takes over whose piece is the leases' business, and they trust no clock.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sweeps.notes import SILENT_SECONDS, Found
from sweeps.plan import Plan
from sweeps.progress import clock, count
from sweeps.remaining import Remaining
from sweeps.tally import make_groups, shape_name

SLOW = 0.5  # of the median tokens/s of the workers on a shape
ENOUGH = 3  # workers on a shape, for one of them to be called slow


@dataclass(frozen=True)
class Worker:
    """A process that has segments that are not done. `state` is trains, slow or silent."""

    host: str
    pid: int
    state: str
    models: tuple[str, ...]
    segments: int
    tokens_per_second: float | None
    quiet_seconds: float | None

    def row(self) -> dict[str, Any]:
        """As `lab status --json` has it."""
        return asdict(self)

    def line(self) -> str:
        """As `lab status` prints it."""
        rate = "-" if self.tokens_per_second is None else count(self.tokens_per_second)
        quiet = "" if self.quiet_seconds is None else f", last sign {clock(self.quiet_seconds)} ago"
        what = f"{self.segments} segments of {', '.join(self.models)}"
        return f"worker {self.host}:{self.pid} {self.state}: {what}, {rate} tokens/s{quiet}"


def workers_of(plan: Plan, todo: Remaining, notes: Iterable[Found]) -> list[Worker]:
    """Every worker with a segment in a lane that is not done, by host and number.

    Those of this machine that are gone are left out: others have their pieces already.
    """
    undone = {plan.segments[one.segment].end_id: one.segment for one in todo.work}
    labels = {name: group.label for name, group in make_groups(plan, None).items()}
    shapes = {shape: shape_name(shape) for shape in plan.groups()}
    at_work: list[tuple[Found, list[str], list[int]]] = []
    rates: dict[str, list[float]] = defaultdict(list)
    for found in notes:
        lanes = [one.segment for one in found.note.reached if one.running]
        has = [undone[end] for end in lanes if end in undone]
        if found.alive is False or found.note.ended or not has:
            continue
        names = list(dict.fromkeys(shapes[plan.segments[k].shape] for k in has))
        at_work.append((found, names, has))
        rate = _rate(found, names)
        if rate is not None and found.trains:
            rates[names[0]].append(rate)
    workers = []
    for found, names, has in at_work:
        rate = _rate(found, names)
        others = rates[names[0]]
        state = "trains"
        if found.quiet_seconds is not None and found.quiet_seconds > SILENT_SECONDS:
            state = "silent"
        elif rate is not None and len(others) >= ENOUGH and rate < SLOW * statistics.median(others):
            state = "slow"
        models = tuple(labels[name] for name in names)
        who = found.owner
        workers.append(
            Worker(who.host, who.pid, state, models, len(has), rate, found.quiet_seconds)
        )
    return sorted(workers, key=lambda one: (one.host, one.pid))


def _rate(found: Found, shapes: list[str]) -> float | None:
    """Tokens/s on the shapes that a worker is at."""
    spent = [one for one in found.note.spent if one.shape in shapes and one.tokens]
    seconds = sum(one.seconds for one in spent)
    return sum(one.tokens for one in spent) / seconds if seconds > 0 else None
