"""Parabolas through losses: where they have their vertex, and how sharply they bend."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parabola:
    """y = least + bend (x - vertex)^2 of each column [k]; `vertex` and `least` are NaN where it
    has no minimum."""

    bend: Floats
    vertex: Floats
    least: Floats

    def why_none(self, low: float, high: float, what: str) -> NDArray[np.str_]:
        """Why a vertex is no optimum among the `what` tried, low..high; "" where it is one."""
        below, above = f"the vertex is below the {what} tried", f"the vertex is above the {what}"
        why = np.where(
            self.vertex <= low, below, np.where(self.vertex >= high, f"{above} tried", "")
        )
        return np.where(np.isnan(self.vertex), "the parabola has no minimum", why)


def parabola(x: Floats, y: Floats) -> Parabola:
    """By least squares through y [n, k] over x [n], three places or more."""
    centre = x.mean()
    bend, slope, height = np.polyfit(x - centre, y, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(bend > 0, centre - slope / (2 * bend), np.nan)
        least = np.where(bend > 0, height - slope**2 / (4 * bend), np.nan)
    return Parabola(bend, vertex, least)
