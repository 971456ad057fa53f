"""Profile likelihood: the values of one parameter that the data do not reject.

All other parameters are refitted at each value, many values side by side. A value is rejected when
the objective there exceeds the best by more than t^2 / 2 times the parameter's variance over its
element of the inverse Hessian: for squares when SSE(v) > SSE (1 + t^2 / spare), the likelihood
ratio with F quantiles; for Huber's loss the ratio-type test of M-estimators (Heritier & Ronchetti
1994), whose variance need not be the same for all points.
"""

import math
from dataclasses import dataclass

import numpy as np

from fits.engine.identify import at_zero, coordinates
from fits.engine.lanes import Lanes, bounds, outside
from fits.engine.problem import Floats, Problem
from fits.engine.solve import Solution, solve_lanes
from fits.engine.uncertainty import t_quantile
from fits.interval import Interval

# distances at which the profile is first looked at, in half widths of the covariance interval
DISTANCES = (0.6, 1.0, 1.5, 2.5, 5.0, 15.0, 100.0, 1e4)
NEAR_ZERO = (1e-6, 1e-3, 0.1, 0.3)
FINE, ROUNDS = 3, 2  # points within a bracket, and how often it is narrowed
PRECISION = 1e-8  # of a profiled objective; the limit lies far more above the best
STEPS = 100
NOISE_FREE = 1e-12  # residuals that are this part of the response are rounding
ROUNDED = 1e-7  # and by how much: the objective of residuals that small
BETTER = 1e-6  # relative: what a profile must find below the best objective to be worth a word


@dataclass(frozen=True)
class Profile:
    """The interval, and a better solution than the best if the profile came upon one."""

    interval: Interval
    better: dict[str, float] | None


def profile(
    problem: Problem, best: Solution, name: str, level: float, covariance: Floats, rise: Floats
) -> Profile:
    """Profile interval of one free parameter; a side that never rejects is open.

    covariance [p, p] of the free parameters' coordinates says where to look first, rise [p] where
    the interval ends (`fits.engine.identify`).
    """
    spare = len(problem.y) - len(problem.free)
    if spare < 1:
        return Profile(Interval(None, None, "profile", "as many parameters as points"), None)
    k = problem.free.index(name)
    if covariance[k, k] <= 0.0 or best.objective <= problem.value_of_share(NOISE_FREE):
        exact = best.params[name]
        return Profile(Interval(exact, exact, "profile", "no scatter around the law"), None)
    limit = best.objective + 0.5 * t_quantile(level, spare) ** 2 * float(rise[k])
    ends: list[float | None] = []
    better: dict[str, float] | None = None
    half = t_quantile(level, spare) * math.sqrt(covariance[k, k])
    zero = name in at_zero(problem, best.params)
    for sign in (-1.0, 1.0):
        if zero and sign < 0:  # nothing lies below
            ends.append(None)
            continue
        side = _Side(problem, best, name, covariance, sign)
        end, found = side.end(limit, side.places(half, zero))
        ends.append(end)
        better = better or found
    notes = [word for word, end in zip(("below", "above"), ends, strict=True) if end is None]
    note = f"not bounded {' and '.join(notes)}" if notes else ""
    return Profile(Interval(ends[0], ends[1], "profile", note), better)


