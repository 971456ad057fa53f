"""Finds the parameters of a law: many starts, exact gradients, nothing believed on its word.

Squared residuals: parameters that enter linearly are eliminated (variable projection, Golub &
Pereyra 1973), the search runs over the others alone. Huber on the logarithm: all parameters at
once, coefficients by their logarithm, started where variable projection ends. Objectives are sums,
scaled to about one before scipy sees them: a mean of small losses stops L-BFGS early (with SciPy's
defaults 27 % above the optimum on Epoch's 240 points), and its `success` is not asked.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fits.form import Law, Objective

Floats = NDArray[np.float64]

HUBER_DELTA = 1e-3
AGREE = 1e-6  # relative to the best objective, a start that ends this near agrees with it
EXACT = 1e-10  # relative residual of a start that found noise-free numbers again: it agrees too
PRECISION = 1e-13  # relative decrease of the objective below which a step has stalled
MAX_FULL_STARTS = 16  # of the ends of variable projection, for objectives it does not settle
MAX_STEPS = 100  # of variable projection; a regular law needs ten, a flat valley all of them
_COMPLEX_STEP = 1e-30
_TINY = 1e-300


@dataclass(frozen=True)
class Solution:
    """Best parameters found, the objective there, and how many starts ended at it."""

    params: dict[str, float]
    objective: float
    starts: int
    agree: int


@dataclass(frozen=True)
class Problem:
    """A law on data. `pinned` parameters keep their value. `x` maps variable to values [n]."""

    law: Law
    x: Mapping[str, Floats]
    y: Floats
    objective: Objective
    pinned: Mapping[str, float]

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that are fitted."""
        return tuple(name for name in self.law.names if name not in self.pinned)

    @property
    def linear(self) -> tuple[str, ...]:
        """Free parameters that are eliminated."""
        return tuple(name for name in self.free if name in self.law.linear)

    @property
    def searched(self) -> tuple[str, ...]:
        """Free parameters that are not."""
        return tuple(name for name in self.free if name not in self.law.linear)

    def predict(self, params: Mapping[str, Any]) -> Any:
        """The law at these parameters, [n]."""
        return self.law.predict(params, self.x) + np.zeros(len(self.y))

    def residuals(self, params: Mapping[str, float]) -> Floats:
        """Observed less predicted, [n]; of the logarithm for huber-log."""
        predicted = self.predict(params)
        if self.objective == "huber-log":
            return np.asarray(np.log(self.y) - np.log(np.maximum(predicted, _TINY)))
        return np.asarray(self.y - predicted)

    def value(self, params: Mapping[str, float]) -> float:
        """The objective, a sum over points."""
        r = self.residuals(params)
        if self.objective == "squares":
            return float(r @ r)
        small = np.abs(r) <= HUBER_DELTA
        loss = np.where(small, 0.5 * r**2, HUBER_DELTA * (np.abs(r) - 0.5 * HUBER_DELTA))
        return float(loss.sum())

    def jacobian(self, params: Mapping[str, float], names: tuple[str, ...]) -> Floats:
        """Derivatives of the prediction, [n, len(names)], by complex step."""
        columns = []
        for name in names:
            step = _COMPLEX_STEP * max(1.0, abs(params[name]))
            moved: dict[str, complex] = {**params, name: params[name] + 1j * step}
            columns.append(np.imag(self.predict(moved)) / step)
        return np.array(columns, np.float64).reshape(len(names), len(self.y)).T

    def slope(self, params: Mapping[str, float], names: tuple[str, ...]) -> Floats:
        """Gradient of the objective, [len(names)]."""
        r = self.residuals(params)
        down = self.jacobian(params, names)
        if self.objective == "squares":
            return np.asarray(-2 * (down.T @ r))
        weight = np.clip(r, -HUBER_DELTA, HUBER_DELTA) / np.maximum(self.predict(params), _TINY)
        return np.asarray(-(down.T @ weight))


def solve(
    problem: Problem, near: Mapping[str, float] | None = None, precision: float = PRECISION
) -> Solution:
    """The best parameters from all starts of the law, or from `near` alone."""
    if problem.objective == "squares":
        return _best(problem, _project_all(problem, near, precision))
    if near is not None:
        return _best(problem, [_descend(problem, near)])
    ahead = sorted(_project_all(problem, None, precision), key=problem.value)[:MAX_FULL_STARTS]
    return _best(problem, [_descend(problem, start) for start in ahead])


def _best(problem: Problem, ends: list[dict[str, float]]) -> Solution:
    values = np.array([problem.value(end) for end in ends])
    values = np.where(np.isfinite(values), values, np.inf)
    best = int(values.argmin())
    size = problem.y @ problem.y if problem.objective == "squares" else len(problem.y)
    agree = int(np.sum(values <= values[best] * (1 + AGREE) + EXACT**2 * size))
    return Solution(ends[best], float(values[best]), len(ends), agree)


