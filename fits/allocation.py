"""Compute-optimal size and tokens for a budget, from any fitted law that reads both.

The predicted loss is minimised along C = k N D (`fits.optimum`). For Chinchilla's form the optimum
is a power of C with exponent a = beta / (alpha + beta) (Hoffmann et al. 2022, 2203.15556, eq. 4);
here the exponent d ln N* / d ln C is that of the law at the budget, whatever its form.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fits.errors import Refused
from fits.form import Law, Values
from fits.frontier import FLOP_PER_PARAM_TOKEN
from fits.interval import Interval
from fits.optimum import (
    BISECTIONS,
    DIFFERENCE,
    REACH,
    SIZE_AND_DATA,
    losses_along,
    optimal_log_size,
    positive,
    reads_both,
    refuse_factor,
)
from fits.quantities import held, spread
from fits.result import Fit

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """The best split of one budget, in FLOP; sizes in parameters, data in tokens.

    `exponent` is the local a of N* ~ C^a. `loss_interval` is of the curve at the split, without the
    scatter of a run. `beyond` is how many times the split lies outside the fitted sizes, tokens or
    budgets, 1 within them. At an `edge` of the search there is no optimum, and numbers are NaN.
    """

    flop: float
    n_params: float
    n_tokens: float
    exponent: float
    loss: float
    n_params_interval: Interval
    n_tokens_interval: Interval
    exponent_interval: Interval
    loss_interval: Interval
    beyond: float
    edge: bool
    notes: tuple[str, ...]

    @property
    def tokens_per_param(self) -> float:
        return self.n_tokens / self.n_params

    @property
    def tokens_per_param_interval(self) -> Interval:
        """From the ends of size and tokens, which move together: one rises as the other falls."""
        size, data = self.n_params_interval, self.n_tokens_interval
        low = None if data.low is None or size.high is None else data.low / size.high
        high = None if data.high is None or size.low is None else data.high / size.low
        return Interval(low, high, size.method, size.note)


@dataclass(frozen=True)
class Allocation:
    """Optima of one law, an Optimum a budget."""

    law_name: str
    flop_per_param_token: float
    level: float
    optima: tuple[Optimum, ...]

    def table(self) -> "pd.DataFrame":
        """A row a budget; ends that nothing bounds are infinite, without an optimum NaN."""
        import pandas as pd

        rows = []
        for one in self.optima:
            row: dict[str, Any] = {"budget_flop": one.flop}
            for name in ("n_params", "n_tokens", "tokens_per_param", "loss", "exponent"):
                interval: Interval = getattr(one, f"{name}_interval")
                row[name] = getattr(one, name)
                row[f"{name}_low"] = -np.inf if interval.low is None else interval.low
                row[f"{name}_high"] = np.inf if interval.high is None else interval.high
            rows.append({**row, "beyond": one.beyond, "edge": one.edge})
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """For people."""
        k = f"{self.flop_per_param_token:g}"
        lines = [f"{self.law_name}: least loss along C = {k} N D, intervals at {self.level:g}"]
        for one in self.optima:
            lines.append(f"C {one.flop:.4g} FLOP")
            if not one.edge:
                shown = (
                    ("N", one.n_params, one.n_params_interval),
                    ("D", one.n_tokens, one.n_tokens_interval),
                    ("D / N", one.tokens_per_param, one.tokens_per_param_interval),
                    ("loss", one.loss, one.loss_interval),
                    ("a of N ~ C^a", one.exponent, one.exponent_interval),
                )
                lines += [f"  {name} {value:.4g} {gap.text()}" for name, value, gap in shown]
            lines += [f"  {note}" for note in one.notes]
        return "\n".join(lines)


def allocate(
    fit: Fit,
    flop: ArrayLike,
    *,
    flop_per_param_token: float = FLOP_PER_PARAM_TOKEN,
    at: Mapping[str, Any] | None = None,
) -> Allocation:
    """The compute-optimal size and tokens for one or many budgets, in FLOP.

    flop_per_param_token is k of C = k N D. at: values of what else the law reads, such as
    `unique_tokens`. Intervals come from the fit's units or draws, else from its covariance, by the
    logarithm of N. Raises Refused.
    """
    budgets = positive("budget", flop)
    refuse_factor(flop_per_param_token)
    place = held(reads_both(fit.law), at, SIZE_AND_DATA)
    log_c = np.log(budgets / flop_per_param_token)  # ln N + ln D
    count = len(budgets)

    def quantity(p: Values) -> Floats:
        wide = [log_c, log_c + DIFFERENCE, log_c - DIFFERENCE]
        u = optimal_log_size(fit.law, p, np.concatenate(wide), place)
        exponent = (u[:, count : 2 * count] - u[:, 2 * count :]) / (2 * DIFFERENCE)
        return np.concatenate([u[:, :count], exponent], axis=1)

    known = spread(fit, quantity)
    low, high = known.ends()
    slopes = known.intervals()[count:]
    optima = []
    for k in range(count):
        u = float(known.values[k])
        if not math.isfinite(u):
            optima.append(_no_optimum(float(budgets[k]), u))
            continue
        gap = _gap(float(low[k]), float(high[k]), float(log_c[k]))
        sizes = Interval(*_outward(gap, 0.0, 1.0), known.method, known.note)
        tokens = Interval(*_outward(gap, float(log_c[k]), -1.0), known.method, known.note)
        n, d = math.exp(u), math.exp(log_c[k] - u)
        loss, curve = _loss_band(fit, n, d, place, known.method)
        beyond, notes = _beyond(fit, n, d)
        if known.note:
            notes += [f"no interval: {known.note}"]
        elif None in (sizes.low, sizes.high):
            notes += ["the interval of N reaches the edge of the search: it is open there"]
        optima.append(
            Optimum(
                flop=float(budgets[k]),
                n_params=n,
                n_tokens=d,
                exponent=float(known.values[count + k]),
                loss=loss,
                n_params_interval=sizes,
                n_tokens_interval=tokens,
                exponent_interval=slopes[k],
                loss_interval=curve,
                beyond=beyond,
                edge=False,
                notes=tuple(notes),
            )
        )
    return Allocation(fit.law_name, flop_per_param_token, fit.level, tuple(optima))


# Off the optimum ----------------------------------------------------------------------------


@dataclass(frozen=True)
class OffOptimum:
    """Training `n_params` on what a budget leaves it: the loss, and what that costs.

    `excess` is the loss (nats) above the optimum's at the same compute; `waste` the share of the
    compute that an optimal split would have saved at the same loss. Near the optimum the excess is
    a square of the distance: there a covariance, which is of first order, gives its interval too
    narrow, and draws do not.
    """

    n_params: float
    n_tokens: float
    loss: float
    excess: float
    excess_interval: Interval
    waste: float


def loss_cost(
    fit: Fit,
    flop: float,
    n_params: ArrayLike,
    *,
    flop_per_param_token: float = FLOP_PER_PARAM_TOKEN,
    at: Mapping[str, Any] | None = None,
) -> tuple[OffOptimum, ...]:
    """What other sizes cost at the same compute: a smaller model is over-trained.

    Arguments as for `allocate`, for one budget. Raises Refused.
    """
    budget = positive("budget", flop)
    if len(budget) > 1:
        raise Refused(f"loss_cost takes one budget, not {len(budget)}")
    refuse_factor(flop_per_param_token)
    sizes = positive("n_params", n_params)
    place = held(reads_both(fit.law), at, SIZE_AND_DATA)
    log_c = np.log(budget / flop_per_param_token)
    u = np.log(sizes)
    if not np.isfinite(optimal_log_size(fit.law, fit.params, log_c, place)).all():
        raise Refused(f"{fit.law_name} has no optimum at {budget[0]:.4g} FLOP to compare with")

    def quantity(p: Values) -> Floats:
        best = optimal_log_size(fit.law, p, log_c, place)
        return losses_along(fit.law, p, u, log_c, place) - losses_along(
            fit.law, p, best, log_c, place
        )

    known = spread(fit, quantity)
    gaps = known.intervals()
    losses = losses_along(fit.law, fit.params, u, log_c, place)[0]
    enough = _log_compute(fit.law, fit.params, losses, log_c, place)
    return tuple(
        OffOptimum(
            n_params=float(sizes[k]),
            n_tokens=float(np.exp(log_c[0] - u[k])),
            loss=float(losses[k]),
            excess=float(known.values[k]),
            excess_interval=Interval(
                None if gap.low is None else max(0.0, gap.low), gap.high, gap.method, gap.note
            ),
            waste=float(-np.expm1(enough[k] - log_c[0])),
        )
        for k, gap in enumerate(gaps)
    )


def _log_compute(law: Law, params: Values, losses: Floats, log_c: Floats, place: Values) -> Floats:
    """ln(C / k) [m] at which the optimum's loss is each of `losses`, at most `log_c`."""
    low, high = np.full(len(losses), log_c[0] - 40.0), np.full(len(losses), log_c[0])
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        best = optimal_log_size(law, params, middle, place)
        above = losses_along(law, params, best, middle, place)[0] > losses
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 0.5 * (low + high)


