"""The prefix tree: runs -> segments, each trained once, with what it costs.

Two runs share a state when they share its identity, so the tree is found by asking for identities
where any of the runs has a boundary (a stage or phase that ends), and cutting where they part and
where a phase of one of them ends: a branch that is asked for later finds its trunk stored.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from lab import flops
from lab.corpora import Corpus
from lab.errors import Refused
from lab.evaluate import EvaluationSet
from lab.identity import Path
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.memory import state_bytes, train_bytes
from lab.mixture import Stream
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
        ends = {run.path.state_id(run.path.steps): run.path.run for run in self.runs}.values()
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
                "flops": sum(self.segments[k].flops for k in members),
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
            "tokens_naive": sum(run.steps * run.tokens_per_step for run in ends),
            "tokens_shared": sum(segment.tokens for segment in self.segments),
            "flops_naive": sum(flops.train_flops(run) for run in ends),
            "flops_shared": sum(segment.flops for segment in self.segments),
            "devices": runs * layout.devices_a_run,
            "mesh": layout.mesh,
            "groups": groups,
        }

    def most_epochs(self) -> dict[str, float]:
        """Corpus name -> epochs that the run that reads most of it reads."""
        most: dict[str, float] = {}
        names = {corpus.digest: name for name, corpus in self.corpora.items()}
        for run in self.runs:
            stream = Stream(run.path, self.by_digest)
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
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    points: list[tuple[str, dict[str, Any], Path]] = []
    for arm, grid in sweep.arms.items():
        for values, run in grid.points():
            _check(run, corpora)
            points.append((arm, values, Path(run, digests)))
    paths = [path for _, _, path in points]
    segments = _tree(paths)
    through: list[list[int]] = [[] for _ in paths]
    for k, segment in enumerate(segments):
        wanted: set[int] = set()
        for number in segment.runs:
            through[number].append(k)
            wanted.update(sweep.evaluate.steps(paths[number].run))
        first = segment.start if segment.start == 0 else segment.start + 1
        segment.stops = sorted(step for step in wanted if first <= step <= segment.stop)
    runs = [
        PlannedRun(arm, values, path, through[k]) for k, (arm, values, path) in enumerate(points)
    ]
    return Plan(sweep, corpora, runs, segments)


def corpora_of(sweep: Sweep) -> list[str]:
    """Names of all corpora that a sweep trains on or evaluates."""
    names = dict.fromkeys(sweep.evaluate.corpora)
    for grid in sweep.arms.values():
        for _, run in grid.points():
            names.update(dict.fromkeys(share.corpus for p in run.phases for share in p.mixture))
    return list(names)


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


def _tree(paths: list[Path]) -> list[Segment]:
    """Segments of the prefix tree, parents first."""
    segments: list[Segment] = []
    phase_ends = [set(accumulate(path.run.phase_steps())) for path in paths]
    roots: dict[str, list[int]] = defaultdict(list)
    for k, path in enumerate(paths):
        roots[path.state_id(0)].append(k)
    # (runs that share the state at `step`, that step, the segment that ends there)
    open_: list[tuple[list[int], int, int | None]] = [
        (members, 0, None) for members in reversed(roots.values())
    ]
    while open_:
        members, begun, parent = open_.pop()
        step = begun
        while True:
            ahead = min(next(b for b in paths[k].boundaries if b > step) for k in members)
            parts: dict[str, list[int]] = defaultdict(list)
            for k in members:
                parts[paths[k].state_id(ahead)].append(k)
            if len(parts) > 1:
                break  # they part somewhere in step..ahead
            step = ahead
            if any(step in phase_ends[k] for k in members):
                break
        if step > begun:
            segments.append(Segment(paths[members[0]], begun, step, parent, members))
            parent = len(segments) - 1
            going_on = [k for k in members if paths[k].steps > step]
            if going_on:
                open_.append((going_on, step, parent))
        else:
            open_.extend((part, step, parent) for part in reversed(parts.values()))
    return segments
