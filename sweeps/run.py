"""Asks for a sweep, trains what is missing, and hands back its table."""

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.corpora import Corpus, open_corpus
from lab.errors import Damaged, Failed, Gone, Refused
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.memory import train_bytes
from lab.spec import read
from lab.store import Index
from sweeps.averaging import evaluate_averages, left_to_average
from sweeps.bucket_leases import leases_of
from sweeps.decided import decided_of
from sweeps.folder import Folder
from sweeps.grid import plain
from sweeps.leases import Leases, forget
from sweeps.notice import Notice, notices
from sweeps.plan import Plan, corpora_of, make_plan
from sweeps.progress import Display
from sweeps.remaining import Remaining, Work, needed, remaining
from sweeps.results import table
from sweeps.speed import Peak, cores, measured, peak_of
from sweeps.sweep import Sweep
from sweeps.trackers import tracked
from sweeps.watchdog import Watchdog

if TYPE_CHECKING:
    from sweeps.engines.fleet import Fleet

REBUILDS = 8  # damaged states found one after another before we stop believing the disk
POLL_SECONDS = 0.2  # between two looks at what other processes do
READING_SHARE = 0.2  # of the time of waiting that reading the store again may take
MOST_WAITED_SECONDS = 30.0  # on that account


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
    fleet: "Fleet | None" = None,
) -> Outcome:
    """Train what of `sweep` is missing in `out`; safe to repeat, to kill. Raises Refused, Failed.

    Others may train the same sweep into `out` meanwhile: each piece of work is done by one of them,
    and all get the whole table. SIGTERM and Ctrl-C save what is trained and raise Preempted,
    KeyboardInterrupt. `stack` and `layout` are fixed when the folder is made, and kept where nobody
    says otherwise; `say` hears of what was found broken. `limit` says what of the missing work is
    to be done (`sweeps.budget`); what others do of that counts as done here. `track`: where else it
    is shown (`sweeps.trackers`). `fleet`: who trains in place of this process (`sweeps.engines`).
    """
    if stack is not None and stack < 1:
        raise Refused(f"stack = {stack}: must be at least 1 lane")
    from lab import hosts

    if sweep.evaluate.averages and hosts.several():
        raise Refused("averages of states are for one host: leave out --coordinator")
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
    if layout.mesh and fleet is None:
        layout.runs_at_once(stack, count_devices(stack, layout))  # refuses what does not fit
    job = _Job(plan, folder, stack, layout, quiet, say, track, fleet)
    if not hosts.first():
        return Outcome(plan, Index(), table(plan, Index()), job.follow(), stack)
    told = sweep, settings, digests, stack, layout
    with folder.locked() if hosts.several() else folder.entered() as here:
        if here.alone:
            folder.write(*told)
            if folder.store.sweep_attempts():
                say("left over from a run that was stopped: removed, nothing of it is lost")
            forget(folder.path)
            if not hosts.several():
                here.share()
        folder.refuse_unlike(*told)
        # Of several hosts one that is asked to stop just ends: the others end with it.
        with leases_of(folder.path, plan) as leases, notices(not hosts.several()) as notice:
            index = job.complete(leases, notice, limit)
    return Outcome(plan, index, table(plan, index), job.trained, stack)


