"""`rounds.jsonl` of an output folder: what each round of an adaptive sweep decided, and foretold.

One line a round, written before its runs start and never changed. Runs are named by their place in
the grid, so that the lines hold when the sweep grows. The predictions are compared with what was
measured only in tables, which are made anew from the results.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fits.files import write_whole
from lab.errors import Refused
from sweeps.grid import plain
from sweeps.plan import Plan, PlannedRun
from sweeps.target import Predicted, point

if TYPE_CHECKING:
    from fits.report import Table

ROUNDS_FILE = "rounds.jsonl"
LOCK_FILE = ".rounds.lock"
_NUMBERS = ("predicted", "low", "high")


@dataclass(frozen=True)
class ExpectedRun:
    """A run of a round, and the interval in which its measurement was expected."""

    arm: str
    values: dict[str, Any]
    predicted: float
    low: float
    high: float

    @property
    def point(self) -> str:
        return point(self.arm, self.values)


@dataclass(frozen=True)
class Round:
    """One decision.

    known: what was read before it. expected: what should be read after it. flops: what was missing
    of its runs. reach: the width expected of the whole grid, None if an end should stay open.
    """

    number: int
    target: str
    until: str
    known: Mapping[str, Any]
    expected: Mapping[str, Any]
    reach: float | None
    flops: float
    runs: tuple[ExpectedRun, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it stands in the file."""
        runs = [
            {"arm": one.arm, "values": one.values, **{key: getattr(one, key) for key in _NUMBERS}}
            for one in self.runs
        ]
        return {
            "round": self.number,
            "target": self.target,
            "until": self.until,
            "known": dict(self.known),
            "expected": dict(self.expected),
            "reach": self.reach,
            "flops": self.flops,
            "runs": runs,
        }


def expected_run(one: Predicted) -> ExpectedRun:
    """As it is written down."""
    values = dict(plain(one.run.values))
    return ExpectedRun(one.run.arm, values, one.predicted, one.low, one.high)


def read_rounds(folder: Path) -> list[Round]:
    """The rounds that a folder was told, none if it has no such file. Raises Refused."""
    path = folder / ROUNDS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}") from None
    rounds: list[Round] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rounds.append(_round(json.loads(line), number))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(f"{path}, line {number}: not a round ({error})") from None
    return rounds


def chosen_runs(plan: Plan, rounds: Sequence[Round]) -> list[PlannedRun]:
    """Runs of the plan that some round chose."""
    points = {run.point for one in rounds for run in one.runs}
    return [run for run in plan.runs if point(run.arm, run.values) in points]


def append_round(folder: Path, one: Round) -> bool:
    """Write one more line, all of it or nothing; returns whether it was written. Raises Failed.

    Where another process has written that round meanwhile, its line stands.
    """
    from filelock import FileLock

    path = folder / ROUNDS_FILE
    with FileLock(folder / LOCK_FILE):
        if len(read_rounds(folder)) >= one.number:
            return False
        before = path.read_bytes() if path.exists() else b""
        line = json.dumps(one.to_json(), allow_nan=False) + "\n"
        write_whole(path, before + line.encode())
    return True


def _round(tree: dict[str, Any], number: int) -> Round:
    if tree["round"] != number:
        raise ValueError(f"round {tree['round']} where {number} should stand")
    runs = tuple(
        ExpectedRun(str(one["arm"]), dict(one["values"]), *(float(one[key]) for key in _NUMBERS))
        for one in tree["runs"]
    )
    reach = None if tree["reach"] is None else float(tree["reach"])
    known, expected = dict(tree["known"]), dict(tree["expected"])
    target, until = str(tree["target"]), str(tree["until"])
    return Round(number, target, until, known, expected, reach, float(tree["flops"]), runs)


Measured = Mapping[str, Mapping[str, float]]  # by target, by run's point


def predictions(rounds: Sequence[Round], measured: Measured) -> list[dict[str, Any]]:
    """A row a run of a round: predicted, low, high, measured, error, inside; None till measured."""
    rows = []
    for one in rounds:
        for run in one.runs:
            value = measured.get(one.target, {}).get(run.point, math.nan)
            there = not math.isnan(value)
            rows.append(
                {
                    "round": one.number,
                    "arm": run.arm,
                    **run.values,
                    "predicted": run.predicted,
                    "low": run.low,
                    "high": run.high,
                    "measured": value if there else None,
                    "error": value - run.predicted if there else None,
                    "inside": run.low <= value <= run.high if there else None,
                }
            )
    return rows


def tables(rounds: Sequence[Round], measured: Measured, full: float) -> "list[Table]":
    """For the report: the rounds, and their predictions. `full`: FLOPs of the whole grid."""
    import pandas as pd

    from fits.report import Table

    rows = [
        {
            "round": one.number,
            "until": one.until,
            "runs": len(one.runs),
            "train_flops": one.flops,
            "share_of_grid": one.flops / full,
            **{f"known_{key}": one.known.get(key) for key in ("critical_ratio", "low", "high")},
            **{f"expected_{key}": one.expected.get(key) for key in ("low", "high")},
        }
        for one in rounds
    ]
    foreseen = predictions(rounds, measured)
    inside = [row["inside"] for row in foreseen if row["inside"] is not None]
    return [
        Table(
            "rounds",
            "Adaptive rounds, as they were decided: what was known before each, and which interval "
            "was expected after it. FLOPs are those that were missing of its runs.",
            pd.DataFrame(rows),
        ),
        Table(
            "predictions",
            "What each run was expected to measure, written down before its round started (95 % "
            f"intervals): {sum(inside)} of {len(inside)} measured lie inside.",
            pd.DataFrame(foreseen),
        ),
    ]
