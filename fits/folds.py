"""What is left out in turn: groups, folds of independent units, or the future; and their fits.

A fold is a mask of the rows that are fitted and one of the rows that are predicted. All folds of a
law are fitted side by side, from every start of the law and from the fit to all rows: rows left out
have weight 0, so no fold knows them.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.engine.lanes import Lanes
from fits.engine.problem import Floats, Problem
from fits.engine.solve import AGREE, POLISH_STEPS, Solution, solve, solve_lanes, start_grid
from fits.errors import Refused
from fits.shared import label
from fits.table import column_values, require_column
from fits.variables import take

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
FOLDS = 10
MOST_CUTS = 10
EXACT_FOLDS = 14  # 16 384 choices of signs
FLIPS = 10_000


@dataclass(frozen=True)
class Split:
    """Rows that are fitted and rows that are predicted, [n] each; they need not be all.

    `reach` [n] is how far beyond the fitted rows each row lies (rolling): its value / the cut.
    """

    name: str
    kept: Mask
    held: Mask
    reach: Floats | None = None


# How rows are divided ------------------------------------------------------------------------


def by_group(frame: "pd.DataFrame", by: str) -> list[Split]:
    """Each value of a column in turn. Raises Refused."""
    units = _units(frame, by)
    kinds = sorted(set(units.tolist()))
    if len(kinds) < 2:
        raise Refused(f"column {by!r} has one value: leaving it out leaves nothing to fit")
    return [Split(f"{by} {label(kind)}", units != kind, units == kind) for kind in kinds]


def by_folds(frame: "pd.DataFrame", count: int | None, by: str | None, seed: int) -> list[Split]:
    """Random folds of units, as equal in number as can be; a row is a unit unless `by` says more.

    `count` None: ten, or fewer where there are fewer units. Raises Refused.
    """
    units = _units(frame, by) if by else np.arange(len(frame))
    kinds, place = np.unique(units, return_inverse=True)
    count = min(FOLDS, len(kinds)) if count is None else count
    if not 2 <= count <= len(kinds):
        of = f"values of {by}" if by else "rows"
        raise Refused(f"{count} folds: there must be 2 or more, and at most the {len(kinds)} {of}")
    turn = np.random.default_rng(seed).permutation(len(kinds)) % count
    fold = turn[place]
    return [Split(f"fold {k + 1} of {count}", fold != k, fold == k) for k in range(count)]


def into_future(
    frame: "pd.DataFrame", column: str, cuts: Sequence[float] | None, horizon: float, least: int
) -> list[Split]:
    """All rows up to a cut of the column are fitted, those beyond it predicted, cut after cut.

    A row is predicted up to `horizon` times the cut. Cuts not given are values of the column, ten
    at most, from the first that leaves more than `least` rows to fit. Raises Refused.
    """
    from fits.form import Variable

    require_column(column, frame)
    values = column_values(Variable(column, "", ""), frame, column)
    if not horizon > 1:
        raise Refused(f"horizon {horizon:g}: it is a factor beyond the cut, larger than 1")
    if cuts is None:
        steps = np.unique(values)[:-1]
        steps = steps[[int(np.sum(values <= one)) > least for one in steps]]
        if len(steps) == 0:
            raise Refused(
                f"no cut of {column} leaves more than {least} rows below it and any beyond: "
                "there is no future to predict"
            )
        cuts = steps[np.unique(np.linspace(0, len(steps) - 1, MOST_CUTS).round().astype(int))]
    found = []
    for cut in sorted(cuts):
        held = (values > cut) & (values <= cut * horizon)
        if not held.any():
            raise Refused(f"no row has {column} beyond {cut:g} and within {horizon:g} times it")
        found.append(Split(f"{column} <= {cut:.6g}", values <= cut, held, values / cut))
    return found


def _units(frame: "pd.DataFrame", by: str) -> NDArray[Any]:
    require_column(by, frame)
    empty = int(frame[by].isna().sum())
    if empty:
        raise Refused(f"column {by!r} has {empty} rows without a value")
    return frame[by].to_numpy()


# Their fits ----------------------------------------------------------------------------------


def fit_splits(
    problem: Problem,
    kept: Sequence[Mask],
    best: Mapping[str, float],
    starts: Mapping[str, Sequence[float]] | None = None,
) -> Iterator[Solution]:
    """The fit of each set of rows [n], the same as `solve` finds on those rows alone.

    The starts are the law's (or `starts`), and `best`, the fit to all rows, which may be a better
    one: but a fold never takes it unless it is best on the fold's own rows.
    """
    tried = start_grid(problem, starts)
    tried = {name: np.append(values, best[name]) for name, values in tried.items()}
    count = len(next(iter(tried.values()))) if tried else 1
    folds = len(kept)
    weights = np.array(kept, np.float64)
    every = {name: np.tile(values, folds) for name, values in tried.items()}
    lanes = Lanes(problem.y[None], np.repeat(weights, count, axis=0))
    ends, values = solve_lanes(problem, every, lanes, folds * count)
    values = values.reshape(folds, count)
    chosen = np.arange(folds) * count + values.argmin(1)
    near = {name: end[chosen] for name, end in ends.items()}
    if not problem.objective.kinked:  # those have an exact optimum of their own, fold by fold
        near, least = solve_lanes(
            problem, near, Lanes(problem.y[None], weights), folds, POLISH_STEPS, 1e-15
        )
    for k, rows in enumerate(kept):
        params = {name: float(end[k]) for name, end in near.items()}
        if problem.objective.kinked or not np.isfinite(least[k]):
            # a law without a value at a row left out spoils a lane, though not the fit
            part = dataclasses.replace(problem, x=take(problem.x, rows), y=problem.y[rows])
            found = (
                solve(part, params) if np.isfinite(values[k]).any() else solve(part, None, starts)
            )
        else:
            found = Solution(params, float(least[k]), count, 1)
        agree = int(np.sum(values[k] <= found.objective * (1 + AGREE)))
        yield dataclasses.replace(found, starts=count, agree=max(1, agree))


def mean_over_folds(values: Floats, fold: NDArray[np.intp]) -> tuple[float, float]:
    """(mean of values [m], its standard error); `fold` [m] says which belong together.

    The error is that of a ratio of sums over folds (Cochran 1977, section 6.4): folds may differ in
    size, and rows within a fold need not be independent. Folds share most of the rows they were
    fitted to, which it leaves out: no estimate that knows is unbiased (Bengio & Grandvalet 2004).
    """
    mean = float(values.mean())
    apart = np.bincount(fold, values - mean)[np.unique(fold)]
    folds = len(apart)
    if folds < 2:
        return mean, float("nan")
    return mean, float(np.sqrt(folds / (folds - 1) * (apart @ apart)) / len(values))


def flipped_as_large(apart: Floats, fold: NDArray[np.intp]) -> float:
    """How often the sum of differences [m] would be as large were each fold's sign a toss.

    The paired randomisation test (Pitman 1937), one-sided: exact up to 14 folds, else of 10 000
    draws. Unlike t it is no weaker where one fold weighs far more than the others, as the end of a
    table does.
    """
    sums = np.bincount(fold, apart)[np.unique(fold)]
    folds = len(sums)
    if folds <= EXACT_FOLDS:
        signs = 1.0 - 2.0 * ((np.arange(2**folds)[:, None] >> np.arange(folds)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (FLIPS, folds))
        signs[0] = 1.0
    enough = sums.sum() - 1e-12 * np.abs(sums).sum()
    return float(np.mean(signs @ sums >= enough))
