"""What of a plan is not in the store yet, and from which stored state each piece starts."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from lab.store import Index
from sweeps.averaging import left_to_average
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
    """Compare a plan with what is committed.

    A segment is done when its evaluations are there and its end was committed. Where the end's
    arrays were collected since, they are made again only for a branch that starts from them, or an
    average.
    """
    out = Remaining()
    averaged = {state for one in left_to_average(plan, index) for state in one.members}
    lost = averaged - index.states.keys()
    missing: dict[int, list[int]] = {}
    for k, segment in enumerate(plan.segments):
        if segment.parent in out.diverged:
            out.diverged[k] = out.diverged[segment.parent]
            continue
        bad = diverged_step(segment, index)
        if bad is not None:
            out.diverged[k] = bad
        missing[k] = _missing(plan, segment, segment.stop if bad is None else bad, index, lost)

    pieces: dict[int, list[Work]] = {}
    starts: set[int] = set()  # segments that others start from, with no arrays there
    for k in reversed(missing):
        segment = plan.segments[k]
        needed = set(missing[k])
        collected = segment.end_id in index.dropped and k not in starts
        if not (k in out.diverged or segment.end_id in index.states or collected):
            needed.add(segment.stop)
        pieces[k] = _pieces(k, segment, needed, missing[k], index)
        begins = any(one.start == segment.start for one in pieces[k])
        if segment.parent is not None and begins and segment.start_id not in index.states:
            starts.add(segment.parent)

    ends: dict[int, int] = {}  # segment -> the piece that makes its end
    for k in missing:
        segment = plan.segments[k]
        if not pieces[k] and k not in out.diverged:
            out.done.append(k)
        for work in pieces[k]:
            if work.start == segment.start and segment.parent in starts:
                work.after = ends[segment.parent]
            if work.start < work.stop == segment.stop:
                ends[k] = len(out.work)
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


def _missing(plan: Plan, segment: Segment, limit: int, index: Index, lost: set[str]) -> list[int]:
    """Stops up to `limit` with an evaluation that is not there, or a state that was `lost`.

    A state is kept where it is evaluated: what was lost is evaluated once more.
    """
    sets = [one.set_id for one in plan.sets_for(segment.path.run)]
    return [
        step
        for step, state in segment.stop_ids.items()
        if step <= limit
        and (state in lost or any((state, one) not in index.evaluations for one in sets))
    ]


def _pieces(
    k: int, segment: Segment, needed: Iterable[int], missing: list[int], index: Index
) -> list[Work]:
    """The least work that passes all `needed` steps, each from the latest state before it."""
    stored = {
        step
        for step in index.state_steps
        if segment.start < step <= segment.stop and segment.path.state_id(step) in index.states
    }
    pieces: list[Work] = []
    for step in sorted(needed):
        start = max((one for one in stored if one <= step), default=segment.start)
        evaluate = [step] if step in missing else []
        if pieces and pieces[-1].stop >= start:  # the last piece passes there
            pieces[-1].stop = step
            pieces[-1].evaluate += evaluate
        else:
            pieces.append(Work(k, start, step, evaluate))
    return pieces


def needed(todo: Remaining, segments: Collection[int]) -> Remaining:
    """Of what is missing, the pieces of some segments and all that they come after."""
    taken: set[int] = set()
    for n, work in enumerate(todo.work):
        number = n if work.segment in segments else None
        while number is not None and number not in taken:
            taken.add(number)
            number = todo.work[number].after
    return replace(todo, work=only(todo.work, taken))


def only(work: list[Work], taken: set[int]) -> list[Work]:
    """The pieces with the given numbers, and who comes after whom among them."""
    number: dict[int | None, int | None] = {None: None}
    number |= {old: new for new, old in enumerate(sorted(taken))}
    return [replace(work[k], after=number[work[k].after]) for k in sorted(taken)]
