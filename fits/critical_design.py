"""Which trunk seeds and ratios to measure next, so that a critical ratio's interval gets narrow.

`fits.designing` takes points as independent; branches off one trunk are not: they share the trunk's
deviation. So the change of general loss in trunk seed i at ratio R is believed to be

    y = eps + c0 + c1 (R^s - P^s) + c2 (R^s ln R - P^s ln P) + a_i + e

(the law `cmr-ratio`, alpha R^s + beta, about its critical ratio P, c2 for what s is off), with
normal priors on c0, c1, c2, a_i ~ N(0, seed_sd^2), e ~ N(0, branch_sd^2): a linear mixed model, its
posterior in closed form. What a design would read is then asked of the reader itself
(`fits.critical.critical_ratio`) on the table that is expected of it: of seeds that are known with
their own deviations, of new ones with deviations of the believed size.

The reading drops a seed that lacks a ratio, so a design is always seeds x ratios; its ratios are
neighbours in the grid, so that none is skipped inside the interval. Of the designs that are
expected to be narrow enough the cheapest is taken, and a round is its first step: half of the seeds
that it lacks, or, where it lacks none, its ratios.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fits.critical import Critical, critical_ratio
from fits.engine.uncertainty import t_quantile

Floats = NDArray[np.float64]
Cell = tuple[int, float]  # (trunk seed, ratio)

_CLOSE = 1.01  # of widths: as good as the narrowest
_STEP = 1e-4  # in R, of a slope


@dataclass(frozen=True)
class Prior:
    """What is believed before anything runs; sd in the unit of their number, nats where not said.

    place: the critical ratio at `eps`. alpha, s: of `alpha R^s + beta`. seed_sd: between trunk
    seeds. branch_sd: between branches off one trunk at one ratio, what the curve departs from the
    law included. Both sd are known as well as `weight` degrees of freedom would tell.
    """

    eps: float
    place: float
    place_sd: float
    alpha: float
    alpha_sd: float
    s: float
    s_sd: float
    seed_sd: float
    weight: float
    branch_sd: float


@dataclass(frozen=True, eq=False)
class Belief:
    """A prior, and the changes (nats) measured so far by (trunk seed, ratio), ratios in (0, 1)."""

    prior: Prior
    known: Mapping[Cell, float]

    @cached_property
    def seeds(self) -> list[int]:
        """Trunk seeds with a measured change, in the order of `known`."""
        return list(dict.fromkeys(seed for seed, _ in self.known))

    @cached_property
    def ratios(self) -> list[float]:
        """Ratios with a measured change, ascending."""
        return sorted({ratio for _, ratio in self.known})

    @cached_property
    def spare(self) -> float:
        """Degrees of freedom behind the sd between seeds, those of the prior included."""
        return self.prior.weight + max(0, len(self.seeds) - 1)

    @cached_property
    def seed_sd(self) -> float:
        """Between trunk seeds: pooled over ratios, the prior weighed in. Seeds are the units."""
        by_ratio = [[y for (_, r), y in self.known.items() if r == ratio] for ratio in self.ratios]
        several = [np.var(each, ddof=1) for each in by_ratio if len(each) > 1]
        own = float(np.mean(several)) if several else self.prior.seed_sd**2
        weight = self.prior.weight
        return math.sqrt(
            (weight * self.prior.seed_sd**2 + (self.spare - weight) * own) / self.spare
        )

    @cached_property
    def branch_sd(self) -> float:
        """Between branches off one trunk: what ratios and seeds do not add up to, and the prior."""
        wide = pd.Series(self.known).unstack().dropna() if self.known else pd.DataFrame()
        spare = max(0, wide.shape[0] - 1) * max(0, wide.shape[1] - 1)
        weight, variance = self.prior.weight, self.prior.branch_sd**2
        if not spare:
            return self.prior.branch_sd
        each = wide.to_numpy()
        left = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True) + each.mean()
        return math.sqrt((weight * variance + float(np.sum(left**2))) / (weight + spare))

    def _basis(self, ratios: Floats) -> Floats:
        """Columns [m, 3] of c0, c1, c2."""
        prior = self.prior
        power, at = ratios**prior.s, prior.place**prior.s
        bent = power * np.log(ratios) - at * math.log(prior.place)
        return np.stack([np.ones_like(ratios), power - at, bent], axis=1)

    def _rows(self, cells: Sequence[Cell]) -> Floats:
        """Columns [m, 3 + known seeds]: the curve, and the seed's own deviation."""
        ratios = np.array([ratio for _, ratio in cells], np.float64)
        own = np.array([[float(seed == one) for one in self.seeds] for seed, _ in cells])
        return np.hstack([self._basis(ratios), own.reshape(len(cells), len(self.seeds))])

    @cached_property
    def _posterior(self) -> tuple[Floats, Floats]:
        """Mean [k] and covariance [k, k] of c0, c1, c2 and the known seeds' deviations."""
        prior = self.prior
        slope = prior.alpha * prior.s * prior.place ** (prior.s - 1)
        sd = [prior.place_sd * slope, prior.alpha_sd, prior.alpha * prior.s_sd]
        precision = np.diag(np.array([*sd, *[self.seed_sd for _ in self.seeds]]) ** -2.0)
        centre = np.array([0.0, prior.alpha, 0.0, *[0.0 for _ in self.seeds]])
        if not self.known:
            return centre, np.asarray(np.linalg.inv(precision), np.float64)
        rows = self._rows(list(self.known))
        y = np.array(list(self.known.values())) - prior.eps
        weight = self.branch_sd**-2
        covariance = np.asarray(np.linalg.inv(precision + weight * rows.T @ rows), np.float64)
        mean = np.asarray(covariance @ (precision @ centre + weight * rows.T @ y), np.float64)
        return mean, covariance

    def predict(self, cells: Sequence[Cell], level: float = 0.95) -> tuple[Floats, Floats, Floats]:
        """Change (nats) that each cell will measure, and the ends of its interval: arrays [m]."""
        rows, (mean, covariance) = self._rows(cells), self._posterior
        new = np.array([seed not in self.seeds for seed, _ in cells])
        variance = np.sum((rows @ covariance) * rows, axis=1) + self.branch_sd**2
        half = t_quantile(level, self.spare) * np.sqrt(variance + new * self.seed_sd**2)
        middle = self.prior.eps + rows @ mean
        return middle, middle - half, middle + half

    def crossing(self, grid: Sequence[float]) -> float:
        """Where the expected curve reaches eps; an end of the grid where it does so beyond it."""
        fine = np.linspace(grid[0], grid[-1], 401)
        over = self._basis(fine) @ self._posterior[0][:3] > 0
        return float(fine[np.argmax(over)]) if over.any() else float(grid[-1])

    def slope(self, place: float) -> float:
        """Of the expected curve there, in nats by unit of R."""
        ends = self._basis(np.array([place - _STEP, place + _STEP])) @ self._posterior[0][:3]
        return float(ends[1] - ends[0]) / (2 * _STEP)

    def reads(self, seeds: Sequence[int], ratios: Sequence[float]) -> Critical:
        """What the reading of seeds x ratios is expected to be."""
        cells = [(seed, ratio) for seed in seeds for ratio in ratios]
        change = self.predict(cells)[0].reshape(len(seeds), len(ratios))
        if all(seed in self.seeds for seed in seeds):
            change = np.array([[self.known.get((i, r), np.nan) for r in ratios] for i in seeds])
            filled = self.predict(cells)[0].reshape(change.shape)
            change = np.where(np.isnan(change), filled, change)
        else:
            spread = np.linspace(-1.0, 1.0, len(seeds))
            spread *= self.seed_sd / spread.std(ddof=1)
            curve = self._basis(np.array(ratios)) @ self._posterior[0][:3]
            change = self.prior.eps + curve + spread[:, None]
        units, places = zip(*cells, strict=True)
        table = pd.DataFrame({"unit": units, "ratio": places, "change": change.ravel()})
        return critical_ratio(table, self.prior.eps)


