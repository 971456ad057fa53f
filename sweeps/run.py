"""Asks for a sweep, trains what is missing, and hands back its table."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.corpora import Corpus, open_corpus
from lab.errors import Damaged, Failed, Refused
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.memory import train_bytes
from lab.spec import read
from lab.store import Index
from sweeps.folder import Folder
from sweeps.grid import plain
from sweeps.plan import Plan, corpora_of, make_plan
from sweeps.progress import Display
from sweeps.remaining import Remaining, Work, remaining
from sweeps.results import table
from sweeps.speed import Peak, cores, measured, peak_of
from sweeps.sweep import Sweep
from sweeps.trackers import tracked

REBUILDS = 8  # damaged states found one after another before we stop believing the disk


@dataclass(frozen=True)
class Outcome:
    """What a run of a sweep left behind."""

    plan: Plan
    index: Index
    results: pd.DataFrame
    trained_tokens: int
    stack: int


def open_corpora(sweep: Sweep, verify: bool = False) -> dict[str, Corpus]:
    """Every corpus of a sweep, by name. Raises Refused."""
    return {name: open_corpus(name, verify) for name in corpora_of(sweep)}


def run_sweep(
    sweep: Sweep,
    out: Path,
    settings: Any = None,
    stack: int | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
    layout: Layout | None = None,
    limit: Callable[[Plan, Remaining], Remaining] = lambda plan, todo: todo,
    track: Sequence[str] = (),
) -> Outcome:
    """Train what of `sweep` is missing in `out`; safe to repeat, to kill. Raises Refused, Failed.

    `stack` and `layout` are fixed when the folder is made, and kept where nobody says otherwise;
    `say` hears of what was found broken. `limit` says what of the missing work is to be done
    (`sweeps.budget`), `track` where else it is shown (`sweeps.trackers`).
    """
    if stack is not None and stack < 1:
        raise Refused(f"stack = {stack}: must be at least 1 lane")
    from lab import hosts

    folder = Folder(out)
    held = folder.held() if hosts.first() else None
    corpora = open_corpora(sweep, verify=True)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    if hosts.first():
        folder.refuse_another(sweep, digests)
    plan = make_plan(sweep, corpora)
    plan.refuse_repeats()
    for one in plan.evaluation_sets.values():
        one.tokens()  # too few validation windows are refused before anything is written
    if layout is None:
        layout = held.layout if held is not None else A_RUN_A_DEVICE
    if stack is None and held is not None:
        stack = held.stack
    told = hosts.agree([sweep.to_json(), digests, stack, plain(layout)])
    if told[:2] != [sweep.to_json(), digests]:
        raise Refused("this host was told another sweep, or has other texts, than the first host")
    stack, layout = told[2], read(Layout, told[3], "layout")
    for shape in plan.groups():
        layout.refuse_shape(shape, sweep.evaluate.windows)
    if stack is None:
        stack = hosts.agree(fitting_stack(plan, layout))
    if layout.mesh:
        layout.runs_at_once(stack, count_devices(stack, layout))  # refuses what does not fit
    if not hosts.first():
        trained = _follow(plan, folder, stack, layout)
        return Outcome(plan, Index(), table(plan, Index()), trained, stack)
    trained = 0
    with folder.locked():
        folder.write(sweep, settings, digests, stack, layout)
        if folder.store.sweep_attempts():
            say("left over from a run that was stopped: removed, nothing of it is lost")
        for _ in range(REBUILDS):
            index = folder.store.load(verify_states=True)
            for line in index.broken:
                say(f"damaged, set aside and trained again from its parent: {line}")
            for line in index.spoilt:
                say(f"damaged state on the way, removed, made again if it is needed: {line}")
            todo = limit(plan, remaining(plan, index))
            hosts.agree([dataclasses.asdict(work) for work in todo.work])
            if not todo.work:
                break
            try:
                trained += _train(plan, folder, index, todo, stack, layout, quiet, track, say)
            except Damaged as damage:
                if hosts.several():
                    raise  # the others wait in the middle of it: start over together
                say(f"{damage}; set aside and trained again from its parent")
        else:
            raise Failed(f"states in {out} keep being damaged: check that disk")
    return Outcome(plan, index, table(plan, index), trained, stack)


def _follow(plan: Plan, folder: Folder, stack: int, layout: Layout) -> int:
    """What a host does that is not the first: train along, and leave the folder alone."""
    from lab import hosts

    trained = 0
    while work := [Work(**one) for one in hosts.agree(None)]:
        todo = Remaining(work)
        trained += _train(plan, folder, Index(), todo, stack, layout, quiet=True)
    return trained


def _train(
    plan: Plan,
    folder: Folder,
    index: Index,
    todo: Remaining,
    stack: int,
    layout: Layout,
    quiet: bool,
    track: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> int:
    from lab import hosts
    from sweeps.engines.local import LocalEngine  # jax: only whoever trains pays for it

    place = folder.path if hosts.first() else None
    speed = measured(folder.path, stack, cores())
    with (
        Display(plan, todo, place, quiet, speed, _peak) as display,
        tracked(display, track, plan, folder.path, say) as watcher,
    ):
        LocalEngine(plan, folder.store, stack, watcher, layout).train(todo.work, dict(index.states))
    return sum(
        (piece.stop - piece.start) * plan.segments[piece.segment].path.run.tokens_per_step
        for piece in todo.work
    )


def _peak() -> Peak:
    """What the devices that train could do at most; they must be up."""
    import jax

    device = jax.devices()[0]
    return peak_of(device.platform, device.device_kind, jax.device_count(), cores())


def fitting_stack(plan: Plan, layout: Layout) -> int:
    """Lanes of a stack for this plan on these devices, when nobody says. Raises Refused."""
    from lab.mesh import fitting_lanes

    shapes = plan.groups()
    fitting = fitting_lanes(max(train_bytes(shape, layout) for shape in shapes), layout)
    useful = max(len(members) for members in shapes.values())
    runs = layout.run or 1
    return min(fitting, -(-useful // runs) * runs)


def default_stack(layout: Layout = A_RUN_A_DEVICE) -> int:
    """Lanes of a stack on this machine's cores; touches no device."""
    from lab.mesh import default_lanes

    return default_lanes(layout)


def count_devices(stack: int, layout: Layout) -> int:
    """Devices that there are for a stack laid out so; touches them."""
    from lab import mesh

    mesh.start(stack, layout)
    return mesh.device_count()


def meet(coordinator: str | None, count: int | None, number: int | None) -> None:
    """Train with other hosts from here on. Raises Refused, Failed."""
    from lab import hosts, mesh

    mesh.start(mesh.default_lanes())
    hosts.join(coordinator, count, number)


def part() -> bool:
    """Wait for the other hosts, then go on alone. Returns whether this host has the results."""
    from lab import hosts

    has_results = hosts.first()
    hosts.leave()
    return has_results
