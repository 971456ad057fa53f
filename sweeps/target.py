"""What `lab run --until` can narrow: a number that a study reports, and what narrows it next.

The rounds (`sweeps.adaptive`) know runs, prices and the folder; a target knows what its number is,
reads it as the report does, and proposes runs with a prediction for each.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Refused, meant
from lab.spec import canonical
from sweeps.grid import plain
from sweeps.plan import PlannedRun
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Reading:
    """A target's number as the report prints it; `width` is infinite while an end is open.

    `values` are plain data, kept with the round that was decided on them. `doubt` says why the
    width does not count yet, however narrow it is; empty where it does.
    """

    width: float
    text: str
    values: Mapping[str, Any]
    doubt: str = ""


@dataclass(frozen=True)
class Predicted:
    """What a run is expected to measure, with a 95 % interval, said before it starts."""

    run: PlannedRun
    predicted: float
    low: float
    high: float


@dataclass(frozen=True)
class Offer:
    """Runs that could be trained, the width that is wanted, and what a set of runs costs.

    `price` gives the training FLOPs that are missing of some runs, stretches they share once.
    """

    runs: Sequence[PlannedRun]
    wanted: float
    price: Callable[[Sequence[PlannedRun]], float]


@dataclass(frozen=True)
class Proposal:
    """The next runs, none if nothing that is left would narrow the target.

    `expected` is plain data: what the reading should be after them. `reach` is the width that the
    whole grid is expected to give.
    """

    runs: Sequence[Predicted]
    expected: Mapping[str, Any]
    reach: float


@dataclass(frozen=True)
class Target:
    """One number that can be narrowed. All functions are pure.

    `refuse(settings, sweep)` raises Refused where no run of the sweep could give it; `read` reads
    it off a table of results (empty at first); `propose` says what to train next; `measured` gives
    what was predicted of each run (by `point`), where the table has it.
    """

    what: str
    refuse: Callable[[Any, Sweep], None]
    read: "Callable[[pd.DataFrame, Any, Sweep], Reading]"
    propose: "Callable[[pd.DataFrame, Any, Sweep, Offer], Proposal]"
    measured: "Callable[[pd.DataFrame, Any, Sweep], Mapping[str, float]]"


def point(arm: str, values: Mapping[str, Any]) -> str:
    """A run by its place in the grid: the same when a sweep has grown since."""
    return canonical({"arm": arm, **{name: plain(value) for name, value in values.items()}})


@dataclass(frozen=True)
class Condition:
    """`NAME < NUMBER` or `NAME <= NUMBER`."""

    name: str
    sign: str
    width: float

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.width:g}"

    def holds(self, width: float) -> bool:
        """Whether a width is narrow enough."""
        return width < self.width or (self.sign == "<=" and width == self.width)


def parse_condition(text: str, study: str, targets: Mapping[str, Target]) -> Condition:
    """Read what --until was told. Raises Refused."""
    if not targets:
        raise Refused(f"--until: study {study} names nothing that could be narrowed (targets)")
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise Refused(
            f"--until {text!r}: must read NAME < NUMBER, or <=; names: {', '.join(targets)}"
        )
    name, sign, number = found.groups()
    if name not in targets:
        hint = meant(name, targets)
        raise Refused(f"--until: unknown name {name!r}; {study} has {', '.join(targets)}{hint}")
    try:
        width = float(number)
    except ValueError:
        width = math.nan
    if not (math.isfinite(width) and width > 0):
        raise Refused(f"--until {text!r}: {number} must be a positive number")
    return Condition(name, sign, width)
