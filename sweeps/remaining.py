"""What of a plan is not in the store yet, and from which stored state each piece starts."""

from dataclasses import dataclass, field

from lab.store import Index
from sweeps.plan import Plan, Segment


@dataclass
class Work:
    """Train from `start` to `stop` (equal: only evaluate) and evaluate at the given steps.

    `after` is the piece of work whose end state this one starts from, if that is not stored yet.
    """

    segment: int
    start: int
    stop: int
    evaluate: list[int]
    after: int | None = None


@dataclass
class Remaining:
    """Pieces of work, parents first; and the segments that divergence settles.

    `diverged` maps a segment to the step whose loss was not finite, in it or before it.
    """

    work: list[Work] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    diverged: dict[int, int] = field(default_factory=dict)


def remaining(plan: Plan, index: Index) -> Remaining:
    """Compare a plan with what is committed."""
    out = Remaining()
    pending: dict[int, int] = {}  # segment -> its piece of work
    for k, segment in enumerate(plan.segments):
        if segment.parent in out.diverged:
            out.diverged[k] = out.diverged[segment.parent]
            continue
        bad = diverged_step(segment, index)
        sets = [one.set_id for one in plan.sets_for(segment.path.run)]
        limit = segment.stop if bad is None else bad
        missing = [
            step
            for step, state in segment.stop_ids.items()
            if step <= limit and any((state, one) not in index.evaluations for one in sets)
        ]
        if bad is not None:
            # Rows before the first bad step were committed with it: nothing else can be had.
            out.diverged[k] = bad
            continue
        if not missing and segment.end_id in index.states:
            out.done.append(k)
            continue
        work = _piece(k, segment, missing, index)
        if work.start == segment.start and segment.parent in pending:
            work.after = pending[segment.parent]
        pending[k] = len(out.work)
        out.work.append(work)
    return out


def diverged_step(segment: Segment, index: Index) -> int | None:
    """The first step of a segment whose loss is known not to be finite, if any."""
    for step in sorted(set(index.diverged.values())):
        # the bad state is the one after the step whose loss was not finite
        if (
            segment.start <= step < segment.stop
            and segment.path.state_id(step + 1) in index.diverged
        ):
            return step
    return None


def _piece(k: int, segment: Segment, missing: list[int], index: Index) -> Work:
    last = max(missing) if segment.end_id in index.states else segment.stop
    first = min(missing, default=last)
    # The latest stored state from which everything that is missing can still be reached.
    stored = [
        step
        for step in index.state_steps
        if segment.start < step <= first and segment.path.state_id(step) in index.states
    ]
    return Work(k, max(stored, default=segment.start), last, missing)
