"""Levenberg-Marquardt in many lanes at once; pure numbers, it knows no law."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Evaluate = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats, Floats]]


def march(
    evaluate: Evaluate, at: Floats, low: Floats, high: Floats, steps: int, precision: float
) -> tuple[Floats, Floats]:
    """Levenberg-Marquardt in every lane: (coordinates [S, p], objectives [S]) where they end.

    `evaluate(coordinates [T, p], lanes [T])` gives the objective [T], its downhill slope [T, p] and
    curvature [T, p, p]. A lane ends after three steps that gain less than `precision` of its
    objective, when no step gains, or after `steps`.
    """
    ends = np.clip(at, low, high)
    rows = np.arange(len(at))
    u = ends.copy()
    value, slope, curve = evaluate(u, rows)
    objectives = value.copy()
    if at.shape[1] == 0:
        return ends, objectives
    damping, stalled = np.full(len(rows), 1e-3), np.zeros(len(rows), np.intp)
    eye = np.eye(at.shape[1])
    live = np.isfinite(value)
    for _ in range(steps):
        if not live.all():
            ends[rows[~live]], objectives[rows[~live]] = u[~live], value[~live]
            rows, u, value, stalled = rows[live], u[live], value[live], stalled[live]
            slope, curve, damping = slope[live], curve[live], damping[live]
        if len(rows) == 0:
            return ends, objectives
        trial = np.clip(u + _step(slope, curve, damping, u, low, high, eye), low, high)
        new_value, new_slope, new_curve = evaluate(trial, rows)
        better = new_value <= value
        small = better & (value - new_value <= precision * value)
        stalled = np.where(better, np.where(small, stalled + 1, 0), stalled)
        value = np.where(better, new_value, value)
        u = np.where(better[:, None], trial, u)
        slope = np.where(better[:, None], new_slope, slope)
        curve = np.where(better[:, None, None], new_curve, curve)
        damping = np.where(better, np.maximum(damping / 10, 1e-12), damping * 4)
        live = (stalled < 3) & (damping <= 1e10)
    ends[rows], objectives[rows] = u, value
    return ends, objectives


def _step(
    slope: Floats, curve: Floats, damping: Floats, u: Floats, low: Floats, high: Floats, eye: Floats
) -> Floats:
    """The damped Gauss-Newton step [S, p]; a coordinate pressed against its bound stays there."""
    pressed = ((u <= low) & (slope < 0)) | ((u >= high) & (slope > 0))
    kept = ~pressed
    curve = np.where(kept[:, :, None] & kept[:, None, :], curve, 0.0)
    diagonal = np.diagonal(curve, axis1=1, axis2=2)
    top = diagonal.max(1, keepdims=True)
    lift = (
        damping[:, None] * diagonal + 1e-15 * top + np.where((diagonal == 0) | (top == 0), 1.0, 0.0)
    )
    step = np.linalg.solve(curve + lift[:, :, None] * eye, np.where(kept, slope, 0.0)[:, :, None])
    return step[:, :, 0]