def join_sweep(
    out: Path,
    segments: Collection[str] | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Train along into a folder, as its sweep stands there; returns the tokens trained here.

    `segments`: only these (by their end states), and what they start from if nobody has trained it;
    what another process has is waited for. With none at all, averages of states are evaluated.
    Raises as `run_sweep`, and Refused for a stranger.
    """
    folder = Folder(out)
    held = folder.held()
    if held is None:
        raise Refused(f"{folder.name} holds no sweep")
    corpora = open_corpora(held.sweep, verify=True)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    folder.refuse_another(held.sweep, digests)
    plan = make_plan(held.sweep, corpora)
    asked = None if segments is None else _numbers(plan, segments)
    job = _Job(plan, folder, held.stack, held.layout, quiet, say, asked=asked)
    with folder.entered() as here:
        if here.alone:
            here.share()
        folder.refuse_unlike(held.sweep, held.settings, digests, held.stack, held.layout)
        with leases_of(folder.path, plan) as leases, notices() as notice:
            job.complete(leases, notice, lambda plan, todo: todo)
    return job.trained


def _numbers(plan: Plan, ends: Collection[str]) -> set[int]:
    numbers = {segment.end_id: k for k, segment in enumerate(plan.segments)}
    if strangers := [one for one in ends if one not in numbers]:
        raise Refused(f"the sweep has no segment {strangers[0][:40]!r}")
    return {numbers[one] for one in ends}


@dataclass
class _Job:
    """Training a plan into a folder. `trained` counts the tokens of pieces that were begun here."""

    plan: Plan
    folder: Folder
    stack: int
    layout: Layout
    quiet: bool
    say: Callable[[str], None]
    track: Sequence[str] = ()
    fleet: "Fleet | None" = None
    asked: set[int] | None = None  # segments, if not all
    trained: int = 0

    def complete(
        self, leases: Leases, notice: Notice, limit: Callable[[Plan, Remaining], Remaining]
    ) -> Index:
        """Train what nobody else does, and wait for the rest. What the folder holds then.

        Raises Failed; Preempted and KeyboardInterrupt as `notice` says, with all saved.
        """
        from lab import hosts

        unsound, verify, waited = 0, True, False
        if (decided := decided_of(self.folder.path)) is not None:
            decided.bring_up()  # before anything that follows from it is trained
        while True:
            leases.look()
            begun = time.monotonic()
            # who trains a few segments of many checks the states that it starts from, no others
            index = self.folder.store.load(verify_states=verify and self.asked is None)
            reading_seconds = time.monotonic() - begun
            for line in index.broken:
                self.say(f"damaged, set aside and trained again from its parent: {line}")
            for line in index.spoilt:
                self.say(f"damaged state on the way, removed, made again if it is needed: {line}")
            notice.obey()
            todo = remaining(self.plan, index)
            if self.asked is not None:
                todo = needed(todo, self.asked)
            verify = leases.any_free(todo.work) or not todo.work
            if not verify:
                if not waited:
                    self.say("what is left is being trained by other processes: waiting for them")
                waited = True
                _wait(leases, notice, min(reading_seconds / READING_SHARE, MOST_WAITED_SECONDS))
                continue
            todo = limit(self.plan, todo)
            hosts.agree([dataclasses.asdict(work) for work in todo.work])
            unsound += bool(index.broken and todo.work)
            try:
                if todo.work and self.fleet is not None:
                    self.trained += self.fleet.train(self.plan, todo, self.stack, leases, notice)
                elif todo.work:
                    self.train(index, todo, leases, notice)
                elif self.asked or not self.average(index, notice):
                    return index
            except Gone:
                if hosts.several():
                    raise  # the others wait in the middle of it: start over together
            except Damaged as damage:
                if hosts.several():
                    raise
                self.say(f"{damage}; set aside and trained again from its parent")
                unsound += 1
            notice.obey()
            if unsound >= REBUILDS:
                raise Failed(f"states in {self.folder.name} keep being damaged: check that disk")

    def average(self, index: Index, notice: Notice) -> int:
        """Evaluate what is to be averaged and is there; how many averages that were."""
        left = left_to_average(self.plan, index)
        if self.fleet is not None:
            held = [one for one in left if all(state in index.states for state in one.members)]
            return self.fleet.average(len(held), notice)
        return evaluate_averages(self.plan, self.folder.store, index, left, self.stack, self.layout)

    def follow(self) -> int:
        """What a host does that is not the first: train along, and leave the folder alone."""
        from lab import hosts

        while work := [Work(**one) for one in hosts.agree(None)]:
            self.train(Index(), Remaining(work), None, Notice())
        return self.trained

    def train(self, index: Index, todo: Remaining, leases: Leases | None, notice: Notice) -> None:
        """Train of what is to be done what can be had."""
        from lab import hosts
        from sweeps.engines.local import LocalEngine  # jax: only whoever trains pays for it
        from sweeps.engines.pieces import NobodyElse

        first = hosts.first()
        speed = measured(self.folder.path, self.stack, cores())
        display = Display(
            self.plan,
            todo,
            self.folder.path if first else None,
            self.quiet or not first,
            speed,
            _peak,
        )
        track = self.track if first else ()
        with (
            display,
            tracked(display, track, self.plan, self.folder.path, self.say) as watcher,
            Watchdog() as watchdog,
        ):

            def pulse() -> None:
                watchdog.beat()
                if leases is not None:
                    leases.beat()

            engine = LocalEngine(
                self.plan,
                self.folder.store,
                self.stack,
                watcher,
                self.layout,
                claims=leases or NobodyElse(),
                pulse=pulse,
                told_to_stop=notice.given,
            )
            try:
                self.trained += engine.train(todo.work, dict(index.states))
            finally:
                if leases is not None:
                    leases.drop()


def _wait(leases: Leases, notice: Notice, seconds: float) -> None:
    """Wait until other processes have finished something or are no more; `seconds` at least."""
    begun = time.monotonic()
    while not notice.given():
        time.sleep(POLL_SECONDS)
        if time.monotonic() - begun >= seconds and leases.news():
            return


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
