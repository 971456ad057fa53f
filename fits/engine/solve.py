"""Finds the parameters of a law: many starts at once, exact gradients, nothing believed.

S fits of one law run side by side, a lane each: the starts of one fit, the resamplings of a
bootstrap, the values of a profile. Each lane is a Levenberg-Marquardt search of its own, with the
weights of iteratively reweighted least squares for robust losses; lanes that have ended leave.

Squared residuals: parameters that enter linearly are eliminated (`fits.engine.projection`), and the
search runs over the others alone. Other objectives: all parameters at once, scales by their
logarithm, linear ones started at their least squares. No optimiser's `success` is asked: what
counts is how many starts end at the best value.
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.engine.dual import Dual, value_of
from fits.engine.kinked import ROUNDINGS, exact_optimum
from fits.engine.lanes import Lanes, Params, bounds, inside, outside
from fits.engine.march import march
from fits.engine.problem import Floats, Problem
from fits.engine.projection import eliminated, linear_start

AGREE = 1e-6  # relative to the best objective, a start that ends this near agrees with it
KINKED_AGREE = 1e-3  # for losses whose kink was rounded
EXACT = 1e-10  # relative residual of a start that found noise-free numbers again: it agrees too
PRECISION = 1e-10  # relative decrease of the objective below which a step has stalled
MAX_STEPS = 200
POLISH_STEPS = 3000  # for the best lane: reweighting converges linearly
ROUNDED_STEPS = 60
LANE_POINTS = 200_000  # values of one array that fit into a core's cache


@dataclass(frozen=True)
class Solution:
    """Best parameters found, the objective there, and how many starts ended at it."""

    params: dict[str, float]
    objective: float
    starts: int
    agree: int


def solve(
    problem: Problem,
    near: Mapping[str, float] | None = None,
    starts: Mapping[str, Sequence[float]] | None = None,
) -> Solution:
    """The best parameters from all starts of the law, or from `near` alone.

    `starts` replaces the law's values of some parameters, linear ones too; every combination is
    tried. `near` may lack linear ones; coefficients at 0 start anew, from there none would rise.
    """
    if not near:
        tried = start_grid(problem, starts)
    else:
        projected = [n for n in problem.law.linear if problem.by_log(n) and near.get(n, 1.0) <= 0]
        names = [name for name in problem.free if name in near and name not in projected]
        tried = {name: np.array([near[name]]) for name in names}
    count = len(next(iter(tried.values()))) if tried else 1
    one = Lanes(problem.y[None])
    ends, values = solve_lanes(problem, tried, one, count)
    best = {name: end[[values.argmin()]] for name, end in ends.items()}
    if problem.objective.kinked:
        params, value = exact_optimum(problem, {name: float(end[0]) for name, end in best.items()})
        enough = value * (1 + KINKED_AGREE)
    else:
        polished, polished_values = solve_lanes(problem, best, one, 1, POLISH_STEPS, 1e-15)
        params = {name: float(end[0]) for name, end in polished.items()}
        value = float(polished_values[0])
        enough = value * (1 + AGREE)
    agree = int(np.sum(values <= enough + problem.value_of_share(EXACT)))
    return Solution(params, value, count, max(1, agree))


def solve_lanes(
    problem: Problem,
    near: Mapping[str, Floats],
    lanes: Lanes,
    count: int,
    steps: int = MAX_STEPS,
    precision: float = PRECISION,
) -> tuple[Params, Floats]:
    """`count` fits side by side: (all parameters, [S] each; objectives, [S], inf where none).

    `near` holds the starts [S] of the free parameters; linear ones may be left out. A lane's result
    depends on neither its neighbours nor their order.
    """
    size = max(1, LANE_POINTS // max(1, len(problem.y)))

    def part(first: int) -> tuple[Params, Floats]:
        rows = np.arange(first, min(first + size, count))
        some = {name: values[rows] for name, values in near.items() if name in problem.free}
        with np.errstate(all="ignore"):  # a lane that strays has no finite objective
            return _solve_some(problem, some, lanes.take(rows), len(rows), steps, precision)

    begins = range(0, count, size)
    if len(begins) == 1:
        parts = [part(0)]
    else:  # NumPy's loops leave the interpreter free for the other cores
        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(part, begins))
    params = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    return params, np.concatenate([part[1] for part in parts])


def start_grid(problem: Problem, given: Mapping[str, Sequence[float]] | None) -> Params:
    """Every combination of the starts of the searched parameters and of those given."""
    given = given or {}
    grids = {}
    for name in problem.free:
        if name in given:
            grids[name] = given[name]
        elif name not in problem.law.linear:
            grids[name] = problem.law.parameter(name).starts
    every = np.array(list(itertools.product(*grids.values())), np.float64)
    return {name: every[:, k] for k, name in enumerate(grids)}


def _solve_some(
    problem: Problem, near: Params, lanes: Lanes, count: int, steps: int, precision: float
) -> tuple[Params, Floats]:
    squares = problem.objective.loss == "squares" and not problem.objective.log
    linear = tuple(n for n in problem.linear if squares and n not in lanes.pinned)
    names = tuple(n for n in problem.free if n not in linear and n not in lanes.pinned)
    if any(name not in near for name in names):
        near = {**near, **linear_start(problem, near, lanes, count)}
    at = np.zeros((count, 0))
    if names:
        at = inside(problem, names, np.stack([near[name] for name in names], 1))
    low, high = bounds(problem, names)

    def evaluate(u: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        return _evaluate(problem, names, linear, u, lanes.take(rows))

    if problem.objective.kinked:
        at, values = _rounded(problem, names, at, lanes)
    else:
        at, values = march(evaluate, at, low, high, steps, precision)
    free = {name: outside(problem, name, at[:, k]) for k, name in enumerate(names)}
    if linear:
        free |= eliminated(problem, names, linear, at, lanes)[0]
    complete = problem.complete({**lanes.pinned, **free})
    return {
        name: np.broadcast_to(np.asarray(value, np.float64), (count,))
        for name, value in complete.items()
    }, values


def _rounded(
    problem: Problem, names: tuple[str, ...], at: Floats, lanes: Lanes
) -> tuple[Floats, Floats]:
    """Lanes of a loss with a kink, which is rounded ever less: near the optimum, not on it."""
    low, high = bounds(problem, names)
    values, _, _ = _evaluate(problem, names, (), at, lanes)
    points = len(problem.y) if lanes.weights is None else lanes.weights.sum(1)
    for part in ROUNDINGS:
        typical = np.where(np.isfinite(values), values, points) / points
        radius = np.maximum(part * typical, 1e-300)[:, None]

        def evaluate(
            u: Floats, rows: NDArray[np.intp], radius: Floats = radius
        ) -> tuple[Floats, Floats, Floats]:
            rounded = replace(problem.objective, smooth=radius[rows])
            smooth = replace(problem, objective=rounded)
            return _evaluate(smooth, names, (), u, lanes.take(rows))

        at, _ = march(evaluate, at, low, high, ROUNDED_STEPS, 1e-7)
        values, _, _ = _evaluate(problem, names, (), at, lanes)
    return at, values


def _evaluate(
    problem: Problem, names: tuple[str, ...], linear: tuple[str, ...], u: Floats, lanes: Lanes
) -> tuple[Floats, Floats, Floats]:
    """(objective [S], downhill slope [S, p], Gauss-Newton curvature [S, p, p]) at coordinates u."""
    points = len(problem.y)
    free: dict[str, Any] = {}
    for k, name in enumerate(names):
        value = outside(problem, name, u[:, k : k + 1])
        free[name] = Dual(value, {name: value if problem.by_log(name) else 1.0})
    held = {name: values[:, None] for name, values in lanes.pinned.items()}
    basis = None
    if linear:
        found, basis = eliminated(problem, names, linear, u, lanes)
        free |= {name: values[:, None] for name, values in found.items()}
    predicted = problem.law.predict(problem.complete({**held, **free}), problem.x)
    shape = (len(u), points)
    at = np.broadcast_to(np.asarray(value_of(predicted), np.float64), shape)
    r = problem.objective.residuals(lanes.y, at)
    losses = problem.objective.losses(r)
    pull, weight = problem.objective.pulls(r)
    if lanes.weights is not None:
        losses, pull = losses * lanes.weights, pull * lanes.weights
        weight = weight * lanes.weights
    value = losses.sum(1)
    slopes = predicted.slopes if isinstance(predicted, Dual) else {}
    down = (
        np.stack([np.broadcast_to(np.asarray(slopes.get(n, 0.0)), shape) for n in names], 1)
        if names
        else np.zeros((len(u), 0, points))
    )
    if problem.objective.log:
        down = down / at[:, None]
    if basis is not None:  # less what the eliminated ones make good (Kaufman 1975)
        root = 1.0 if lanes.weights is None else np.sqrt(lanes.weights)[:, None]
        scaled = down * root
        down = (scaled - (scaled @ basis) @ basis.transpose(0, 2, 1)) / np.where(
            root > 0, root, 1.0
        )
    slope = (down @ pull[:, :, None])[:, :, 0]
    curve = (down * weight[:, None]) @ down.transpose(0, 2, 1)
    value = np.where(np.isfinite(value), value, np.inf)
    return value, np.nan_to_num(slope), np.nan_to_num(curve)
