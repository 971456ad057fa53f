"""What smaller sizes say of a larger one before it is trained: rows to be held against it later.

For every domain at the last horizon: the critical ratio along a line in ln N and, as the rival that
any such line has to beat, what it was at the next smaller size; the change of the general loss and
the domain's loss at one ratio, which are there even where critical ratios lie beyond the grid.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fits.continual_controls import branch_losses
from fits.critical import fraction
from fits.critical_evidence import Measured
from fits.errors import Refused
from fits.unit_ratios import Bounds, along_size

COLUMNS = ["name", "predicted", "low", "high", "unit", "how"]
LINE = "least squares through every seed of the smaller sizes, in ln N"
ALIKE = "mean over the seeds of the next smaller size"


def foretold(m: Measured, size: int, units: int) -> pd.DataFrame:
    """Rows of COLUMNS about a size (parameters) that is to be trained with `units` seeds.

    Intervals are 95 % of the mean of those seeds to come. What cannot be predicted has no row.
    Raises Refused where nothing can.
    """
    rows = []
    without: list[str] = []
    for name, (by_size, unit) in _quantities(m).items():
        for slope, how in ((True, LINE), (False, ALIKE)) if unit == "ratio" else ((True, LINE),):
            line = along_size(by_size, size, slope)
            if line.why:
                without.append(f"{name}: {line.why}")
                continue
            low, high = line.interval(units)
            rows.append([_named(name, slope), line.predicted, low, high, unit, how])
    if not rows:
        raise Refused(f"nothing can be predicted: {'; '.join(without[:1])}")
    return pd.DataFrame(rows, columns=COLUMNS)


def measured(m: Measured, size: int) -> dict[str, float]:
    """Name of a row of `foretold` -> what came at that size, mean over its seeds.

    Critical ratios with a seed beyond the grid are left out: their mean is not known.
    """
    found: dict[str, float] = {}
    for name, (by_size, unit) in _quantities(m).items():
        came = by_size.get(size, {})
        if not came or any(low < high for low, high in came.values()):
            continue
        value = sum(low for low, _ in came.values()) / len(came)
        for slope in (True, False) if unit == "ratio" else (True,):
            found[_named(name, slope)] = value
    return found


def _named(name: str, slope: bool) -> str:
    return name if slope else f"{name}, were size without effect"


def _quantities(m: Measured) -> dict[str, tuple[Mapping[int, Mapping[Any, Bounds]], str]]:
    """Name -> (size -> seed -> value, unit)."""
    found: dict[str, tuple[Mapping[int, Mapping[Any, Bounds]], str]] = {}
    for role in ("far", "near"):
        if role not in m.tables:
            continue
        by_size = {size: m.critical(role, size) for size in m.sizes}
        found[f"{role}: critical ratio, eps {m.eps:g}"] = by_size, "ratio"
        table = m.tables[role]
        places = table[(table["ratio"] > 0) & (table["ratio"] < 1)]["ratio"].unique()
        ratio = float(min(places, key=lambda one: abs(one - m.held_out_ratio)))
        for what, corpus, column in (
            ("change of general loss", m.general, "change"),
            ("domain loss", m.domains[role], "loss_nats"),
        ):
            losses: dict[int, dict[Any, Bounds]] = {}
            for size in m.sizes:
                each = branch_losses(table, corpus, size, ratio, m.last, column)
                losses[size] = {seed: (value, value) for seed, value in each.items()}
            found[f"{role}: {what} at R = {fraction(ratio)}"] = losses, "nats"
    return found
