"""Which runs a row of a figure's data came from.

A row that names its `run` says so. Any other is recognised by its losses: a loss is known to
sixteen digits, so one that equals a loss of the results (or the mean of one place over seeds) was
made from it. Accuracies are shares of a few thousand tokens, many alike, and tell nothing. A row of
which no loss is recognised, such as a critical ratio, stands for no single runs.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

WITHIN = 1e-12  # relative: means over seeds in another order


class Behind:
    """Losses of a results table, asked by value.

    results: columns run, arm, seed, corpus, step and loss_nats (those before `n_params` are swept),
    or an empty table.
    """

    def __init__(self, results: "pd.DataFrame") -> None:
        self.names = list(dict.fromkeys(results["run"]))
        self.singly = self.meanly = _Losses(np.empty(0), [])
        if results.empty:
            return
        number = {name: k for k, name in enumerate(self.names)}
        rows = results[np.isfinite(results["loss_nats"])]
        run = rows["run"].map(number)
        self.singly = _Losses(rows["loss_nats"].to_numpy(float), [(k,) for k in run])
        columns = list(rows.columns)
        swept = columns[: columns.index("n_params")] if "n_params" in columns else ["arm"]
        places = ["corpus", "step", *(["average"] if "average" in columns else [])]
        same = [name for name in swept if name not in ("schema_version", "run", "seed")]
        grouped = rows.assign(run=run).groupby([*same, *places], dropna=False, sort=False)
        means = grouped.agg(loss=("loss_nats", "mean"), runs=("run", tuple))
        self.meanly = _Losses(means["loss"].to_numpy(float), list(means["runs"]))

    def runs(self, frame: "pd.DataFrame") -> list[tuple[int, ...]]:
        """For each row of a figure's data the places in `names` of its runs, () where unknown."""
        number = {name: k for k, name in enumerate(self.names)}
        if "run" in frame.columns:
            return [(number[name],) if name in number else () for name in frame["run"]]
        found: list[set[int]] = [set() for _ in range(len(frame))]
        for name in frame.columns:
            if frame[name].dtype.kind != "f":
                continue
            values = frame[name].to_numpy(float)
            for row, runs, more in zip(
                found, self.singly.at(values), self.meanly.at(values), strict=True
            ):
                row.update(runs or more)
        return [tuple(sorted(row)) for row in found]


class _Losses:
    def __init__(self, values: Floats, runs: list[tuple[Any, ...]]) -> None:
        order = np.argsort(values, kind="stable")
        self.values = values[order]
        self.runs = [runs[k] for k in order]

    def at(self, wanted: Floats) -> list[set[int]]:
        """Runs with each of these losses; counts are none."""
        room = WITHIN * np.abs(wanted)
        first = np.searchsorted(self.values, wanted - room, "left")
        last = np.searchsorted(self.values, wanted + room, "right")
        telling = np.isfinite(wanted) & (wanted != np.round(wanted))
        return [
            {run for runs in self.runs[a:b] for run in runs} if tells else set()
            for a, b, tells in zip(first, last, telling, strict=True)
        ]