class _Side:
    """One direction of one parameter."""

    def __init__(
        self, problem: Problem, best: Solution, name: str, covariance: Floats, sign: float
    ) -> None:
        self.problem, self.best, self.name, self.sign = problem, best, name, sign
        self.k = problem.free.index(name)
        self.centre = coordinates(problem, best.params)
        self.slant = covariance[:, self.k] / covariance[self.k, self.k]
        low, high = bounds(problem, problem.free)
        self.low, self.high = low, high
        self.bound = float((low if sign < 0 else high)[self.k])

    def places(self, half: float, zero: bool) -> Floats:
        """Coordinates to look at first, from a half width; of a scale at 0 that of its value."""
        if zero:
            return np.log(half * np.array([*NEAR_ZERO, *DISTANCES]))
        return self.centre[self.k] + self.sign * half * np.array(DISTANCES)

    def end(self, limit: float, at: Floats) -> tuple[float | None, dict[str, float] | None]:
        """(where the profile crosses the limit, a better solution met on the way)."""
        beyond = (at - self.bound) * self.sign >= 0
        if beyond.any():
            at = np.append(at[~beyond], self.bound)
        at = np.concatenate([[self.centre[self.k]], at])
        u, values = self._refit(at, self._slanted(at))
        # each place again from where the one before it ended
        u, values = self._improve(at, u, values, np.vstack([u[:1], u[:-1]]))
        better = self._better(u, values)
        out = np.flatnonzero(values > limit)
        if better or len(out) == 0 or out[0] == 0:
            return None, better
        inner, outer = out[0] - 1, out[0]
        for _ in range(ROUNDS):
            place = np.linspace(at[inner], at[outer], FINE + 2)
            towards = np.linspace(0, 1, FINE + 2)[:, None]
            near = u[inner] + towards * (u[outer] - u[inner])
            fine, fine_values = self._refit(place, near)
            fine_values[0], fine_values[-1] = values[inner], values[outer]
            at, u, values = place, fine, fine_values
            inner = int(np.flatnonzero(values > limit)[0]) - 1
            outer = inner + 1
        if self._at_bound(u[inner]):
            return None, None  # a bound of the law made this end, not the data
        rise = np.sqrt(np.maximum(values[[inner, outer]] - self.best.objective, 0.0))
        wanted = math.sqrt(max(limit - self.best.objective, 0.0))
        part = (wanted - rise[0]) / max(rise[1] - rise[0], 1e-300)
        end = at[inner] + min(max(part, 0.0), 1.0) * (at[outer] - at[inner])
        return float(outside(self.problem, self.name, end)), None

    def _slanted(self, at: Floats) -> Floats:
        """Where the other coordinates would be if the objective were a parabola."""
        near = self.centre + (at - self.centre[self.k])[:, None] * self.slant
        return np.clip(near, self.low, self.high)

    def _refit(self, at: Floats, near: Floats) -> tuple[Floats, Floats]:
        """(coordinates [S, p], objectives [S]) with this parameter kept at each value."""
        names = self.problem.free
        held = {self.name: np.asarray(outside(self.problem, self.name, at))}
        start = {n: outside(self.problem, n, near[:, j]) for j, n in enumerate(names)}
        lanes = Lanes(self.problem.y[None], None, held)
        found, values = solve_lanes(self.problem, start, lanes, len(at), STEPS, PRECISION)
        rows = [
            coordinates(self.problem, {n: v[k] for n, v in found.items()}) for k in range(len(at))
        ]
        return np.array(rows), values

    def _improve(
        self, at: Floats, u: Floats, values: Floats, near: Floats
    ) -> tuple[Floats, Floats]:
        again, again_values = self._refit(at, near)
        lower = again_values < values
        return np.where(lower[:, None], again, u), np.where(lower, again_values, values)

    def _better(self, u: Floats, values: Floats) -> dict[str, float] | None:
        k = int(values.argmin())
        floor = max(self.best.objective * (1 - BETTER), 0.0)
        if not values[k] < floor - self.problem.value_of_share(ROUNDED):
            return None
        return {
            n: float(outside(self.problem, n, u[k, j])) for j, n in enumerate(self.problem.free)
        }

    def _at_bound(self, u: Floats) -> bool:
        searched, asked = self.problem.searched, self.problem.bounds  # what is asked for is known
        return any(
            u[j] in (self.low[j], self.high[j])
            for j, n in enumerate(self.problem.free)
            if n in searched and n not in asked and j != self.k
        )


def profile_intervals(
    problem: Problem, best: Solution, level: float, covariance: Floats, rise: Floats
) -> tuple[dict[str, Interval], dict[str, float] | None]:
    """(interval of every free parameter, a better solution if one was met)."""
    intervals = {}
    for name in problem.free:
        one = profile(problem, best, name, level, covariance, rise)
        if one.better is not None:
            return {}, one.better
        intervals[name] = one.interval
    return intervals, None
