"""Absolute and pinball losses, which have no slope at residual 0: the exact optimum.

With the kink rounded, ever less, Levenberg-Marquardt comes near (`fits.engine.solve`). From there
linear programs in a shrinking trust region end on the optimum itself, where as many residuals are 0
as parameters are free (Koenker & Bassett 1978).
"""

from collections.abc import Mapping

import numpy as np
from scipy import optimize, sparse

from fits.engine.lanes import bounds, inside, outside
from fits.engine.problem import Floats, Problem

ROUNDINGS = (1.0, 0.1, 0.01, 1e-3)  # of the typical residual, one after the other
PROGRAMS = 100
SETTLED = 1e-13  # relative gain of a program below which the optimum is reached


def exact_optimum(problem: Problem, near: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """(parameters, objective) of the optimum nearest to `near`, where the law has a value."""
    names = problem.free
    u = inside(problem, names, np.array([[near[name] for name in names]]))[0]
    low, high = bounds(problem, names)
    params, value = dict(near), problem.value(near)
    if not np.isfinite(value):
        return params, value
    radius = 0.1
    for _ in range(PROGRAMS):
        step = _program(problem, params, names, radius, low - u, high - u)
        if step is None or radius < 1e-14:
            break
        trial = u + step
        free = {n: float(outside(problem, n, trial[k])) for k, n in enumerate(names)}
        found = problem.complete({**problem.pinned, **free})
        gain = value - problem.value(found)
        if gain > 0:
            u, params, value = trial, found, value - gain
            radius = min(2 * radius, 1.0)
            if gain <= SETTLED * value:
                break
        else:
            radius = 0.25 * min(radius, float(np.abs(step).max()))
    return params, value


def _program(
    problem: Problem,
    params: Mapping[str, float],
    names: tuple[str, ...],
    radius: float,
    lowest: Floats,
    highest: Floats,
) -> Floats | None:
    """The step [p] that is best for the residuals' tangents within the radius."""
    scale = [params[name] if problem.by_log(name) else 1.0 for name in names]
    down = problem.residual_jacobian(params, names) * np.array(scale)
    r = problem.residuals(params)
    upper = 1.0 if problem.objective.loss == "absolute" else problem.objective.number
    lower = 1.0 if problem.objective.loss == "absolute" else 1.0 - problem.objective.number
    points = len(r)
    eye = sparse.identity(points, format="csc")
    found = optimize.linprog(
        np.concatenate([np.zeros(len(names)), np.full(points, upper), np.full(points, lower)]),
        A_eq=sparse.hstack([sparse.csc_array(down), eye, -eye], format="csc"),
        b_eq=r,
        bounds=[
            *zip(np.maximum(lowest, -radius), np.minimum(highest, radius), strict=True),
            *[(0.0, None)] * (2 * points),
        ],
        method="highs",
    )
    return np.asarray(found.x[: len(names)]) if found.x is not None else None
