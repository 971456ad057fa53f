"""Whether a design can identify a law at all, at whatever values of the parameters.

`fits.engine.identify` looks at the optimum, where a parameter at its bound counts as known. A term
that the points cannot tell from others may end there: its coefficient at 0, its exponent wherever
it was. So the rank of the Jacobian is asked for elsewhere too, at the law's starts: deficient at
all of them, it is the design's (Rothenberg 1971; Catchpole & Morgan 1997).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from fits.engine.identify import ILL_CONDITIONED, Identified, identify
from fits.engine.problem import Problem
from fits.engine.solve import start_grid


def status_of(problem: Problem, params: dict[str, float]) -> Identified:
    """What the curvature at the optimum says, and what the design says where a bound hides it."""
    found = identify(problem, params)
    why = unidentifiable(problem, params) if found.at_bound and not found.unidentified else ""
    if not why:
        return found
    notes = (*found.notes, f"not identified: {why}")
    return replace(found, unidentified=why, pairs=(), covariance=None, rise=None, notes=notes)


def unidentifiable(problem: Problem, best: Mapping[str, float]) -> str:
    """Why these points identify the free parameters nowhere, or nothing. `best`: the optimum."""
    names = problem.free
    unknown, fewest = list(names), len(names) + 1
    for params in (best, *_places(problem)):
        with np.errstate(all="ignore"):  # a start may lie where the law has no value
            jacobian = problem.residual_jacobian(params, names)
            size = np.linalg.norm(jacobian, axis=0)
        if not np.isfinite(size).all():
            continue
        _, singular, right = np.linalg.svd(jacobian / np.where(size > 0, size, 1.0))
        null = right[singular * ILL_CONDITIONED < singular[0]]
        if len(null) == 0:
            return ""
        if len(null) < fewest:  # a place may be blind to more of them: where a term is 0
            fewest = len(null)
            heavy = np.abs(null).max(axis=0) > 0.1
            unknown = [name for name, one in zip(names, heavy, strict=True) if one]
    return f"{', '.join(unknown)} are not told apart by these points, whatever the values"


def _places(problem: Problem) -> Iterator[dict[str, float]]:
    """The law's starts, each term that has a linear parameter as large as the response."""
    starts = start_grid(problem, None)
    count = len(next(iter(starts.values()))) if starts else 1
    linear = tuple(name for name in problem.free if name not in starts)
    typical = float(np.abs(problem.y).mean())
    for k in range(count):
        free = {name: float(values[k]) for name, values in starts.items()}
        ones = problem.complete({**problem.pinned, **free, **dict.fromkeys(linear, 1.0)})
        with np.errstate(all="ignore"):
            columns = problem.jacobian(ones, linear)
            reach = np.sqrt(np.mean(columns**2, axis=0))
        sizes = typical / np.where(reach > 0, reach, 1.0)
        scaled = {name: float(value) for name, value in zip(linear, sizes, strict=True)}
        yield problem.complete({**problem.pinned, **free, **scaled})
