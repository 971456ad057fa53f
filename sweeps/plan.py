"""The prefix tree: runs -> segments, each trained once, with what it costs.

Two runs share a state when they share its identity, so the tree is found by asking for identities
where any of the runs has a boundary (a stage or phase that ends), and cutting where they part and
where a phase of one of them ends: a branch that is asked for later finds its trunk stored.
"""

import bisect
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from typing import Any

from lab import flops
from lab.adopt import open_adopted
from lab.corpora import Corpus, refuse_unlike
from lab.errors import Refused
from lab.evaluation_set import EvaluationSet
from lab.identity import Path, scores_of
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.memory import state_bytes, train_bytes
from lab.mixture import Stream
from lab.origin import Origin
from lab.scores import score_digest
from lab.spec import RunSpec, Shape
from sweeps.sweep import Sweep

MAX_EPOCHS = 4  # data repeated more often is worth clearly less: Muennighoff et al., 2305.16264


@dataclass
class Segment:
    """Steps start..stop of every run in `runs`; `stops` are the steps whose state is evaluated."""

    path: Path
    start: int
    stop: int
    parent: int | None
    runs: list[int]
    stops: list[int] = field(default_factory=list)

    @cached_property
    def start_id(self) -> str:
        return self.path.state_id(self.start)

    @cached_property
    def end_id(self) -> str:
        return self.path.state_id(self.stop)

    @cached_property
    def stop_ids(self) -> dict[int, str]:
        """Identity of the state at each stop."""
        return {step: self.path.state_id(step) for step in self.stops}

    @property
    def shape(self) -> Shape:
        """Segments of one shape share compiled programs."""
        return self.path.run.shape

    @property
    def tokens(self) -> int:
        return (self.stop - self.start) * self.path.run.tokens_per_step

    @property
    def flops(self) -> int:
        return flops.train_flops(self.path.run, self.stop - self.start)


