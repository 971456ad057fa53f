"""What one run logged: its settings, and values by step and name."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fits.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

STEP_NAMES = ("step", "_step", "global_step", "Step", "iteration", "iter")  # the first there counts
_SPELLED = ("nan", "inf", "infinity")
DEEPEST = 8  # objects within objects that are looked into


@dataclass
class Log:
    """Values by step and name; what is logged again of a step replaces what was there.

    A value that was logged as not a number is kept as infinite, so that a loss that was lost is not
    taken for one that was not logged, which is NaN in the table. `replaced` counts values that a
    later, different one replaced; `lost` has the first step of each name that was not a number.
    `parts` are runs of their own that the same file holds.
    """

    name: str
    key: str = ""  # by which a tracker tells runs of one name apart
    settings: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    replaced: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    parts: "dict[str, Log]" = field(default_factory=dict)

    def put(self, step: int, name: str, value: float) -> None:
        """A value of a step."""
        if math.isnan(value):
            self.lost.setdefault(name, step)
            value = math.inf
        there = self.steps.setdefault(step, {})
        self.replaced += name in there and there[name] != value
        there[name] = value

    def put_row(self, row: Mapping[str, Any], step: int) -> None:
        """The numbers of a row, of the step and the run that it says; else of `step` and this."""
        run = row.get("run")
        if isinstance(run, str) and run != self.name:
            self.parts.setdefault(run, Log(run)).put_row(row, step)
            return
        numbers = dict(flat(row))
        named = next((name for name in STEP_NAMES if name in numbers), None)
        at = numbers.pop(named) if named else None
        if at is not None and math.isfinite(at):
            step = int(at)
        for name, value in numbers.items():
            self.put(step, name, value)


def flat(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, number) of every number in a row of JSON, those within objects as `outer/inner`."""
    for name, value in scalars(row).items():
        if isinstance(value, str):  # W&B writes "NaN", "Infinity", "-Infinity"
            if value.lstrip("-").lower() in _SPELLED:
                yield name, float(value)
        elif not isinstance(value, bool):
            yield name, _as_float(value)


def scalars(tree: Mapping[str, Any], before: str = "", depth: int = 0) -> dict[str, Any]:
    """The plain values of an object of JSON, those within objects as `outer/inner`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and depth < DEEPEST:
            found |= scalars(value, f"{before}{key}/", depth + 1)
        elif isinstance(value, bool | int | float | str):
            found[f"{before}{key}"] = value
    return found


def _as_float(value: float) -> float:
    """A number of JSON, whose whole numbers have no limit."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def table_of(logs: Iterable[Log]) -> tuple["pd.DataFrame", list[str]]:
    """(a row a run and step: run, step, settings, values; what a reader must know). Refused.

    Runs in the order given, steps ascending. A setting whose name is also that of a value is called
    `config/NAME`.
    """
    import pandas as pd

    logs = [log for log in logs if log.steps]
    if not logs:
        raise Refused("no numbers were logged there")
    values = {name: None for log in logs for there in log.steps.values() for name in there}
    settings = {name: None for log in logs for name in log.settings}
    taken = {"run", "step", *values}
    called = {name: f"config/{name}" if name in taken else name for name in settings}
    rows = [
        {
            "run": log.name,
            "step": step,
            **{called[name]: value for name, value in log.settings.items()},
            **log.steps[step],
        }
        for log in logs
        for step in sorted(log.steps)
    ]
    order = ["run", "step", *called.values(), *values]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(order)))
    return frame, _said(logs)


def some(items: Iterable[str], most: int = 4) -> str:
    """A few of them, and how many more there are."""
    listed = list(items)
    more = [f"{len(listed) - most} more"] if len(listed) > most else []
    return ", ".join([*listed[:most], *more])


def _said(logs: Sequence[Log]) -> list[str]:
    said = []
    if again := [log for log in logs if log.replaced]:
        said.append(
            f"{sum(log.replaced for log in again)} values were logged twice for one step, as after "
            f"a restart: the last counts (runs {some(log.name for log in again)})"
        )
    if lost := [(log.name, *one) for log in logs for one in log.lost.items()]:
        first = some(f"{name} of run {run} at step {step}" for run, name, step in lost)
        said.append(f"not a number, read as infinite: {first}")
    return said
