"""How fast this machine trains, as it was measured: by `lab bench step`, or by a whole run.

    LAB_HOME/speed.json    FLOP/s of each shape and stack that `lab bench step` timed last
    DIR/.speed.json        FLOP/s of a sweep that was trained from nothing to its end at one go,
                           compiling, evaluating and writing included

Both hold the number of cores they were measured on, and say nothing where that is another.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import flops
from lab.home import home
from lab.spec import ModelSpec

FILE = "speed.json"


@dataclass(frozen=True)
class Speed:
    """Measured FLOP/s by FLOPs a token of the model that was timed; `source` says how."""

    source: str
    rates: Mapping[int, float]

    def flops_per_second(self, model: ModelSpec) -> float:
        """Of the timed model that is nearest in cost (by ratio): larger ones come nearer to the
        machine's peak."""
        own = flops.train_flops_per_token(model)
        return self.rates[min(self.rates, key=lambda one: abs(math.log(one / own)))]


def note_bench(rows: Sequence[Mapping[str, Any]], cores: int) -> None:
    """Keep what `lab bench step` measured."""
    keys = ("flops_per_token", "stack", "flops_per_second")
    _write(home() / FILE, cores, [{key: row[key] for key in keys} for row in rows])


def note_run(out: Path, model: ModelSpec, flops_per_second: float, cores: int) -> None:
    """Keep the speed of a whole sweep beside its results. `model`: one that stands for it."""
    per_token = flops.train_flops_per_token(model)
    row = {"flops_per_token": per_token, "stack": None, "flops_per_second": flops_per_second}
    _write(out / f".{FILE}", cores, [row])


def measured(out: Path, stack: int, cores: int) -> Speed | None:
    """The speed of an output folder, else that of the last `lab bench step`, else None."""
    for file, source in (
        (out / f".{FILE}", "the last whole run into this folder"),
        (home() / FILE, "lab bench step"),
    ):
        rates = _read(file, stack, cores)
        if rates:
            return Speed(source, rates)
    return None


def _write(file: Path, cores: int, rows: list[dict[str, Any]]) -> None:
    from fits.errors import Failed
    from fits.files import write_whole

    with contextlib.suppress(Failed):  # a speed that cannot be kept stops nothing
        write_whole(file, json.dumps({"cores": cores, "rows": rows}).encode())


def _read(file: Path, stack: int, cores: int) -> dict[int, float]:
    """FLOP/s by FLOPs a token, of this stack where it was timed, else of the largest."""
    try:
        tree = json.loads(file.read_bytes())
        rows = [
            (row["stack"] or stack, int(row["flops_per_token"]), float(row["flops_per_second"]))
            for row in tree["rows"]
        ]
        if tree["cores"] != cores or not rows:
            return {}
        stacks = {timed for timed, _, _ in rows}
        best = stack if stack in stacks else max(stacks)
        rates = {per_token: speed for timed, per_token, speed in rows if timed == best}
        sound = all(one > 0 and math.isfinite(speed) and speed > 0 for one, speed in rates.items())
        return rates if sound else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # not there, or not ours


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