@dataclass(frozen=True)
class PlannedRun:
    """A point of a grid. `values` are the swept ones; `segments` lead from the start to its end."""

    arm: str
    values: dict[str, Any]
    path: Path
    segments: list[int]


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep needs, before anything ran."""

    sweep: Sweep
    corpora: Mapping[str, Corpus]  # by name
    runs: list[PlannedRun]
    segments: list[Segment]

    @cached_property
    def evaluation_sets(self) -> dict[tuple[str, int], EvaluationSet]:
        """By corpus name and context."""
        contexts = {segment.path.run.model.context for segment in self.segments}
        return {
            (name, context): EvaluationSet(self.corpora[name], self.sweep.evaluate.windows, context)
            for name in self.sweep.evaluate.corpora
            for context in sorted(contexts)
        }

    def sets_for(self, run: RunSpec) -> list[EvaluationSet]:
        """Evaluation sets of a run, in the order of the sweep's corpora."""
        names = self.sweep.evaluate.corpora
        return [self.evaluation_sets[name, run.model.context] for name in names]

    @property
    def by_digest(self) -> dict[str, Corpus]:
        return {corpus.digest: corpus for corpus in self.corpora.values()}

    def groups(self) -> dict[Shape, list[int]]:
        """Segments by shape, smallest model first."""
        found: dict[Shape, list[int]] = defaultdict(list)
        for k, segment in enumerate(self.segments):
            found[segment.shape].append(k)
        cost = {shape: flops.train_flops_per_token(shape.model) for shape in found}
        return dict(sorted(found.items(), key=lambda item: cost[item[0]]))

    def summary(self, stack: int, layout: Layout = A_RUN_A_DEVICE, runs: int = 1) -> dict[str, Any]:
        """Runs, segments, shared against naive cost, and a row a group.

        Bytes are what each device holds: of a stack of lanes whose mesh axis `run` has size `runs`.
        """
        lanes = -(-stack // runs)
        # a run's last segment ends with it, so runs that are one run end in the same segment
        ends = {run.segments[-1]: run.path.run for run in self.runs}
        per_token = {shape: flops.train_flops_per_token(shape.model) for shape in self.groups()}
        naive = [(run.steps * run.tokens_per_step, run) for run in ends.values()]
        groups = [
            {
                "width": shape.model.width,
                "layers": shape.model.layers,
                "parameters": flops.parameters(shape.model).total,
                "batch": shape.batch,
                "precision": shape.precision,
                "optimizer": shape.optimizer,
                "segments": len(members),
                "tokens": sum(self.segments[k].tokens for k in members),
                "flops": sum(self.segments[k].tokens for k in members) * per_token[shape],
                "stack": stack,
                "state_bytes": lanes * state_bytes(shape, layout),
                "memory_bytes": lanes * train_bytes(shape, layout),
            }
            for shape, members in self.groups().items()
        ]
        return {
            "study": self.sweep.study,
            "scale": self.sweep.scale,
            "runs": len(self.runs),
            "segments": len(self.segments),
            "tokens_naive": sum(tokens for tokens, _ in naive),
            "tokens_shared": sum(group["tokens"] for group in groups),
            "flops_naive": sum(
                tokens * flops.train_flops_per_token(run.model) for tokens, run in naive
            ),
            "flops_shared": sum(group["flops"] for group in groups),
            "devices": runs * layout.devices_a_run,
            "mesh": layout.mesh,
            "groups": groups,
        }

    def most_epochs(self) -> dict[str, float]:
        """Corpus name -> epochs that the run that reads most of it reads."""
        most: dict[str, float] = {}
        names = {corpus.digest: name for name, corpus in self.corpora.items()}
        by_digest = self.by_digest
        seen: set[Any] = set()
        for run in self.runs:
            spec = run.path.run
            read = data_of(spec)  # as much of each corpus, whatever the rates
            if read in seen:
                continue
            seen.add(read)
            stream = Stream(run.path, by_digest)
            for digest, epochs in stream.epochs(run.path.steps).items():
                name = names[digest]
                most[name] = max(most.get(name, 0.0), epochs)
        return most

    def refuse_repeats(self) -> None:
        """Raise Refused if a run would read a corpus more than MAX_EPOCHS times."""
        for name, epochs in self.most_epochs().items():
            if epochs > MAX_EPOCHS:
                has = self.corpora[name].train_tokens
                raise Refused(
                    f"corpus {name!r} has {has:,} training tokens and would be read "
                    f"{epochs:,.1f} times (at most {MAX_EPOCHS}): prepare a larger corpus, "
                    f"or train on fewer tokens"
                )


def make_plan(sweep: Sweep, corpora: Mapping[str, Corpus]) -> Plan:
    """Plan a sweep; touches no device. `corpora`: all that its runs name. Raises Refused."""
    refuse_unlike(corpora)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    points: list[tuple[str, dict[str, Any], Path]] = []
    checked: set[Any] = set()
    origins: dict[str, Origin] = {}
    for arm, grid in sweep.arms.items():
        for values, run in grid.points():
            needs = data_of(run), run.model.vocabulary
            if needs not in checked:
                _check(run, corpora)
                digests |= _score_digests(run, corpora)
                checked.add(needs)
            points.append((arm, values, Path(run, digests, _origin(run, origins))))
    paths = [path for _, _, path in points]
    states = _States(paths)
    segments = _tree(states)
    wanted = states.asked(sweep)
    through: list[list[int]] = [[] for _ in paths]
    for k, segment in enumerate(segments):
        for number in segment.runs:
            through[number].append(k)
        asked = {id(wanted[number]): wanted[number] for number in segment.runs}.values()
        first = segment.start if segment.start == 0 else segment.start + 1
        segment.stops = sorted(
            {step for steps in asked for step in steps if first <= step <= segment.stop}
        )
    runs = [
        PlannedRun(arm, values, path, through[k]) for k, (arm, values, path) in enumerate(points)
    ]
    return Plan(sweep, corpora, runs, segments)


def corpora_of(sweep: Sweep) -> list[str]:
    """Names of all corpora that a sweep trains on or evaluates."""
    names = dict.fromkeys(sweep.evaluate.corpora)
    for grid in sweep.arms.values():
        names.update(dict.fromkeys(grid.corpora()))
    return list(names)


def _origin(run: RunSpec, known: dict[str, Origin]) -> Origin | None:
    """The adopted checkpoint that a run starts from, if any. Raises Refused, Failed."""
    if not run.start:
        return None
    if run.start not in known:
        known[run.start] = open_adopted(run.start)
    known[run.start].refuse_unlike(run)
    return known[run.start]


def _check(run: RunSpec, corpora: Mapping[str, Corpus]) -> None:
    for name in run.corpora():
        corpus = corpora[name]
        if corpus.vocabulary > run.model.vocabulary:
            raise Refused(
                f"model.vocabulary = {run.model.vocabulary}: corpus {name!r} "
                f"needs {corpus.vocabulary}"
            )
        if corpus.train_windows(run.model.context) < 1:
            raise Refused(
                f"corpus {name!r} has {corpus.train_tokens} training tokens: "
                f"less than one window of {run.model.context}"
            )


def _score_digests(run: RunSpec, corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Digests of the scores by which a run's phases order their corpora. Raises Refused."""
    return {
        scores_of(share.corpus, phase.score): score_digest(corpora[share.corpus], phase.score)
        for phase in run.phases
        if phase.order != "uniform"
        for share in phase.mixture
        if share.weight > 0
    }


def data_of(run: RunSpec) -> Any:
    """What decides on the data of a run's steps. Grids share mixtures and schedules between runs
    (`Grid.points`), so that who is the same object tells most of them apart."""
    phases = tuple(
        [
            (p.tokens, id(p.mixture), p.reset_optimizer, p.reread, p.order, p.score)
            for p in run.phases
        ]
    )
    return phases, run.batch, run.model.context, run.start


def rates_of(run: RunSpec) -> Any:
    """What decides on the rates of a run's steps, and on its boundaries."""
    phases = tuple([(p.name, p.tokens, id(p.schedule)) for p in run.phases])
    return phases, run.batch, run.model.context, run.start


class _States:
    """Which paths share a state, without its identity: hashing every rate of every run takes long.

    Equal are the states after `step` steps of two paths whose specs agree in all but the phases,
    and whose phases give the same data at the same rates up to that step. Both are numbered once
    for all paths that have them.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        others = [one.name for one in dataclasses.fields(RunSpec) if one.name != "phases"]
        beside = [tuple([getattr(path.run, name) for name in others]) for path in paths]
        # by path: the first path with the same (spec beside the phases, data, rates)
        self.spec = _firsts(beside)
        self.data = _firsts([data_of(path.run) for path in paths])
        self.rates = _firsts([rates_of(path.run) for path in paths])
        self.phase_ends = {
            k: list(accumulate(paths[k].run.phase_steps())) for k in dict.fromkeys(self.rates)
        }
        first = {k: paths[k].state_id(0) for k in dict.fromkeys(self.spec)}
        self.initial = [first[k] for k in self.spec]
        self.numbers: dict[Any, int] = {}  # of data, and of rates, up to a step
        self.known: dict[tuple[str, int, int], int] = {}

    def next_end(self, members: list[int], step: int) -> int:
        """The first end of a stage behind `step`; of a phase for a run that shares no more."""
        ways = {self.rates[k] for k in members}
        if len(members) > 1:
            ends = [self.paths[k].boundaries for k in ways]
        else:
            ends = [self.phase_ends[k] for k in ways]
        return min(one[bisect.bisect_right(one, step)] for one in ends)

    def a_phase_ends(self, members: list[int], step: int) -> bool:
        return any(step in self.phase_ends[k] for k in {self.rates[k] for k in members})

    def parts(self, members: list[int], step: int) -> list[list[int]]:
        """The paths of `members` by their state after `step` > 0 steps."""
        found: dict[Any, list[int]] = defaultdict(list)
        for k in members:
            data = self._number("data", self.data[k], step)
            found[self.spec[k], data, self._number("rates", self.rates[k], step)].append(k)
        return list(found.values())

    def _number(self, what: str, k: int, step: int) -> int:
        """A number that two paths share if they have the same data, or rates, up to a step."""
        key = what, k, step
        number = self.known.get(key)
        if number is None:
            path = self.paths[k]
            if what == "rates":
                prefix: Any = sha256(path.lr[:step].tobytes()).digest()
            else:
                prefix = tuple(
                    (s.start, min(s.stop, step), s.inputs) for s in path.stretches if s.start < step
                )
            number = self.known[key] = self.numbers.setdefault(prefix, len(self.numbers))
        return number

    def asked(self, sweep: Sweep) -> list[list[int]]:
        """Steps at which each path is evaluated; one list for paths that end alike. Refused."""
        steps = {k: sweep.evaluate.steps(self.paths[k].run) for k in dict.fromkeys(self.rates)}
        return [steps[k] for k in self.rates]


def _firsts(keys: list[Any]) -> list[int]:
    """For each key, where an equal one stands first."""
    first: dict[Any, int] = {}
    return [first.setdefault(key, k) for k, key in enumerate(keys)]


def _tree(states: _States) -> list[Segment]:
    """Segments of the prefix tree, parents first."""
    segments: list[Segment] = []
    paths = states.paths
    roots: dict[str, list[int]] = defaultdict(list)
    for k, state in enumerate(states.initial):
        roots[state].append(k)
    # (runs that share the state at `step`, that step, the segment that ends there)
    open_: list[tuple[list[int], int, int | None]] = [
        (members, 0, None) for members in reversed(roots.values())
    ]
    while open_:
        members, begun, parent = open_.pop()
        step = begun
        while True:
            ahead = states.next_end(members, step)
            parts = states.parts(members, ahead) if len(members) > 1 else [members]
            if len(parts) > 1:
                break  # they part somewhere in step..ahead
            step = ahead
            if states.a_phase_ends(members, step):
                break
        if step > begun:
            segments.append(Segment(paths[members[0]], begun, step, parent, members))
            parent = len(segments) - 1
            going_on = [k for k in members if states.phase_ends[states.rates[k]][-1] > step]
            if going_on:
                open_.append((going_on, step, parent))
        else:
            open_.extend((part, step, parent) for part in reversed(parts))
    return segments
