"""Bands around predictions: of the curve, or of a new observation."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fits.engine.identify import coordinate_scales, covariance
from fits.engine.problem import Problem
from fits.engine.uncertainty import resampling_tail, t_quantile

if TYPE_CHECKING:
    from fits.result import Fit

Floats = NDArray[np.float64]
QUANTILES = (np.arange(40) + 0.5) / 40  # of the residuals that each drawn curve carries
BLOCK_VALUES = 4_000_000  # of drawn curves with their residuals, held at a time


def band_of(one: "Fit", x: Mapping[str, Any], new: bool) -> tuple[Floats, Floats, Floats]:
    """(predicted, low, high) of a fit at variables x, [n] each; infinite where nothing bounds it.

    From units fitted one by one (t), else from bootstrap draws, else from the covariance (t). `new`
    adds the scatter of one more observation, but for units fitted one by one taken to be the same
    everywhere (relative, if the logarithm is fitted).
    """
    count = len(next(iter(x.values())))
    there = replace(one.problem, x=x, y=np.ones(count))
    predicted = there.predict(one.params)
    if one.unit_params:
        return predicted, *_unit_band(one, there, predicted, new)
    if one.draws:
        return predicted, *_drawn_band(one, there, predicted, new)
    spread = None if one.spare < 1 else covariance(one.problem, one.params)
    if spread is None:
        return predicted, np.full(count, -np.inf), np.full(count, np.inf)
    scales = coordinate_scales(one.problem, one.params)
    down = there.residual_jacobian(one.params, one.problem.free) * scales
    variance = np.sum((down @ spread) * down, axis=1)
    if new:
        r = one.problem.residuals(one.params)
        variance = variance + float(r @ r) / one.spare
    half = t_quantile(one.level, one.spare) * np.sqrt(np.maximum(variance, 0.0))
    if one.problem.objective.log:
        return predicted, predicted * np.exp(-half), predicted * np.exp(half)
    return predicted, predicted - half, predicted + half


def _unit_band(one: "Fit", there: Problem, predicted: Floats, new: bool) -> tuple[Floats, Floats]:
    """t band of the mean over units, around the fit of the mean; `new`: of one more unit."""
    each = np.array([there.predict(params) for params in one.unit_params])
    units = len(each)
    quantile = t_quantile(one.level, units - 1)
    half = quantile * each.std(axis=0, ddof=1) * math.sqrt(1 / units + (1 if new else 0))
    return predicted - half, predicted + half


def _drawn_band(one: "Fit", there: Problem, predicted: Floats, new: bool) -> tuple[Floats, Floats]:
    names = one.law.names
    sets = {name: np.array([[draw[name]] for draw in one.draws]) for name in names}
    drawn = there.predict(sets)
    tail = resampling_tail(one.level, one.units)
    ends = [tail, 1 - tail]
    if new:  # each drawn curve carries each residual, relative as the objective measures it
        shrunk = math.sqrt(one.points / max(one.spare, 1))  # a fit's residuals are less than noise
        tail = float(stats.norm.sf(t_quantile(one.level, one.units - 1)))
        ends = [tail, 1 - tail]
        r = shrunk * np.quantile(one.problem.residuals(one.params), QUANTILES)[None, :, None]
        log = one.problem.objective.log
        wide = max(1, BLOCK_VALUES // (len(drawn) * len(QUANTILES)))
        parts = []
        for first in range(0, len(predicted), wide):
            curves = drawn[:, None, first : first + wide]
            carried = curves * np.exp(r) if log else curves + r
            parts.append(np.quantile(carried.reshape(-1, curves.shape[2]), ends, axis=0))
        low, high = np.concatenate(parts, axis=1)
    else:
        low, high = np.quantile(drawn, ends, axis=0)
    return np.minimum(low, predicted), np.maximum(high, predicted)