# What is asked, and what is said --------------------------------------------------------------


def _gap(low: float, high: float, log_c: float) -> tuple[float | None, float | None]:
    """Ends of ln N; None where they are not bounded within the search."""
    first, last = 0.5 * log_c - REACH, 0.5 * log_c + REACH
    return (low if low > first else None), (high if high < last else None)


def _outward(
    gap: tuple[float | None, float | None], offset: float, sign: float
) -> tuple[float | None, float | None]:
    """exp(offset + sign u) at both ends, in order."""
    ends = [None if end is None else math.exp(offset + sign * end) for end in gap]
    return (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])


def _loss_band(
    fit: Fit, n: float, d: float, place: Mapping[str, Any], method: str
) -> tuple[float, Interval]:
    x = {**{name: np.array([value]) for name, value in place.items()}}
    x |= {"n_params": np.array([n]), "n_tokens": np.array([d])}
    predicted, low, high = (float(part[0]) for part in fit.band(x, "curve"))
    ends = [end if math.isfinite(end) else None for end in (low, high)]
    return predicted, Interval(ends[0], ends[1], method)


def _beyond(fit: Fit, n: float, d: float) -> tuple[float, list[str]]:
    """(how many times outside the fitted range, notes that say of what)."""
    sizes, tokens = fit.x["n_params"], fit.x["n_tokens"]
    factors, notes = [1.0], []
    for name, value, fitted in (("N", n, sizes), ("D", d, tokens), ("N D", n * d, sizes * tokens)):
        lowest, highest = float(np.min(fitted)), float(np.max(fitted))
        if value > highest:
            factors.append(value / highest)
            notes.append(f"{name} is {value / highest:.3g} times the largest fitted, {highest:.3g}")
        elif value < lowest:
            factors.append(lowest / value)
            notes.append(f"{name} is {lowest / value:.3g} times below the least, {lowest:.3g}")
    return max(factors), [f"extrapolated: {note}" for note in notes]


def _no_optimum(flop: float, log_size: float) -> Optimum:
    nothing = Interval(None, None, "none", "no optimum")
    way = "smaller" if log_size < 0 else "larger"
    return Optimum(
        flop=flop,
        n_params=math.nan,
        n_tokens=math.nan,
        exponent=math.nan,
        loss=math.nan,
        n_params_interval=nothing,
        n_tokens_interval=nothing,
        exponent_interval=nothing,
        loss_interval=nothing,
        beyond=math.nan,
        edge=True,
        notes=(f"no optimum: the loss falls with ever {way} models, to the edge of the search",),
    )