# Variable projection ------------------------------------------------------------------------


def _project_all(
    problem: Problem, near: Mapping[str, float] | None, precision: float
) -> list[dict[str, float]]:
    """Where variable projection of the squared residuals ends, from every start."""
    squares = Problem(problem.law, problem.x, problem.y, "squares", problem.pinned)
    if near is not None:
        starts = [tuple(near[name] for name in squares.searched)]
    else:
        grids = [problem.law.parameter(name).starts for name in squares.searched]
        starts = list(itertools.product(*grids))
    return [_project(squares, np.array(start, np.float64), precision) for start in starts]


def _with_linear(problem: Problem, searched: Floats) -> tuple[dict[str, float], Floats]:
    """All parameters, the linear ones by (bounded) least squares; and their columns, [n, k]."""
    params = dict(zip(problem.searched, map(float, searched), strict=True)) | dict(problem.pinned)
    names = problem.linear
    if not names:
        return params, np.zeros((len(problem.y), 0))
    zero = dict.fromkeys(names, 0.0)
    fixed = problem.predict({**params, **zero})
    columns = np.stack(
        [problem.predict({**params, **zero, name: 1.0}) - fixed for name in names], axis=1
    )
    size = np.sqrt(np.sum(columns**2, axis=0))
    columns = columns / np.where(size > 0, size, 1.0)
    low = np.array([problem.law.parameter(name).low for name in names])
    if np.all(np.isinf(low)):
        found = np.linalg.lstsq(columns, problem.y - fixed, rcond=None)[0]
    else:
        bounds = (np.where(np.isinf(low), -np.inf, low * size), np.inf)
        found = optimize.lsq_linear(columns, problem.y - fixed, bounds, method="bvls").x
        columns = columns[:, found > 0]  # the others do not move with the exponents
    values = found / np.where(size > 0, size, 1.0)
    return params | dict(zip(names, map(float, values), strict=True)), columns


def _project(problem: Problem, start: Floats, precision: float) -> dict[str, float]:
    """Levenberg-Marquardt on the projected residuals, with Kaufman's Jacobian (1975)."""
    names = problem.searched
    low = np.array([problem.law.parameter(n).low for n in names])
    high = np.array([problem.law.parameter(n).high for n in names])
    at = np.clip(start, low, high)
    params, columns = _with_linear(problem, at)
    value = problem.value(params)
    damping, stalled = 1e-3, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(MAX_STEPS if names else 0):
            if stalled >= 3 or damping > 1e10:
                break
            basis, _ = np.linalg.qr(columns)
            slope = -problem.jacobian(params, names)
            slope = slope - basis @ (basis.T @ slope)  # less what the linear ones make good
            normal = slope.T @ slope
            lift = damping * np.diag(np.diag(normal)) + _TINY * np.eye(len(names))
            down = slope.T @ problem.residuals(params)
            step = np.linalg.lstsq(normal + lift, -down, rcond=None)[0]
            trial = np.clip(at + step, low, high)
            trial_params, trial_columns = _with_linear(problem, trial)
            trial_value = problem.value(trial_params)
            if trial_value <= value:
                stalled = stalled + 1 if value - trial_value <= precision * value else 0
                at, params, columns, value = trial, trial_params, trial_columns, trial_value
                damping = max(1e-12, damping / 10)
            else:
                damping *= 4
    return params


# All parameters at once ---------------------------------------------------------------------


def _descend(problem: Problem, start: Mapping[str, float]) -> dict[str, float]:
    """L-BFGS over all free parameters; positive coefficients by their logarithm."""
    names = problem.free
    by_log = np.array([problem.law.parameter(n).low == 0.0 for n in names])

    def outside(u: Floats) -> dict[str, float]:
        values = np.where(by_log, np.exp(np.minimum(u, 600.0)), u)
        return dict(zip(names, map(float, values), strict=True)) | dict(problem.pinned)

    def value_and_slope(u: Floats) -> tuple[float, Floats]:
        params = outside(u)
        inner = np.array([params[n] if log else 1.0 for n, log in zip(names, by_log, strict=True)])
        return problem.value(params) / scale, problem.slope(params, names) * inner / scale

    at = np.array([start[n] for n in names], np.float64)
    at = np.where(by_log, np.log(np.maximum(at, 1e-12)), at)
    bounds = [
        (None, None) if log else (problem.law.parameter(n).low, problem.law.parameter(n).high)
        for n, log in zip(names, by_log, strict=True)
    ]
    scale = 1.0
    for _ in range(8):
        scale = max(problem.value(outside(at)), _TINY)
        found = optimize.minimize(
            value_and_slope,
            at,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-10},
        )
        done = found.fun > 1 - 1e-10
        at = found.x
        if done:
            break
    return outside(at)
