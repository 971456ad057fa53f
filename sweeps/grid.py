"""Which runs: a base run and axes over any of its fields.

A path names a field of `RunSpec`: `seed`, `batch`, `model.width`, `optimizer.weight_decay`, or of a
phase by its name: `cpt.tokens`, `cpt.schedule.0.to_lr`. Three names stand for what people sweep
most: `cpt.ratio` (weight of the phase's first corpus, the others keep their proportions),
`cpt.peak_lr` (where its warm stage ends) and `cpt.end_lr` (where its last stage with a rate ends).
"""

import dataclasses
import difflib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import Refused
from lab.spec import RunSpec, read

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
        for combination in itertools.product(*self.axes.values()):
            values = dict(zip(self.axes, combination, strict=True))
            yield values, with_fields(self.base, values)


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
    if key == "ratio":
        return holder["mixture"][0]["weight"]
    if key in ("peak_lr", "end_lr"):
        return _stage(holder, key, path)["to_lr"]
    return holder[key]


def set_field(tree: Json, path: str, value: Json) -> None:
    """Set the value at a path of a run written as JSON, in place. Raises Refused."""
    holder, key = _holder(tree, path)
    if key == "ratio":
        _set_ratio(holder["mixture"], value, path)
    elif key in ("peak_lr", "end_lr"):
        _stage(holder, key, path)["to_lr"] = value
    else:
        holder[key] = value


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
    if not named and not (last in _SHORT and "schedule" in here):
        raise Refused(_unknown(here, last, walked, path))
    return here, last


_SHORT = ("ratio", "peak_lr", "end_lr")


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
        known += _SHORT if "schedule" in here else ()
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    where = ".".join(walked) or "a run"
    return f"unknown field {path!r}: {where} has {', '.join(known) or 'no fields'}{hint}"


def _stage(phase: Json, key: str, path: str) -> Json:
    stages = phase["schedule"]
    if key == "peak_lr":
        found = [stage for stage in stages if stage["shape"] == "warm"]
    else:
        found = [stage for stage in stages if stage["to_lr"] is not None][-1:]
    if not found:
        raise Refused(f"{path}: the schedule of phase {phase['name']!r} has no such stage")
    return found[0]


def _set_ratio(mixture: list[Json], ratio: Json, path: str) -> None:
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 <= ratio <= 1:
        raise Refused(f"{path} = {ratio!r}: must be a number in [0, 1]")
    others = sum(share["weight"] for share in mixture[1:])
    if len(mixture) < 2 or others <= 0:
        raise Refused(f"{path}: the phase's mixture needs a second corpus with a weight")
    for share in mixture[1:]:
        share["weight"] *= (1 - ratio) / others
    mixture[0]["weight"] = ratio


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
