"""Which runs: a base run and axes over any of its fields.

A path names a field of `RunSpec`: `seed`, `batch`, `model.width`, `optimizer.weight_decay`, or of a
phase by its name: `cpt.tokens`, `cpt.schedule.0.to_lr`. What people sweep and no single field holds
has a name of its own in a phase, such as `cpt.ratio`, `cpt.peak_lr` and `cpt.end_lr`: each is a
file of `sweeps.axes`.
"""

import dataclasses
import itertools
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import Refused, meant
from lab.spec import Phase, RunSpec, Share, read
from sweeps.axes import Axis, named_axes

Json = Any


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values, over a base run. `axes` maps path to values."""

    base: RunSpec
    axes: Mapping[str, tuple[Any, ...]]

    def __post_init__(self) -> None:
        for path, values in self.axes.items():
            if not values:
                raise Refused(f"axis {path}: needs at least one value")
            known = plain(values)
            if any(value in known[:k] for k, value in enumerate(known)):
                raise Refused(f"axis {path}: names a value twice: {known}")

    def points(self) -> Iterator[tuple[dict[str, Any], RunSpec]]:
        """(values by path, run) of every point, the last axis fastest. Raises Refused."""
        runs = _Runs(self)
        for places in itertools.product(*(range(len(one)) for one in self.axes.values())):
            values = {
                path: one[k] for (path, one), k in zip(self.axes.items(), places, strict=True)
            }
            yield values, runs.at(places)

    def corpora(self) -> list[str]:
        """Names of all corpora that a point mentions, weight 0 included. Raises Refused."""
        runs, names = _Runs(self), dict[str, None]()
        for mixture in runs.mixtures():
            names |= dict.fromkeys(share.corpus for share in mixture)
        return list(names)


class _Runs:
    """The runs of a grid, made of parts: what axes change is read and checked once a value.

    A part is a field of a run, or of a phase. Axes of different parts know nothing of each other,
    so that a grid of five axes reads the values of each, and not every combination. Runs share
    the parts, and the phases, that are equal.
    """

    def __init__(self, grid: Grid) -> None:
        self.base, self.axes = grid.base, list(grid.axes.items())
        self.text = json.dumps(plain(grid.base))
        where = [self._place(path) for path, _ in self.axes]
        whole = {part[:2] for part in where if len(part) == 2}  # phases that an axis replaces
        self.axes_of: dict[_Part, list[int]] = {}
        for k, part in enumerate(where):
            self.axes_of.setdefault(part[:2] if part[:2] in whole else part, []).append(k)
        self.made: dict[tuple[_Part, tuple[int, ...]], Any] = {}
        self.phases: dict[tuple[int, tuple[int, ...]], Phase] = {}
        self.joined: dict[tuple[int, ...], tuple[Phase, ...]] = {}
        self.fields = {
            one.name: getattr(self.base, one.name) for one in dataclasses.fields(RunSpec)
        }
        self.others = [part for part in self.axes_of if len(part) == 1]
        mine = {k: [part for part in self.axes_of if part[1:2] == (k,)] for k in range(self.count)}
        self.parts_of = {k: parts for k, parts in mine.items() if parts}
        self.axes_of_phase = {
            k: [axis for part in parts for axis in self.axes_of[part]]
            for k, parts in self.parts_of.items()
        }
        self.axes_of_phases = [axis for axes in self.axes_of_phase.values() for axis in axes]

    @property
    def count(self) -> int:
        return len(self.base.phases)

    def at(self, places: tuple[int, ...]) -> RunSpec:
        """The run with the values at these places of their axes. Raises Refused."""
        changed = {str(part[0]): self._part(part, places) for part in self.others}
        return RunSpec(**{**self.fields, **changed, "phases": self._phases(places)})

    def mixtures(self) -> Iterator[tuple[Share, ...]]:
        """Every mixture of every phase."""
        for k, phase in enumerate(self.base.phases):
            part: _Part = next(iter(self.parts_of.get(k, [])), ())
            if len(part) != 2:
                part = ("phases", k, "mixture")
            if part not in self.axes_of:
                yield phase.mixture
                continue
            mine = self.axes_of[part]
            counts = [len(v) if n in mine else 1 for n, (_, v) in enumerate(self.axes)]
            for places in itertools.product(*map(range, counts)):
                made = self._part(part, places)
                yield made.mixture if len(part) == 2 else made

    def _place(self, path: str) -> "_Part":
        first, *rest = path.split(".")
        names = [phase.name for phase in self.base.phases]
        if rest and first in names:
            k = names.index(first)
        elif rest and first == "phases" and rest[0].isdecimal() and int(rest[0]) < self.count:
            k, rest = int(rest[0]), rest[1:]
        else:
            return (first,)
        short = named_axes().get(rest[0]) if rest else None
        field = short.field if short else "".join(rest[:1])
        known = [one.name for one in dataclasses.fields(Phase)]
        return ("phases", k, field) if field in known else ("phases", k)

    def _phases(self, places: tuple[int, ...]) -> tuple[Phase, ...]:
        key = tuple([places[axis] for axis in self.axes_of_phases])
        if key not in self.joined:
            self.joined[key] = tuple(
                self._phase(k, places) if k in self.parts_of else phase
                for k, phase in enumerate(self.base.phases)
            )
        return self.joined[key]

    def _phase(self, k: int, places: tuple[int, ...]) -> Phase:
        key = k, tuple([places[axis] for axis in self.axes_of_phase[k]])
        if key not in self.phases:
            parts = self.parts_of[k]
            if len(parts[0]) == 2:
                self.phases[key] = self._part(parts[0], places)
            else:
                changed = {str(part[2]): self._part(part, places) for part in parts}
                self.phases[key] = dataclasses.replace(self.base.phases[k], **changed)
        return self.phases[key]

    def _part(self, part: "_Part", places: tuple[int, ...]) -> Any:
        key = part, tuple([places[axis] for axis in self.axes_of[part]])
        if key not in self.made:
            value: Any = json.loads(self.text)
            for axis in self.axes_of[part]:
                path, values = self.axes[axis]
                set_field(value, path, plain(values[places[axis]]))
            kind: Any = RunSpec
            where = "run"
            for name in part:
                value = value[name]
                kind = Phase if isinstance(name, int) else typing.get_type_hints(kind)[name]
                where += f"[{name}]" if isinstance(name, int) else f".{name}"
            self.made[key] = read(kind, value, where)
        return self.made[key]


# Where a part stands in a run: ("seed",), ("phases", 1), ("phases", 1, "mixture").
_Part = tuple[Any, ...]


def plain(value: Any) -> Json:
    """A value as plain JSON data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)  # its tuples stay tuples
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


