"""Where a law's loss is least along C = k N D.

The search runs in ln N: a grid over ten decades about N = D finds the valley, and the exact slope
of the law (it takes Duals as variables too) is bisected inside it, for all budgets and all
parameter sets at once.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fits.engine.dual import Dual
from fits.errors import Refused
from fits.form import Law, Values
from fits.frontier import FLOP_PER_PARAM_TOKEN
from fits.quantities import Quantity, held

Floats = NDArray[np.float64]

REACH = 5.0 * math.log(10.0)  # of ln N searched on either side of N = D
PLACES = 161  # of the grid: seven to an e-fold
BISECTIONS = 50  # a place of the grid to the last digit
DIFFERENCE = 0.01  # of ln C, for the exponent
BATCH = 2_000_000  # losses of one evaluation
SIZE_AND_DATA = ("n_params", "n_tokens")


def optimal_log_size(law: Law, params: Values, log_c: Floats, place: Values) -> Floats:
    """ln N* [S, B] for ln(N D) = log_c [B] and S parameter sets [S, 1] (or numbers).

    `place` holds what else the law reads. Infinite, with its sign, where the loss falls all the way
    to an end of the search: there is no optimum.
    """
    sets = _columns(params)
    count = max(len(values) for values in sets.values())
    size = max(1, BATCH // (PLACES * len(log_c)))
    parts = []
    for first in range(0, count, size):
        some = {k: v if len(v) == 1 else v[first : first + size] for k, v in sets.items()}
        parts.append(_search(law, some, log_c, place))
    return np.concatenate(parts)


def _search(law: Law, sets: Mapping[str, Floats], log_c: Floats, place: Values) -> Floats:
    grid = 0.5 * log_c[:, None] + np.linspace(-REACH, REACH, PLACES)  # [B, G]
    sums = np.broadcast_to(log_c[:, None], grid.shape)
    losses = losses_along(law, sets, grid.ravel(), sums.ravel(), place)
    losses = np.where(np.isfinite(losses), losses, np.inf).reshape(-1, *grid.shape)
    best = losses.argmin(axis=2)  # [S, B]
    budget = np.arange(len(log_c))
    low = grid[budget, np.maximum(best - 1, 0)]
    high = grid[budget, np.minimum(best + 1, PLACES - 1)]
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        rises = _slopes(law, sets, middle, log_c, place) > 0
        low, high = np.where(rises, low, middle), np.where(rises, middle, high)
    found = np.where(best == 0, -np.inf, 0.5 * (low + high))
    return np.where(best == PLACES - 1, np.inf, found)


def _columns(params: Values) -> dict[str, Floats]:
    """Numbers or arrays as [S, 1]."""
    return {k: np.reshape(np.asarray(v, np.float64), (-1, 1)) for k, v in params.items()}


def losses_along(law: Law, params: Values, u: Floats, log_c: Floats, place: Values) -> Floats:
    """Losses [S, m] at ln N = u and ln(N D) = log_c, [m] or [S, m] each."""
    sets = _columns(params)
    x = {**place, "n_params": np.exp(u), "n_tokens": np.exp(log_c - u)}
    with np.errstate(all="ignore"):
        found = np.asarray(law.predict(sets, x), np.float64)
    count = max(len(values) for values in sets.values())
    return np.broadcast_to(found, np.broadcast_shapes(found.shape, (count, np.shape(u)[-1])))


def _slopes(law: Law, sets: Values, u: Floats, log_c: Floats, place: Values) -> Floats:
    """dL / d ln N [S, B] along ln(N D) = log_c, exactly."""
    n, d = np.exp(u), np.exp(log_c - u)
    x = {**place, "n_params": Dual(n, {"u": n}), "n_tokens": Dual(d, {"u": -d})}
    with np.errstate(all="ignore"):
        found = law.predict(sets, x)
    return np.broadcast_to(np.asarray(found.slopes["u"], np.float64), u.shape)


# Quantities: functions of the law's parameters ---------------------------------------------


def log_optimal_size(
    law: Law,
    flop: float,
    *,
    flop_per_param_token: float = FLOP_PER_PARAM_TOKEN,
    at: Mapping[str, Any] | None = None,
) -> Quantity:
    """ln N*(C) as a quantity, a function of the law's parameters. Raises Refused."""
    place = held(reads_both(law), at, SIZE_AND_DATA)
    refuse_factor(flop_per_param_token)
    log_c = np.log(positive("budget", flop) / flop_per_param_token)

    def ln_optimal_size(p: Values) -> Floats:
        return optimal_log_size(law, p, log_c, place)

    return ln_optimal_size


def allocation_exponent(
    law: Law,
    flop: float,
    *,
    flop_per_param_token: float = FLOP_PER_PARAM_TOKEN,
    at: Mapping[str, Any] | None = None,
) -> Quantity:
    """a of N* ~ C^a at a budget, as a quantity. Raises Refused."""
    options: dict[str, Any] = {"flop_per_param_token": flop_per_param_token, "at": at}
    ends = [flop * math.exp(side * DIFFERENCE) for side in (1.0, -1.0)]
    above, below = (log_optimal_size(law, end, **options) for end in ends)

    def exponent(p: Values) -> Floats:
        return np.asarray((above(p) - below(p)) / (2 * DIFFERENCE))

    return exponent


# What is asked ------------------------------------------------------------------------------


def reads_both(law: Law) -> Law:
    """The law, if it reads size and data. Raises Refused."""
    names = {one.name for one in law.variables}
    if not names.issuperset(SIZE_AND_DATA) or law.rates:
        raise Refused(
            f"law {law.name} reads {', '.join(sorted(names))}: an allocation needs a law of "
            "n_params and n_tokens"
        )
    return law


def positive(name: str, values: ArrayLike) -> Floats:
    """One number or a list of them, as an array. Raises Refused."""
    try:
        numbers = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise Refused(f"{name} {values!r}: must be numbers") from None
    if numbers.ndim != 1 or not len(numbers):
        raise Refused(f"{name}: must be one number or a list of them")
    bad = numbers[~(np.isfinite(numbers) & (numbers > 0))]
    if len(bad):
        raise Refused(f"{name} {bad[0]:g}: must be positive and finite")
    return numbers


def refuse_factor(flop_per_param_token: float) -> None:
    """Raises Refused unless k of C = k N D is a positive number."""
    if not (math.isfinite(flop_per_param_token) and flop_per_param_token > 0):
        raise Refused(f"flop_per_param_token {flop_per_param_token:g}: must be positive, such as 6")
