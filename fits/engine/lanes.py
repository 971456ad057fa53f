"""S fits of one law side by side, a lane each: what differs between them, and their coordinates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fits.engine.problem import Floats, Problem

Params = dict[str, Floats]  # parameter -> values [S]
_TINY = 1e-300


@dataclass(frozen=True)
class Lanes:
    """What differs between S fits of one problem.

    y [S, n] or [1, n]; weights [S, n] of the points, or None; values [S] of pinned parameters.
    """

    y: Floats
    weights: Floats | None = None
    pinned: Mapping[str, Floats] = field(default_factory=dict)

    def take(self, rows: NDArray[np.intp]) -> "Lanes":
        """Some of the lanes."""
        return Lanes(
            self.y if len(self.y) == 1 else self.y[rows],
            None if self.weights is None else self.weights[rows],
            {name: values[rows] for name, values in self.pinned.items()},
        )


def inside(problem: Problem, names: tuple[str, ...], values: Floats) -> Floats:
    """Coordinates [S, p] of parameters [S, p]: scales by their logarithm."""
    logs = np.array([problem.by_log(name) for name in names])
    return np.where(logs, np.log(np.maximum(values, _TINY)), values)


def outside(problem: Problem, name: str, u: Floats) -> Floats:
    """Values of one parameter from its coordinates."""
    return np.exp(np.minimum(u, 690.0)) if problem.by_log(name) else u


def bounds(problem: Problem, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Lowest and highest coordinates, [p] each."""
    ends = np.array([problem.limits(name) for name in names], np.float64).reshape(-1, 2)
    logs = np.array([problem.by_log(name) for name in names], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.where(logs[:, None], np.log(ends), ends)
    return ends[:, 0], ends[:, 1]
