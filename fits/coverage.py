"""How often a 95 % interval holds the truth, measured on synthetic data sets.

    python -m fits.coverage --sets 400 --to coverage.png --json coverage.json

Each set is a law's values at known parameters with fresh noise. An interval covers as it says if it
holds the true parameter in 95 % of the sets. Profiles are asked at the truth alone, all sets side
by side: the interval holds a value just when the profile does not reject it. The other methods are
those of `fits.fit`, set by set. Every fit starts at the truth: intervals are measured here, not
starts.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fits.asked import Method
from fits.engine.identify import identify
from fits.engine.lanes import Lanes
from fits.engine.objective import objective as objective_named
from fits.engine.problem import Problem
from fits.engine.solve import Solution, solve_lanes
from fits.engine.uncertainty import covariance_intervals, t_quantile
from fits.errors import Failed, Refused
from fits.fitting import fit
from fits.form import Law
from fits.interval import Interval
from fits.laws import law
from fits.result import Fit

Floats = NDArray[np.float64]

LEVEL = 0.95
ACCEPTED = (0.90, 0.98)  # of sets: what an interval of 95 % may cover
STEPS, PRECISION = 3000, 1e-14


@dataclass(frozen=True)
class Design:
    """Where the law is measured, and what noise its values get.

    x: variable -> values [n]; unit [n] the independent unit of each row; held_out: variable -> one
    value, where predictions are asked for. noise: standard deviation of a row's own (relative if
    `log`), by Student's t of `tails` degrees of freedom if that is not 0; scatter: parameter ->
    standard deviation between units, whose curves are their own.
    """

    name: str
    law: Law
    truth: Mapping[str, float]
    x: Mapping[str, Floats]
    unit: NDArray[np.intp]
    held_out: Mapping[str, float]
    noise: float
    log: bool = False
    tails: int = 0
    scatter: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def exact(self) -> float:
        """The law's value at the point held out."""
        x = {name: np.array([value]) for name, value in self.held_out.items()}
        return float(self.law.predict(self.truth, x)[0])

    def draw(self, sets: int, seed: int = 0) -> Floats:
        """Noisy values of `sets` data sets, [sets, n + 1]; the one held out is of a new unit."""
        random = np.random.default_rng(seed)
        unit = np.append(self.unit, self.unit.max() + 1)
        x = {name: np.append(values, self.held_out[name]) for name, values in self.x.items()}
        params = {
            name: value + self.scatter.get(name, 0.0) * random.normal(size=(sets, unit[-1] + 1))
            for name, value in self.truth.items()
        }
        y = np.asarray(self.law.predict({n: value[:, unit] for n, value in params.items()}, x))
        noise = random.normal(size=y.shape)
        if self.tails:  # of the same standard deviation
            noise = random.standard_t(self.tails, y.shape) * np.sqrt(1 - 2 / self.tails)
        return y * np.exp(self.noise * noise) if self.log else y + self.noise * noise

    def problem(self, objective: str, y: Floats) -> Problem:
        """One data set [n] to be fitted."""
        return Problem(self.law, dict(self.x), y, objective_named(objective))


@dataclass(frozen=True)
class Coverage:
    """Of `sets` intervals of one quantity, `hits` held the truth."""

    design: str
    objective: str
    method: str
    quantity: str
    hits: int
    sets: int

    @property
    def share(self) -> float:
        return self.hits / self.sets

    @property
    def error_bar(self) -> tuple[float, float]:
        """95 % binomial interval of the share (Clopper & Pearson 1934)."""
        found = stats.binomtest(self.hits, self.sets).proportion_ci(LEVEL)
        return float(found.low), float(found.high)


# Designs ------------------------------------------------------------------------------------


def sizes_and_tokens(tails: int = 0) -> Design:
    """Chinchilla's form on 5 sizes and 8 token counts, the optimum of 2404.10102, noise of 1 %."""
    chinchilla = law("chinchilla")
    n, d = np.meshgrid(np.geomspace(5e7, 1.6e10, 5), np.geomspace(1e9, 5e11, 8))
    return Design(
        name="chinchilla, 5 x 8 points" + (f", t{tails} noise" if tails else ""),
        law=chinchilla,
        truth=chinchilla.published["2404.10102"],
        x={"n_params": n.ravel(), "n_tokens": d.ravel()},
        unit=np.arange(n.size),
        held_out={"n_params": 7e10, "n_tokens": 1.4e12},
        noise=0.01,
        log=True,
        tails=tails,
    )


