"""Variable projection: parameters that enter linearly are solved for, not searched.

Golub & Pereyra 1973, with Kaufman's Jacobian (1975).
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fits.engine.dual import Dual
from fits.engine.lanes import Lanes, Params, outside
from fits.engine.problem import MAX_BOUNDED, Floats, Problem

DEPENDENT = 1e-13  # relative: a direction of the columns so small is rounding
SMALLEST_SHARE = 1e-3  # of the response: where a positive linear parameter starts at the least


def _columns(
    problem: Problem, free: Mapping[str, Any], linear: tuple[str, ...], count: int, held: Params
) -> tuple[Floats, Floats]:
    """(what the law gives without its linear parameters [S, n], their columns [S, n, k])."""
    ones = {name: Dual(1.0, {name: 1.0}) for name in linear}
    pins = {name: values[:, None] for name, values in held.items()}
    found = problem.law.predict(problem.complete({**pins, **free, **ones}), problem.x)
    shape = (count, len(problem.y))
    slopes = [np.broadcast_to(np.asarray(found.slopes.get(name, 0.0)), shape) for name in linear]
    columns = np.stack(slopes, 2)
    return np.broadcast_to(found.value, shape) - columns.sum(2), columns


def eliminated(
    problem: Problem, names: tuple[str, ...], linear: tuple[str, ...], u: Floats, lanes: Lanes
) -> tuple[Params, Floats]:
    """(linear parameters [S] by least squares, orthonormal basis [S, n, k] of their columns)."""
    free = {n: outside(problem, n, u[:, k : k + 1]) for k, n in enumerate(names)}
    fixed, columns = _columns(problem, free, linear, len(u), dict(lanes.pinned))
    target = np.broadcast_to(lanes.y - fixed, fixed.shape)
    return _least_squares(problem, linear, columns, target, lanes.weights)


def _least_squares(
    problem: Problem,
    linear: tuple[str, ...],
    columns: Floats,
    target: Floats,
    weights: Floats | None,
) -> tuple[Params, Floats]:
    """Weighted least squares of each lane; parameters with lower bound 0 never below it.

    With few such parameters every choice of those at 0 is solved and the best that is allowed
    taken: that is the exact answer.
    """
    if weights is not None:
        root = np.sqrt(weights)
        columns, target = columns * root[:, :, None], target * root
    bad = np.asarray(~np.isfinite(columns.sum((1, 2)) + target.sum(1)))
    columns = np.where(bad[:, None, None], 0.0, columns)
    target = np.where(bad[:, None], 0.0, target)
    size = np.sqrt(np.sum(columns**2, 1, keepdims=True))
    columns = columns / np.where(size > 0, size, 1.0)
    positive = [k for k, name in enumerate(linear) if problem.limits(name)[0] == 0.0]
    count, _, wide = columns.shape
    best = np.full(count, np.inf)
    values = np.full((count, wide), np.nan)
    basis = np.zeros_like(columns)
    for zeros in itertools.chain.from_iterable(
        itertools.combinations(positive, k) for k in range(len(positive) + 1)
    ):
        kept = np.array([k for k in range(wide) if k not in zeros], np.intp)
        q, found = _solve_columns(columns[:, :, kept], target)
        missed = np.sum((target - (columns[:, :, kept] @ found[:, :, None])[:, :, 0]) ** 2, 1)
        allowed = np.min(found[:, np.isin(kept, positive)], axis=1, initial=0.0) >= 0.0
        better = np.flatnonzero(allowed & (missed < best))
        best[better] = missed[better]
        values[better] = 0.0
        values[better[:, None], kept] = found[better]
        basis[better] = 0.0
        basis[better[:, None, None], np.arange(columns.shape[1])[None, :, None], kept] = q[better]
        if not zeros and len(better) == count:
            break
    values = values / np.where(size[:, 0] > 0, size[:, 0], 1.0)
    values[bad] = np.nan
    return {name: values[:, k] for k, name in enumerate(linear)}, basis


def _solve_columns(columns: Floats, target: Floats) -> tuple[Floats, Floats]:
    """(orthonormal basis [S, n, k], coefficients [S, k]); the shortest of those that are best.

    Lanes whose columns depend on each other within rounding get fewer directions, by their
    singular values; the basis is 0 in the places left.
    """
    if columns.shape[2] == 0:
        return columns, np.zeros((len(columns), 0))
    q, r = np.linalg.qr(columns)
    diagonal = np.abs(np.diagonal(r, axis1=1, axis2=2))
    flat = diagonal.min(1) <= DEPENDENT * diagonal.max(1)
    r = np.where(flat[:, None, None], np.eye(r.shape[1]), r)
    found = np.linalg.solve(r, q.transpose(0, 2, 1) @ target[:, :, None])[:, :, 0]
    for lane in np.flatnonzero(flat):
        left, size, right = np.linalg.svd(columns[lane], full_matrices=False)
        left = np.where(size > DEPENDENT * size[0], left, 0.0)
        seen = (left.T @ target[lane]) / np.where(size > 0, size, 1.0)
        q[lane], found[lane] = left, right.T @ seen
    return q, found


def linear_start(problem: Problem, near: Params, lanes: Lanes, count: int) -> Params:
    """Where linear parameters start that are to be searched: relative least squares, not at 0."""
    names = tuple(n for n in problem.free if n not in near and n not in lanes.pinned)
    free = {name: values[:, None] for name, values in near.items()}
    plain = replace(problem, bounds={**problem.bounds, **_unbounded_beyond(problem, names)})
    fixed, columns = _columns(problem, free, names, count, dict(lanes.pinned))
    size = np.maximum(np.abs(lanes.y), 1e-3 * np.abs(lanes.y).max())
    weights = np.broadcast_to(size**-2.0, fixed.shape)
    if lanes.weights is not None:
        weights = weights * lanes.weights
    found, _ = _least_squares(
        plain, names, columns, np.broadcast_to(lanes.y - fixed, fixed.shape), weights
    )
    reach = np.sqrt(np.mean(columns**2, 1))
    typical = np.abs(lanes.y).mean()
    for k, name in enumerate(names):
        low, high = problem.limits(name)
        least = SMALLEST_SHARE * typical / np.where(reach[:, k] > 0, reach[:, k], 1.0)
        value = np.nan_to_num(found[name])
        if low == 0.0:
            value = np.where(value > least, value, least)
        found[name] = np.clip(value, low, high)
    return found


def _unbounded_beyond(problem: Problem, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Of linear parameters that only start somewhere: too many bounds to be tried are ignored."""
    positive = [name for name in names if problem.limits(name)[0] == 0.0]
    return dict.fromkeys(positive, (-np.inf, np.inf)) if len(positive) > MAX_BOUNDED else {}
