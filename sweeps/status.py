"""How far a sweep is that a folder holds: what is committed, and what those who train now say.

Only reads, also while processes train: files of the store are whole once they are named, and a
note is replaced whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lab.store import Index
from sweeps.notes import SILENT_SECONDS, Found
from sweeps.plan import Plan
from sweeps.remaining import remaining
from sweeps.speed import Speed
from sweeps.tally import Group, expect, make_groups, shape_name, spent_before, tokens_before
from sweeps.workers import Worker, workers_of

SHOWN = 16  # workers that are printed; those that are slow or silent always are


@dataclass(frozen=True)
class Status:
    """`processes`: those that train now on this machine; `elsewhere`: those on others that left
    notes, of which those without a late sign are silent. `workers`: who has what. `failed`:
    committed stretches that are damaged; one that ends in the middle of a segment (it diverged, or
    was committed in parts) is in no group's number, since what it was cannot be told from its
    name."""

    groups: list[Group]
    failed: int
    processes: int
    elsewhere: int
    silent_elsewhere: int
    workers: list[Worker]
    peaks: list[str]  # what the shares of peak are shares of, or why there are none

    def total(self, name: str) -> int:
        """Of all groups: done, running, waiting, diverged, segments, tokens, ..."""
        return sum(getattr(one, name) for one in self.groups)

    def remarks(self) -> list[str]:
        """What belongs to no shape, a line each."""
        lines = [f"processes that train here now: {self.processes}"]
        lines += [f"share of peak: {one}" for one in self.peaks]
        if self.elsewhere:
            lines.append(
                f"processes on other machines: {self.elsewhere - self.silent_elsewhere} train; "
                f"{self.silent_elsewhere} gave no sign for {SILENT_SECONDS:g} s or longer"
            )
        return lines

    def worker_lines(self) -> list[str]:
        """Worker by worker; of many, those that are slow or silent first."""
        shown = self.workers if len(self.workers) <= SHOWN else self._troubled()
        lines = [one.line() for one in shown]
        if len(shown) < len(self.workers):
            lines.append(f"and {len(self.workers) - len(shown)} workers more (--json names all)")
        return lines

    def _troubled(self) -> list[Worker]:
        """Workers that are slow or silent, and as many others as there is room for."""
        order = {"silent": 0, "slow": 1, "trains": 2}
        wrong = sum(one.state != "trains" for one in self.workers)
        return sorted(self.workers, key=lambda one: order[one.state])[: max(SHOWN, wrong)]


def status_of(plan: Plan, index: Index, notes: Iterable[Found], speed: Speed | None) -> Status:
    """The state of a plan, shape by shape. `index`: loaded without setting anything aside."""
    notes = list(notes)
    alive = [one for one in notes if one.trains]
    groups = make_groups(plan, speed)
    spent_before(groups, notes)
    shapes = {k: shape_name(shape) for shape, ks in plan.groups().items() for k in ks}
    todo = remaining(plan, index)
    missing: dict[int, int] = {}  # segment -> steps that are not committed
    for work in todo.work:
        missing[work.segment] = missing.get(work.segment, 0) + work.stop - work.start
    reached: dict[str, int] = {}  # by who is foremost
    running = set()
    for one in (one for found in alive for one in found.note.reached):
        reached[one.segment] = max(one.step, reached.get(one.segment, 0))
        if one.running:
            running.add(one.segment)
    for k, segment in enumerate(plan.segments):
        group = groups[shapes[k]]
        if k in todo.diverged:
            group.diverged += 1
            group.tokens_done += tokens_before(segment, todo.diverged[k])
            continue
        done = segment.stop - segment.start - missing.get(k, 0)
        # who trains again what is there is not ahead of it
        done = max(done, reached.get(segment.end_id, 0) - segment.start)
        tokens = done * segment.path.run.tokens_per_step
        group.tokens_done += tokens
        group.tokens_left += segment.tokens - tokens
        group.failed += segment.end_id in index.damaged
        if k not in missing:
            group.done += 1
        else:
            group.running += segment.end_id in running
    by_end = {segment.end_id: shapes[k] for k, segment in enumerate(plan.segments)}
    for name, group in groups.items():
        here_now = [one for one in alive if name in _shapes_now(one, by_end)]
        group.tokens_per_second = _speed(here_now, name)
        group.peak = _peak(here_now)
    expect(groups.values())
    peaks = dict.fromkeys(one.note.peak.of for one in alive if one.note.peak is not None)
    return Status(
        list(groups.values()),
        len(index.broken),
        sum(one.alive is True for one in notes),
        sum(one.alive is None for one in notes),
        sum(one.alive is None and not one.trains for one in notes),
        workers_of(plan, todo, notes),
        list(peaks),
    )


def _shapes_now(found: Found, by_end: dict[str, str]) -> set[str]:
    """Shapes that a process trains now."""
    running = {one.segment for one in found.note.reached if one.running}
    return {by_end[one] for one in running & by_end.keys()}


def _speed(notes: list[Found], shape: str) -> float | None:
    """Tokens/s of all these processes on a shape."""
    spent = [one for found in notes for one in found.note.spent if one.shape == shape]
    rates = [one.tokens / one.seconds for one in spent if one.tokens and one.seconds > 0]
    return sum(rates) if rates else None


def _peak(notes: list[Found]) -> float | None:
    """FLOP/s of all their devices; None where one's are not known."""
    peaks: dict[str, float | None] = {}
    for found in notes:
        if found.note.peak is not None:
            # a machine's cores count once, however many processes train on them
            own = "" if found.note.peak.shared else found.owner.pid
            peaks[f"{found.owner.host} {own}"] = found.note.peak.flops_per_second
    known = [one for one in peaks.values() if one is not None]
    return sum(known) if known and len(known) == len(peaks) else None
