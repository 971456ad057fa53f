"""Which run to do next: of candidates with costs, those that narrow a wanted interval most.

A run at a place where the law's slopes (by parameters) are g adds g g' / noise^2 to what is known,
so the covariance V of the parameters loses V g g' V / (noise^2 + g' V g), and the interval of a
quantity with slopes c becomes t(spare + 1) sqrt(c' V c) wide on either side. That is c-optimal
design by one run at a time (Fedorov and Hackl 1997, chapter 3), which is greedy: each run is best
after those before it, and the sequence need not be the best set of its cost.

All is linear at the parameters of now, and the noise is believed: what a run will really narrow
differs from set to set. A candidate may be run again, with noise of its own: the best for the cost
are then often many copies of a cheap run, which no departure from the law would show in.
`again=False` takes each once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fits.columns import with_columns
from fits.engine.identify import coordinate_scales
from fits.errors import Refused
from fits.expected import Knowledge, known, quantile
from fits.quantities import Quantity
from fits.result import Fit
from fits.table import require_column, resolve_columns
from fits.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

Floats = NDArray[np.float64]
Rule = Literal["cost", "width"]

RUNS = 10  # of the sequence, where no budget ends it
MOST_RUNS = 10_000  # where one does
_SHOWN = 12  # changes of candidate that a summary tells


@dataclass(frozen=True, eq=False)
class Design:
    """What the candidates are worth, and the greedy sequence of them.

    half_width: of the wanted interval now (of the logarithm for a scale, or as the quantity is).
    `candidates`: the rows given, with `cost`, `half_width` after one such run, `narrower` (the
    share of the width that it takes off) and `narrower_per_cost`. `sequence`: a row a run, with
    `candidate` (its label), `cost`, `cost_so_far`, `half_width` after it.
    """

    target: str
    level: float
    half_width: float
    candidates: "pd.DataFrame"
    sequence: "pd.DataFrame"

    @property
    def best(self) -> Any:
        """Label of the candidate that narrows most."""
        return self.candidates["narrower"].idxmax()

    @property
    def best_per_cost(self) -> Any:
        """Label of the candidate that narrows most for its cost."""
        return self.candidates["narrower_per_cost"].idxmax()

    def width_for(self, budget: float) -> float:
        """The half width that the sequence reaches within a budget."""
        within = self.sequence[self.sequence["cost_so_far"] <= budget * (1 + 1e-12)]
        return float(within["half_width"].iloc[-1]) if len(within) else self.half_width

    def summary(self) -> str:
        """For people."""
        one, other = self.best, self.best_per_cost
        lines = [
            f"{self.target}: half width {self.half_width:.4g} now, at {self.level:g}",
            f"  most by one run: {one}, to {self.candidates['half_width'][one]:.4g}",
            f"  most for its cost: {other}, to {self.candidates['half_width'][other]:.4g}",
        ]
        blocks = (self.sequence["candidate"] != self.sequence["candidate"].shift()).cumsum()
        for block, rows in self.sequence.groupby(blocks):
            if block > _SHOWN:
                lines.append(f"  ... {len(self.sequence)} runs in all, {self._after(-1)}")
                break
            times = f" {len(rows)} times" if len(rows) > 1 else ""
            label = rows["candidate"].iloc[0]
            lines.append(f"  then {label}{times}, {self._after(rows.index[-1])}")
        return "\n".join(lines)

    def _after(self, row: int) -> str:
        cost, width = (self.sequence[name].iloc[row] for name in ("cost_so_far", "half_width"))
        return f"to {width:.4g} at {cost:.4g} in all"


def design(
    fit: Fit | Knowledge,
    candidates: "pd.DataFrame",
    cost: "str | Sequence[float]",
    target: str | Quantity,
    budget: float | None = None,
    *,
    columns: "Mapping[str, str] | None" = None,
    noise: float | None = None,
    by: Rule = "cost",
    runs: int | None = None,
    again: bool = True,
    rates: Any = None,
) -> Design:
    """Which of the candidate runs narrows the interval of `target` most.

    fit: a fit, or what a plan is expected to know (`fits.expected`). candidates: a row a run, with
    the law's variables (`columns` where named otherwise). cost: a column, or a number a row, in any
    unit. target: a free parameter, or a quantity (`fits.quantities.prediction`,
    `fits.optimum.log_optimal_size`, `fits.optimum.allocation_exponent`, or your own).

    The sequence takes the run that narrows most for its cost (`by` width: most) until the budget
    is spent, or `runs` of them (without either, 10); `again` allows one more than once. noise:
    standard deviation of a point, instead of the fit's own. Raises Refused.
    """
    start = fit if isinstance(fit, Knowledge) else known(fit, noise)
    if isinstance(fit, Knowledge) and noise is not None:
        raise Refused("noise is already part of what a plan is expected to know")
    if by not in get_args(Rule):
        raise Refused(f"unknown rule {by!r}; allowed: {', '.join(get_args(Rule))}")
    if runs is None:
        runs = RUNS if budget is None else MOST_RUNS
    if runs < 1:
        raise Refused(f"runs = {runs}: must be at least 1")
    if candidates.empty:
        raise Refused("no candidates to choose from")
    if candidates.index.has_duplicates:
        raise Refused("two candidates have one label: give the table an index of its own")
    costs = _costs(candidates, cost)
    if budget is not None and not (math.isfinite(budget) and budget >= costs.min()):
        raise Refused(f"budget {budget:g}: the cheapest candidate costs {costs.min():.4g}")
    slopes = start.slopes(target)
    now = start.half_width(target)
    if math.isinf(start.sd(target)):
        raise Refused("the target is not identified yet: its width is infinite, add points first")
    rows = _slopes(start, candidates, columns, rates)
    search = _Search(start, slopes, rows, costs)
    after = search.widths(search.covariance, 1)
    gains = 1.0 - after / now if math.isfinite(now) else np.where(np.isfinite(after), 1.0, 0.0)
    table = candidates.assign(
        cost=costs, half_width=after, narrower=gains, narrower_per_cost=gains / costs
    )
    sequence = search.greedy(candidates.index, budget, by, runs, again)
    label = target if isinstance(target, str) else getattr(target, "__name__", "quantity")
    if isinstance(target, str) and start.problem.by_log(start.problem.tied.get(target, target)):
        label = f"ln {target}"
    return Design("quantity" if label == "<lambda>" else label, start.level, now, table, sequence)


class _Search:
    """The candidates' slopes [m, p] and costs [m] against a target's slopes [p]."""

    def __init__(self, start: Knowledge, target: Floats, rows: Floats, costs: Floats) -> None:
        self.start, self.target, self.rows, self.costs = start, target, rows, costs
        self.covariance = start.covariance

    def widths(self, covariance: Floats, runs: int) -> Floats:
        """Half widths [m] after each candidate, as the `runs`-th new point."""
        moved = self.rows @ covariance
        own = self.start.variance + np.sum(moved * self.rows, axis=1)
        variance = self.target @ covariance @ self.target - (moved @ self.target) ** 2 / own
        spread = np.sqrt(np.maximum(variance, 0.0))
        return np.asarray(spread * quantile(self.start.level, self.start.spare + runs))

    def with_run(self, covariance: Floats, k: int) -> Floats:
        """The covariance after one more run of candidate k."""
        moved = covariance @ self.rows[k]
        return covariance - np.outer(moved, moved) / (
            self.start.variance + float(self.rows[k] @ moved)
        )

    def greedy(
        self, labels: Any, budget: float | None, by: Rule, runs: int, again: bool
    ) -> "pd.DataFrame":
        import pandas as pd

        covariance, spent = self.covariance, 0.0
        steps: list[dict[str, Any]] = []
        width = math.sqrt(max(0.0, float(self.target @ covariance @ self.target)))
        width *= quantile(self.start.level, self.start.spare)
        open_ = np.ones(len(self.costs), bool)
        while len(steps) < runs:
            left = math.inf if budget is None else budget * (1 + 1e-12) - spent
            allowed = np.flatnonzero(open_ & (self.costs <= left))
            if not len(allowed):
                break
            after = self.widths(covariance, len(steps) + 1)[allowed]
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = -np.log(after) if math.isinf(width) else np.log(width / after)
            worth = gain / self.costs[allowed] if by == "cost" else gain
            k = int(allowed[np.argmax(worth)])
            covariance, width = self.with_run(covariance, k), float(after[np.argmax(worth)])
            spent += float(self.costs[k])
            open_[k] = again
            steps.append(
                {
                    "candidate": labels[k],
                    "cost": float(self.costs[k]),
                    "cost_so_far": spent,
                    "half_width": width,
                }
            )
        return pd.DataFrame(steps)


def _slopes(
    start: Knowledge,
    candidates: "pd.DataFrame",
    columns: "Mapping[str, str] | None",
    rates: Any,
) -> Floats:
    law = start.problem.law
    candidates = with_columns(candidates, columns)
    chosen, _ = resolve_columns(law, candidates, columns, response=False)
    x, _ = read_variables(law, candidates, chosen, rates)
    there = replace(start.problem, x=x, y=np.ones(len(candidates)))
    scales = coordinate_scales(start.problem, start.params)
    rows = there.residual_jacobian(start.params, start.problem.free) * scales
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise Refused(f"candidate {candidates.index[bad[0]]}: the law has no finite slopes there")
    return rows


def _costs(candidates: "pd.DataFrame", cost: "str | Sequence[float]") -> Floats:
    if isinstance(cost, str):
        require_column(cost, candidates)
        cost = candidates[cost].tolist()
    try:
        costs = np.asarray(cost, np.float64)
    except (TypeError, ValueError):
        raise Refused("costs must be numbers, one a candidate") from None
    if costs.shape != (len(candidates),):
        raise Refused(f"{costs.size} costs for {len(candidates)} candidates: give one each")
    bad = np.flatnonzero(~(np.isfinite(costs) & (costs > 0)))
    if len(bad):
        raise Refused(
            f"candidate {candidates.index[bad[0]]} costs {costs[bad[0]]:g}: must be positive"
        )
    return costs