def with_fields(run: RunSpec, values: Mapping[str, Any]) -> RunSpec:
    """The run with the fields at the given paths set; checked as a whole. Raises Refused."""
    tree = plain(run)
    for path, value in values.items():
        set_field(tree, path, plain(value))
    return read(RunSpec, tree, "run")


def get_field(tree: Json, path: str) -> Json:
    """The plain value at a path of a run written as JSON. Raises Refused."""
    holder, key = _holder(tree, path)
    short = _short(holder, key)
    return short.get(holder, path) if short else holder[key]


def set_field(tree: Json, path: str, value: Json) -> None:
    """Set the value at a path of a run written as JSON, in place. Raises Refused."""
    holder, key = _holder(tree, path)
    short = _short(holder, key)
    if short:
        short.set(holder, value, path)
    else:
        holder[key] = value


def _short(holder: Json, key: Any) -> Axis | None:
    """The axis that a name stands for, in a phase that has no field of that name."""
    if isinstance(holder, dict) and "schedule" in holder and key not in holder:
        return named_axes().get(key)
    return None


def _holder(tree: Json, path: str) -> tuple[Json, Any]:
    """The object that holds the last name of a path, and that name."""
    here = tree
    *way, last = path.split(".")
    walked: list[str] = []
    for name in way:
        here = _child(here, name, walked, path)
        walked.append(name)
    if isinstance(here, list):
        return here, _position(here, last, path)
    named = last in here and not (here is tree and last == "phases")
    if not named and not _short(here, last):
        raise Refused(_unknown(here, last, walked, path))
    return here, last


def _child(here: Json, name: str, walked: list[str], path: str) -> Json:
    if isinstance(here, list):
        return here[_position(here, name, path)]
    if isinstance(here, dict) and "phases" in here:
        for phase in here["phases"]:
            if phase["name"] == name:
                return phase
    if not isinstance(here, dict) or not isinstance(here.get(name), dict | list):
        raise Refused(_unknown(here, name, walked, path))
    return here[name]


def _position(items: list[Json], name: str, path: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise Refused(f"{path}: {name!r} is none of the places 0..{len(items) - 1}")
    return int(name)


def _unknown(here: Json, name: str, walked: list[str], path: str) -> str:
    known: list[str] = []
    if isinstance(here, dict):
        known = [key for key in here if key != "phases"]
        known = [key for key in known if key != "name" or "schedule" not in here]
        known += [phase["name"] for phase in here.get("phases", [])]
        known += named_axes() if "schedule" in here else {}
    where = ".".join(walked) or "a run"
    return (
        f"unknown field {path!r}: {where} has {', '.join(known) or 'no fields'}{meant(name, known)}"
    )


# Values as people type them -----------------------------------------------------------------


def parse_values(run: RunSpec, path: str, text: str) -> tuple[Any, ...]:
    """`1/8,1/4` or a JSON list -> values of the type that the field has now. Raises Refused."""
    now = get_field(plain(run), path)
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except json.JSONDecodeError as error:
            raise Refused(f"{path}: not a JSON list: {error}") from None
        return tuple(items)
    return tuple(parse_value(path, now, item.strip()) for item in text.split(","))


def parse_value(path: str, now: Any, text: str) -> Any:
    """One value as typed, of the type of `now`. Fractions such as 1/3 are numbers."""
    if isinstance(now, bool):
        if text.lower() not in ("true", "false"):
            raise Refused(f"{path} = {text}: must be true or false")
        return text.lower() == "true"
    if isinstance(now, str):
        return text
    if not isinstance(now, int | float) and now is not None:
        raise Refused(f"{path}: give its values as a JSON list")
    try:
        top, _, bottom = text.replace("_", "").partition("/")
        number = float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        raise Refused(f"{path} = {text!r}: must be a number") from None
    if not math.isfinite(number):
        raise Refused(f"{path} = {text}: must be a finite number")
    if isinstance(now, int) and not number.is_integer():
        raise Refused(f"{path} = {text}: must be a whole number")
    # null stands where tokens mean "the rest": what is typed there is a whole number as well
    return int(number) if number.is_integer() and not isinstance(now, float) else number