def ratios(count: int, seeds: int, tilted: bool = False) -> Design:
    """CMR's ratio law, all ratios of every seed; several seeds are shifted each, or tilted too.

    Tilted, seeds scatter most at the point held out: no band that takes the scatter to be the same
    everywhere can be right there.
    """
    ratio = np.linspace(0.1, 0.9, count)
    return Design(
        name=f"cmr-ratio, {count} ratios x {seeds} seed{'s' if seeds > 1 else ''}"
        + (" that tilt" if tilted else ""),
        law=law("cmr-ratio"),
        truth={"alpha": -0.4, "s": 0.3, "beta": 1.9},
        x={"ratio_domain": np.tile(ratio, seeds)},
        unit=np.repeat(np.arange(seeds), count),
        held_out={"ratio_domain": 1.0},
        noise=1e-3,
        scatter={**({"beta": 2e-3} if seeds > 1 else {}), **({"alpha": 4e-3} if tilted else {})},
    )


# Methods ------------------------------------------------------------------------------------


def by_curvature(design: Design, objective: str, sets: int) -> list[Coverage]:
    """Profile and covariance intervals, and the bands that go with them; all sets side by side."""
    drawn = design.draw(sets)
    hits: dict[tuple[str, str], int] = {}
    for one in side_by_side(design, objective, drawn):
        for key, held in one.items():
            hits[key] = hits.get(key, 0) + int(held)
    return [
        Coverage(design.name, objective, method, quantity, number, sets)
        for (method, quantity), number in sorted(hits.items())
    ]


def side_by_side(
    design: Design, objective: str, drawn: Floats
) -> Iterator[dict[tuple[str, str], bool]]:
    """For each data set of [sets, n + 1]: (method, quantity) -> whether it held the truth."""
    y, new, sets = drawn[:, :-1], drawn[:, -1], len(drawn)
    problem = design.problem(objective, y[0])
    start = {name: np.full(sets, value) for name, value in design.truth.items()}
    best, values = solve_lanes(problem, start, Lanes(y), sets, STEPS, PRECISION)
    at_truth = {
        name: np.minimum(
            *(
                solve_lanes(
                    problem,
                    near,
                    Lanes(y, None, {name: np.full(sets, design.truth[name])}),
                    sets,
                    STEPS,
                    PRECISION,
                )[1]
                for near in (start, best)
            )
        )
        for name in problem.free
    }
    quantile = t_quantile(LEVEL, len(problem.y) - len(problem.free))
    for one in range(sets):
        params = {name: float(found[one]) for name, found in best.items()}
        own = replace(problem, y=y[one])
        status = identify(own, params)
        solution = Solution(params, float(values[one]), 1, 1)
        curved = {}
        if status.covariance is not None:
            curved = covariance_intervals(own, solution, status.covariance, LEVEL)
        held = {}
        for k, name in enumerate(problem.free):
            if status.rise is None:  # no interval holds everything
                held["profile", name] = held["covariance", name] = True
                continue
            limit = values[one] + 0.5 * quantile**2 * status.rise[k]
            held["profile", name] = bool(at_truth[name][one] <= limit)
            held["covariance", name] = holds(curved[name], design.truth[name])
        bands = _bands(design, _as_fit(own, solution), float(new[one]))
        yield held | {("covariance, band", quantity): one_held for quantity, one_held in bands}


def by_fits(
    design: Design, objective: str, method: Method, by: str | None, sets: int, draws: int = 1000
) -> list[Coverage]:
    """Intervals as `fits.fit` gives them, set by set; by: `unit`, or rows if None."""
    import pandas as pd

    drawn = design.draw(sets)
    frame = pd.DataFrame({**design.x, "unit": design.unit})
    at = {"near": design.truth, "interval": method, "by": by, "draws": draws, "level": LEVEL}
    hits: dict[str, int] = dict.fromkeys([*design.law.names, "curve", "new"], 0)
    for y in drawn:
        frame[design.law.response.name] = y[:-1]
        one = fit(design.law, frame, objective=objective, **at)  # type: ignore[arg-type]
        for name in design.law.names:
            hits[name] += int(holds(one.interval(name), design.truth[name]))
        for quantity, held in _bands(design, one, float(y[-1])):
            hits[quantity] += int(held)
    used = f"bootstrap of {'units' if by else 'rows'}" if method == "bootstrap" else str(method)
    rows = [(used, name) for name in design.law.names] + [(f"{used}, band", k) for k in BANDS]
    return [Coverage(design.name, objective, name, k, hits[k], sets) for name, k in rows]


