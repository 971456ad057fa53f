"""A state of a sweep as a file of its own: arrays by readable names, and what they are.

What is written is all that a run needs to go on from there with the same bits: parameters, moments,
the rate, how far each corpus was read. Beside it stands where it came from: the spec of a
run that passes there, the step, the state's identity, the corpora by name, and on what it was
trained.
"""

import json
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from lab.arrays import array_shapes, held_shapes, summed, to_file, write_file
from lab.errors import Damaged, Failed, Gone, Refused
from lab.identity import NUMERICS, Path
from lab.mixture import Stream
from lab.origin import Moments, Origin, Read, Weighed
from lab.schedule import exact
from lab.spec import canonical
from lab.store import Index, Store
from sweeps.plan import Plan, Segment

SHORTEST = 4  # digits of an identity that are taken for it


@dataclass(frozen=True)
class Found:
    """A state on the way of a planned run, and where the store holds it."""

    path: Path
    step: int
    state: str
    place: FilePath


def find_state(plan: Plan, index: Index, name: str, step: int | None) -> Found:
    """The state that ends a run, trunk or segment, or that after `step` steps. Raises Refused.

    `name` is one of the columns run, trunk and segment of the results, or the beginning of it.
    """
    segment = _segment(plan, name)
    step = segment.stop if step is None else step
    if not 0 <= step <= segment.stop:
        raise Refused(f"--step {step}: {segment.end_id[:12]} has the steps 0..{segment.stop}")
    state = segment.path.state_id(step)
    if state not in index.states:
        raise Refused(f"no state of {segment.end_id[:12]} {_why_not(segment, step, index)}")
    return Found(segment.path, step, state, index.states[state])


def _segment(plan: Plan, name: str) -> Segment:
    """The segment whose end has that name."""
    if len(name) < SHORTEST:
        raise Refused(f"--run {name}: give at least {SHORTEST} of its digits")
    found = {one.end_id: one for one in plan.segments if one.end_id.startswith(name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise Refused(f"--run {name}: {len(found)} states begin so; give more digits")
    ends = dict.fromkeys(plan.segments[run.segments[-1]].end_id[:12] for run in plan.runs)
    shown = ", ".join(list(ends)[:4]) + (", ..." if len(ends) > 4 else "")
    raise Refused(
        f"--run {name}: no run, trunk or segment of this sweep; the column run of lab results has "
        f"{shown}"
    )


def _why_not(segment: Segment, step: int, index: Index) -> str:
    if step == 0:
        return "is stored at step 0: it is drawn from the seed, or adopted, when a run starts"
    if segment.path.state_id(step) in index.dropped:
        return f"is stored at step {step}: lab gc removed it"
    path = segment.path
    stored = [
        one
        for one in sorted(index.state_steps)
        if 0 < one <= segment.stop and path.state_id(one) in index.states
    ]
    have = ", ".join(map(str, stored)) or "none yet: lab run trains them"
    return f"is stored at step {step}; there are {have}"


def export_state(
    plan: Plan,
    index: Index,
    store: Store,
    found: Found,
    to: FilePath,
    moments: bool = True,
    overwrite: bool = False,
) -> Origin:
    """Write a state to a file, without its moments if told so. Raises Refused, Failed.

    The folder is only read: a state that is found damaged stays where it is.
    """
    run = found.path.run
    try:
        stored = store.restore(
            found.place, held_shapes(run.model, run.optimizer.name), set_aside=False
        )
    except (Damaged, Gone) as trouble:
        raise Failed(f"cannot export: {trouble}") from None
    kept: Moments = run.optimizer.name if moments else ""
    arrays = to_file(stored, run.model.layers)
    arrays = {name: arrays[name] for name in array_shapes(run.model, kept)}
    origin = origin_after(plan, found.path, found.step, kept, arrays)
    write_file(to, origin, _provenance(plan, index, found, origin), arrays, overwrite)
    return origin


def origin_after(
    plan: Plan, path: Path, step: int, moments: Moments, arrays: dict[str, np.ndarray]
) -> Origin:
    """What a run takes over that starts from the state after `step` > 0 steps of a path."""
    run = path.run
    stream = Stream(path, plan.by_digest)
    shares, windows = stream.stopped_in(step)
    before_lr = path.origin.lr if path.origin is not None else 0.0
    read = sorted((digest, count) for digest, count in stream.places(step).items() if count)
    return Origin(
        model=run.model,
        optimizer=moments,
        lr=float(exact(run, before_lr)[step - 1]),
        seed=run.seed,
        read=tuple(Read(digest, count) for digest, count in read),
        mixture=tuple(Weighed(digest, weight) for digest, weight in shares),
        windows=windows,
        arrays=summed(arrays),
    )


def _provenance(plan: Plan, index: Index, found: Found, origin: Origin) -> dict[str, Any]:
    """Where a state came from, for people; no part of its digest."""
    run = found.path.run
    attempt = found.place.parent.parent if found.place.suffix == ".npz" else found.place
    trained_on = next((one.provenance for one, at in index.step_logs if at == attempt), {})
    digests = {name: corpus.digest for name, corpus in plan.corpora.items()}
    read = {one.corpus for one in origin.read}
    return {
        "study": plan.sweep.study,
        "scale": plan.sweep.scale,
        "spec": json.loads(canonical(run)),
        "step": found.step,
        "tokens": found.step * run.tokens_per_step,
        "state": found.state,
        "numerics": NUMERICS,
        "corpora": {name: one for name, one in digests.items() if one in read},
        "trained_on": trained_on,
    }