def full_width(one: Critical) -> float:
    """Of the interval; infinite where an end is open."""
    if one.ratio is None or one.low is None or one.high is None:
        return math.inf
    return one.high - one.low


@dataclass(frozen=True)
class Step:
    """The cells to measure next (none: nothing narrows it), and what is expected of them.

    expected: the reading after them. seeds: trunk seeds believed to be needed. reach: the width
    (in R) expected of every seed at every ratio.
    """

    cells: Sequence[Cell]
    expected: Critical
    seeds: int
    reach: float


@dataclass(frozen=True, eq=False)
class Choice:
    """What there is to choose from: trunk seeds as listed, the grid of ratios in (0, 1) ascending.

    open: whether a cell that was not measured can be. price: what a set of cells costs.
    """

    belief: Belief
    seeds: Sequence[int]
    grid: Sequence[float]
    open: Callable[[Cell], bool]
    price: Callable[[Sequence[Cell]], float]

    def step(self, wanted: float, now: Critical | None) -> Step:
        """The next cells towards a width (in R); `now` is the reading so far, if there is one."""
        belief, known = self.belief, self._ranked()
        if len(known) < 2:  # the others diverged: no interval can be had
            return Step([], Critical(None, None, None, "", tuple(self.grid), 0), 2, math.inf)
        begun = len([seed for seed in known if seed in belief.seeds])
        count, places = self._cheapest(known, begun, wanted)
        base = self._base()
        if count > begun:  # seeds first: they tell how many more, and which ratios, are needed
            more = 2 - begun if begun < 2 else -(-(count - begun) // 2)
            seeds, ratios = known[: min(begun + more, len(known))], base
        else:
            seeds, ratios = known[:begun], list(places)
        cells = self._missing(seeds, ratios)
        if not cells:
            seeds, ratios = self._against_belief(known, begun, now)
            cells = self._missing(seeds, ratios)
        expected = belief.reads(seeds, ratios)
        reach = full_width(belief.reads(known, self.grid))
        return Step(cells, expected, count, reach)

    def _ranked(self) -> list[int]:
        """Trunk seeds that can be whole, those begun first."""
        base = self._base()
        whole = [
            seed
            for seed in self.seeds
            if all((seed, r) in self.belief.known or self.open((seed, r)) for r in base)
        ]
        return sorted(whole, key=lambda seed: seed not in self.belief.seeds)

    def _base(self) -> list[float]:
        """Neighbours in the grid, from the least ratio to the largest that are known or needed."""
        place = self.belief.crossing(self.grid)
        below = max([r for r in self.grid if r < place], default=self.grid[0])
        above = min([r for r in self.grid if r > below and r >= place], default=self.grid[-1])
        ends = [*self.belief.ratios, below, above]
        return [ratio for ratio in self.grid if min(ends) <= ratio <= max(ends)]

    def _cheapest(self, known: list[int], begun: int, wanted: float) -> tuple[int, Sequence[float]]:
        """(seeds, ratios) of the cheapest design that is expected to be narrow enough, if any.

        Otherwise of the narrowest.
        """
        base = self._base()
        first, last = self.grid.index(base[0]), self.grid.index(base[-1])
        designs: list[tuple[float, float, int, Sequence[float]]] = []
        for low in range(first, -1, -1):
            for high in range(last + 1, len(self.grid) + 1):
                ratios = self.grid[low:high]
                count, width = self._fewest(known, begun, ratios, wanted)
                cost = self.price(self._missing(known[:count], ratios))
                designs.append((width, cost, count, ratios))
        enough = [one for one in designs if one[0] <= wanted]
        if not enough:
            least = min(width for width, *_ in designs)
            enough = [one for one in designs if one[0] <= _CLOSE * least]
        _, _, count, ratios = min(enough, key=lambda one: one[1:3])
        return count, ratios

    def _fewest(
        self, known: list[int], begun: int, ratios: Sequence[float], wanted: float
    ) -> tuple[int, float]:
        """The fewest seeds whose expected reading is narrow enough, else all; and its width."""
        low, high = max(2, begun), len(known)
        width = full_width(self.belief.reads(known[:low], ratios))
        if width <= wanted or high <= low:
            return low, width
        best = full_width(self.belief.reads(known, ratios))
        if best > wanted:
            return high, best
        while high - low > 1:  # `low` is too few, `high` is enough
            middle = (low + high) // 2
            width = full_width(self.belief.reads(known[:middle], ratios))
            low, high, best = (low, middle, width) if width <= wanted else (middle, high, best)
        return high, best

    def _missing(self, seeds: Sequence[int], ratios: Sequence[float]) -> list[Cell]:
        cells = [(seed, ratio) for seed in seeds for ratio in ratios]
        return [one for one in cells if one not in self.belief.known and self.open(one)]

    def _against_belief(
        self, known: list[int], begun: int, now: Critical | None
    ) -> tuple[list[int], list[float]]:
        """Where the design that should do is there and does not: to the open end, else a seed."""
        base = self._base()
        first, last = self.grid.index(base[0]), self.grid.index(base[-1])
        if now is not None and full_width(now) == math.inf:
            low_open = now.low is None or now.censored == "<"
            high_open = now.high is None or now.censored == ">"
            wider = self.grid[first - (low_open and first > 0) : last + 1 + high_open]
            if len(wider) > len(base):
                return known[:begun], list(wider)
        return known[: begun + 1], base
