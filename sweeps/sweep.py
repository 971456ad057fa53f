"""A sweep: named grids of runs, and what to evaluate along them. It is what a plan is made from."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.averages import average
from lab.errors import Refused, meant
from lab.spec import CAME_LATER, RunSpec, canonical, read
from sweeps.grid import Grid, get_field, parse_value, parse_values, plain, with_fields


@dataclass(frozen=True)
class Evaluations:
    """What is evaluated, and when.

    In every phase: `per_octave` log-spaced steps (round(2^(k / per_octave)), the same whatever the
    phase's length, so that a longer run asks for nothing new along the way), and its end. In the
    phase `phase`, also at each of `horizons` (tokens since it began). At the end of that phase each
    of `averages` is evaluated too (`lab.averages`), over the last states of the phase that are
    `average_tokens` apart; those are evaluated as well.
    """

    corpora: tuple[str, ...]
    windows: int
    phase: str
    horizons: tuple[int, ...]
    per_octave: int = 1
    averages: tuple[str, ...] = field(default=(), metadata=CAME_LATER)
    average_tokens: int = field(default=0, metadata=CAME_LATER)

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise Refused(f"evaluate.windows = {self.windows}: must be at least 1")
        if not 1 <= self.per_octave <= 16:
            raise Refused(f"evaluate.per_octave = {self.per_octave}: must be in 1..16")
        if len(set(self.horizons)) < len(self.horizons) or min(self.horizons, default=1) < 1:
            raise Refused(f"horizons = {list(self.horizons)}: must be positive and differ")
        if len({average(one) for one in self.averages}) < len(self.averages):
            raise Refused(f"averages = {list(self.averages)}: name one twice")
        if bool(self.averages) != (self.average_tokens >= 1):
            raise Refused(
                f"average_tokens = {self.average_tokens}: must say how many tokens the states of "
                "averages are apart, and be 0 where there are none"
            )

    def steps(self, run: RunSpec) -> list[int]:
        """Steps of a run at which its state is evaluated, ascending. Raises Refused."""
        wanted = {0}
        start = 0
        for phase, length in zip(run.phases, run.phase_steps(), strict=True):
            octave = 0
            while (step := round(2 ** (octave / self.per_octave))) < length:
                wanted.add(start + step)
                octave += 1
            wanted.add(start + length)
            if phase.name == self.phase:
                for horizon in self.horizons:
                    step = run.steps_in(horizon, "horizon")
                    if step > length:
                        raise Refused(
                            f"horizon {horizon}: lies behind phase {phase.name!r} "
                            f"of {phase.tokens} tokens"
                        )
                    wanted.add(start + step)
            start += length
        return sorted(wanted.union(*self.averaged_steps(run).values()))

    def averaged_steps(self, run: RunSpec) -> dict[str, tuple[int, ...]]:
        """Steps of the states of each average, oldest first; none without the phase. Refused."""
        if not self.averages or all(phase.name != self.phase for phase in run.phases):
            return {}
        begun = run.phase_start(self.phase)
        (phase,) = (phase for phase in run.phases if phase.name == self.phase)
        end = begun + run.steps_in(phase.tokens)
        apart = run.steps_in(self.average_tokens, "average_tokens")
        found: dict[str, tuple[int, ...]] = {}
        for written in self.averages:
            first = end - (average(written).count - 1) * apart
            if first <= begun:
                raise Refused(
                    f"average {written!r}: its states, {self.average_tokens} tokens apart, do not "
                    f"lie within phase {phase.name!r} of {phase.tokens} tokens"
                )
            found[written] = tuple(range(first, end + 1, apart))
        return found


@dataclass(frozen=True)
class Sweep:
    """Arms (named grids) of one study at one scale."""

    study: str
    scale: str
    arms: Mapping[str, Grid]
    evaluate: Evaluations

    def to_json(self) -> str:
        """Canonical JSON, read back by `sweep_from_json`."""
        arms = {
            name: {"base": plain(grid.base), "axes": [[k, plain(v)] for k, v in grid.axes.items()]}
            for name, grid in self.arms.items()
        }
        return canonical(
            {
                "study": self.study,
                "scale": self.scale,
                "arms": [[name, arm] for name, arm in arms.items()],
                "evaluate": plain(self.evaluate),
            }
        )

    def with_fields(self, told: Mapping[str, str]) -> "Sweep":
        """Set fields, by path and as typed, of every arm's base run: all, then checked. Raises
        Refused."""
        arms = {}
        for name, grid in self.arms.items():
            values = {}
            for path, text in told.items():
                if path in grid.axes:
                    raise Refused(f"{path} is an axis of this sweep: give its values with --axis")
                values[path] = parse_value(path, get_field(plain(grid.base), path), text)
            arms[name] = Grid(with_fields(grid.base, values), grid.axes)
        return dataclasses.replace(self, arms=arms)

    def with_axis(self, path: str, text: str, extend: bool = False) -> "Sweep":
        """Replace (or `extend`) an axis of every arm, or of one: `ARM:path`. Raises Refused."""
        arm, colon, field = path.rpartition(":")
        if colon and arm not in self.arms:
            raise Refused(
                f"unknown arm {arm!r}; the arms are {', '.join(self.arms)}{meant(arm, self.arms)}"
            )
        arms = dict(self.arms)
        for name in [arm] if colon else self.arms:
            grid = self.arms[name]
            values = parse_values(grid.base, field, text)
            if extend:
                old = grid.axes.get(field, (get_field(plain(grid.base), field),))
                values = (*old, *(v for v in values if v not in old))
            arms[name] = Grid(grid.base, {**grid.axes, field: values})
        return dataclasses.replace(self, arms=arms)


def sweep_from_json(text: str) -> Sweep:
    """A sweep as `Sweep.to_json` wrote it. Raises Refused."""
    try:
        tree = json.loads(text)
        arms = {
            str(name): Grid(
                read(RunSpec, arm["base"], f"arm {name}"),
                {str(path): tuple(values) for path, values in arm["axes"]},
            )
            for name, arm in tree["arms"]
        }
        evaluate = read(Evaluations, tree["evaluate"], "evaluate")
        return Sweep(str(tree["study"]), str(tree["scale"]), arms, evaluate)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"not a sweep: {error}") from None
