"""How fast this machine trains, as it was measured: by `lab bench step`, or by a whole run; and how
fast it could at most.

    LAB_HOME/speed.json    FLOP/s of each shape and stack that `lab bench step` timed last, and of
                           the matrix product that stands for a CPU's peak
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

# Dense bf16 peak of one chip, FLOP/s, from the makers' data sheets.
ACCELERATORS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
}
# What jax calls them. Cards of the same name on another board (H100 PCIe, NVL) are slower.
KINDS = {
    "NVIDIA H200": "H200",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA A100-SXM4-40GB": "A100",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA A100 80GB PCIe": "A100",
    "TPU v5 lite": "TPU v5e",
    "TPU v5e": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v5p": "TPU v5p",
}


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


@dataclass(frozen=True)
class Peak:
    """The most that the devices of a process could do. `flops_per_second` is None where nobody
    knows; `of` says what it is the peak of, or why it is not known. `shared`: all processes of the
    machine have one and the same (its cores)."""

    flops_per_second: float | None
    of: str
    shared: bool


def peak_of(platform: str, kind: str, devices: int, cores: int) -> Peak:
    """The peak of devices, named as jax names them: a data sheet's; on a CPU the measured one."""
    if platform == "cpu":
        known = _matrix_product(cores)
        if known is None:
            return Peak(None, "peak not known: lab bench step measures it", True)
        return Peak(known, "a matrix product here (lab bench step)", True)
    if kind not in KINDS:
        return Peak(None, f"peak of {kind} not known", False)
    name = KINDS[kind]
    return Peak(devices * ACCELERATORS[name], f"{devices} x {name}, dense bf16", False)


def _matrix_product(cores: int) -> float | None:
    try:
        tree = json.loads((home() / FILE).read_bytes())
        peak = float(tree["matrix_product"])
        sound = tree["cores"] == cores and math.isfinite(peak) and peak > 0
        return peak if sound else None
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or not ours


def note_bench(
    rows: Sequence[Mapping[str, Any]], cores: int, matrix_product: float | None = None
) -> None:
    """Keep what `lab bench step` measured; `matrix_product`: FLOP/s of one on all cores."""
    keys = ("flops_per_token", "stack", "flops_per_second")
    known = [{key: row[key] for key in keys} for row in rows]
    _write(home() / FILE, cores, known, matrix_product)


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


def _write(
    file: Path, cores: int, rows: list[dict[str, Any]], matrix_product: float | None = None
) -> None:
    from fits.errors import Failed
    from fits.files import write_whole

    with contextlib.suppress(Failed):  # a speed that cannot be kept stops nothing
        tree = {"cores": cores, "rows": rows, "matrix_product": matrix_product}
        write_whole(file, json.dumps(tree).encode())


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