BANDS = ("curve", "new")


def holds(interval: Interval, value: float) -> bool:
    """Whether the value lies within; an open side holds all."""
    low, high = interval.low, interval.high
    return (low is None or low <= value) and (high is None or value <= high)


def _bands(design: Design, one: Fit, new: float) -> Iterable[tuple[str, bool]]:
    """Whether the bands at the point held out hold the law's value, and the new observation."""
    x = {name: np.array([value]) for name, value in design.held_out.items()}
    for band, value in (("curve", design.exact), ("new", new)):
        _, low, high = one.band(x, "curve" if band == "curve" else "new")
        yield band, bool(low[0] <= value <= high[0])


def _as_fit(problem: Problem, best: Solution) -> Fit:
    return Fit(
        law=problem.law,
        params=best.params,
        intervals={},
        objective=problem.objective.name,
        objective_value=best.objective,
        starts=best.starts,
        agree=best.agree,
        x=dict(problem.x),
        y=problem.y,
        level=LEVEL,
    )


# All of it ----------------------------------------------------------------------------------


def measure(sets: int, draws: int = 1000, say: bool = False) -> list[Coverage]:
    """Every method on the designs that it is for; bootstraps, slow, on half the sets."""
    fewer = (sets + 1) // 2
    found: list[Coverage] = []

    def take(rows: list[Coverage]) -> None:
        found.extend(rows)
        for method in dict.fromkeys(one.method for one in rows) if say else ():
            own = [one for one in rows if one.method == method]
            shares = ", ".join(f"{one.quantity} {100 * one.share:.1f}" for one in own)
            print(f"{own[0].design}; {own[0].objective}, {method}: {shares}", flush=True)

    for tails in (0, 3):
        grid = sizes_and_tokens(tails)
        for objective in ("squares", "squares-log", "huber-log"):
            take(by_curvature(grid, objective, sets))
        for objective in ("squares-log", "huber-log"):
            take(by_fits(grid, objective, "bootstrap", None, fewer, draws))
    take(by_curvature(ratios(8, 1), "squares", sets))
    take(by_fits(ratios(8, 1), "squares", "bootstrap", None, fewer, draws))
    for several in (ratios(6, 3), ratios(6, 8), ratios(6, 3, tilted=True)):
        take(by_fits(several, "squares", "units", "unit", sets))
    for several in (ratios(6, 6), ratios(6, 12), ratios(6, 8, tilted=True)):
        take(by_fits(several, "squares", "bootstrap", "unit", fewer, draws))
    for several in (ratios(6, 8), ratios(6, 8, tilted=True)):
        ignored = replace(several, name=f"{several.name}, ignored")  # rows as if independent
        take(by_curvature(ignored, "squares", sets))
    return found


def main(words: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser("python -m fits.coverage", description=__doc__)
    parser.add_argument("--sets", type=int, default=400, help="synthetic data sets of each kind")
    parser.add_argument("--draws", type=int, default=1000, help="resamplings of each bootstrap")
    parser.add_argument("--to", help="figure to write: .png, .svg or .pdf")
    parser.add_argument("--json", help="file for the numbers")
    options = parser.parse_args(words)
    if options.sets < 1 or options.draws < 2:
        parser.error("--sets must be at least 1 and --draws at least 2")
    rows = measure(options.sets, options.draws, say=True)
    for one in rows:
        low, high = one.error_bar
        verdict = "" if ACCEPTED[0] <= one.share <= ACCEPTED[1] else "  outside 90 to 98"
        print(
            f"{one.design:28} {one.objective:12} {one.method:22} {one.quantity:6} "
            f"{100 * one.share:5.1f} % ({100 * low:.1f} to {100 * high:.1f}){verdict}"
        )
    try:
        if options.json:
            Path(options.json).write_text(
                json.dumps([asdict(one) for one in rows], indent=1) + "\n"
            )
        if options.to:
            from fits.figures.coverage_figure import coverage_figure

            coverage_figure(rows).save(options.to)
    except (Refused, Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
