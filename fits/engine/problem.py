"""A law on data: which parameters are free, within which bounds, and what it predicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.engine.dual import Dual, value_of
from fits.engine.objective import Objective
from fits.form import Law

Floats = NDArray[np.float64]

MAX_BOUNDED = 3  # linear parameters with a bound: each doubles the least squares to be solved


@dataclass(frozen=True)
class Problem:
    """A law, its data and what is asked of its parameters.

    x: variable -> values [n]; y [n]. `pinned` parameters keep a value, `tied` ones take that of
    another, `bounds` replace the law's own.
    """

    law: Law
    x: Mapping[str, Any]
    y: Floats
    objective: Objective
    pinned: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

    # Parameters ------------------------------------------------------------------------------

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that are fitted."""
        return tuple(n for n in self.law.names if n not in self.pinned and n not in self.tied)

    @property
    def linear(self) -> tuple[str, ...]:
        """Free parameters that variable projection eliminates.

        Bounded ones are searched, but for a few that only must not be negative.
        """
        names = [n for n in self.free if n in self.law.linear]
        plain = [n for n in names if self.limits(n) == (-np.inf, np.inf)]
        positive = [n for n in names if self.limits(n) == (0.0, np.inf)]
        taken = {*plain, *(positive if len(positive) <= MAX_BOUNDED else [])}
        return tuple(name for name in names if name in taken)

    @property
    def searched(self) -> tuple[str, ...]:
        """Free parameters that are not eliminated."""
        linear = self.linear
        return tuple(name for name in self.free if name not in linear)

    def limits(self, name: str) -> tuple[float, float]:
        """Bounds of a parameter."""
        own = self.law.parameter(name)
        return self.bounds.get(name, (own.low, own.high))

    def by_log(self, name: str) -> bool:
        """Whether a parameter is searched by its logarithm: a scale, with lower bound 0."""
        return self.limits(name)[0] == 0.0

    def complete(self, free: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters of the law from the free ones."""
        known = {**self.pinned, **free}
        return {name: known[self.tied.get(name, name)] for name in self.law.names}

    # Predictions -----------------------------------------------------------------------------

    def predict(self, params: Mapping[str, Any]) -> Floats:
        """The law at these parameters, [n]; at arrays [S, 1] of them, [S, n]."""
        predicted = np.asarray(value_of(self.law.predict(params, self.x)), np.float64)
        return np.broadcast_to(predicted, (*predicted.shape[:-1], len(self.y))).copy()

    def residuals(self, params: Mapping[str, Any]) -> Floats:
        """Observed less predicted, [n]; of the logarithm where the objective takes it."""
        return self.objective.residuals(self.y, self.predict(params))

    def value(self, params: Mapping[str, float]) -> float:
        """The objective, a sum over points; infinite where the law has no value."""
        total = float(self.objective.losses(self.residuals(params)).sum())
        return total if np.isfinite(total) else np.inf

    def value_of_share(self, share: float) -> float:
        """The objective if every residual were this share of the response: a scale for rounding."""
        size = np.ones_like(self.y) if self.objective.log else self.y
        return float(self.objective.losses(share * size).sum())

    def jacobian(self, params: Mapping[str, float], names: tuple[str, ...]) -> Floats:
        """Derivatives of the prediction by free parameters, [n, len(names)]."""
        free: dict[str, Any] = {name: params[name] for name in self.free}
        for name in names:
            free[name] = Dual(params[name], {name: 1.0})
        found = self.law.predict(self.complete(free), self.x)
        slopes = found.slopes if isinstance(found, Dual) else {}
        points = len(self.y)
        columns = [np.broadcast_to(slopes.get(name, 0.0), (points,)) for name in names]
        return np.array(columns, np.float64).reshape(len(names), points).T

    def residual_jacobian(self, params: Mapping[str, float], names: tuple[str, ...]) -> Floats:
        """Minus the derivatives of the residuals, [n, len(names)]."""
        slopes = self.jacobian(params, names)
        return slopes / self.predict(params)[:, None] if self.objective.log else slopes
