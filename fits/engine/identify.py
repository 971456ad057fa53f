"""Which parameters the data know: covariance, bounds reached, pairs that trade off."""

import math
from dataclasses import dataclass

import numpy as np

from fits.engine.lanes import inside
from fits.engine.problem import Floats, Problem

ILL_CONDITIONED = 1e7  # of the column-scaled Jacobian: beyond it the numbers are a matter of taste
ROUNDING = 1e-9  # of the response: a parameter that moves it by less has no influence
AT_BOUND = 1e-6  # relative distance from a bound within which a parameter sits at it
TRADE_OFF = 0.99  # correlation from which a pair is called one
LOOSE = 0.5  # standard error, of the logarithm or of the value, from which it matters
MOST_PAIRS = 3


@dataclass(frozen=True)
class Identified:
    """What the curvature at the optimum says.

    covariance [p, p] of the free parameters' coordinates (scales by their logarithm); None where
    they are not identified or no point is to spare. rise [p]: by how much of t^2 / 2 the profiled
    objective of each rises at the end of its interval. `pairs` trade off; `notes` is for readers.
    """

    unidentified: str
    at_bound: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    covariance: Floats | None
    rise: Floats | None
    notes: tuple[str, ...]


def identify(problem: Problem, params: dict[str, float]) -> Identified:
    """Status of a solution; nothing here raises."""
    names = problem.free
    bound = bounds_reached(problem, params)
    notes = tuple(f"{name} sits at its bound {end:g}" for name, end in bound.items())
    moved = [name for name in names if name not in bound]
    jacobian = coordinate_jacobian(problem, params)
    why = _unidentified(problem, params, jacobian, names, moved)
    if why:
        return Identified(why, tuple(bound), (), None, None, (*notes, f"not identified: {why}"))
    found = _spread(problem, params)
    if found is None:
        return Identified("", tuple(bound), (), None, None, notes)
    pairs, said = _trade_offs(problem, params, found[0], moved)
    return Identified("", tuple(bound), pairs, *found, (*notes, *said))


def coordinate_jacobian(problem: Problem, params: dict[str, float]) -> Floats:
    """Minus the derivatives of the residuals by coordinates of the free parameters, [n, p]."""
    return problem.residual_jacobian(params, problem.free) * coordinate_scales(problem, params)


def coordinate_scales(problem: Problem, params: dict[str, float]) -> Floats:
    """Derivatives [p] of the free parameters by their coordinates; of a scale at 0, which has no
    logarithm to speak of, its own value is the coordinate."""
    zero = at_zero(problem, params)
    names = problem.free
    return np.array([params[n] if problem.by_log(n) and n not in zero else 1.0 for n in names])


def bounds_reached(problem: Problem, params: dict[str, float]) -> dict[str, float]:
    """Free parameters that sit at a bound, and the bound."""
    reached = dict.fromkeys(at_zero(problem, params), 0.0)
    for name in problem.free:
        for bound in problem.limits(name):
            near = AT_BOUND * abs(bound) if bound else ROUNDING
            by_log_of_0 = bound == 0.0 and problem.by_log(name)
            if math.isfinite(bound) and not by_log_of_0 and abs(params[name] - bound) <= near:
                reached[name] = bound
    return {name: reached[name] for name in problem.free if name in reached}


def at_zero(problem: Problem, params: dict[str, float]) -> tuple[str, ...]:
    """Scales so near 0 that they contribute nothing, and would at another value."""
    names = tuple(name for name in problem.free if problem.by_log(name))
    slopes = np.linalg.norm(problem.residual_jacobian(params, names), axis=0)
    nothing = ROUNDING * _size(problem)
    return tuple(
        name
        for name, slope in zip(names, slopes, strict=True)
        if 0 < slope < np.inf
        and slope * params[name] <= nothing
        and (name in problem.law.linear or params[name] <= ROUNDING)
    )


def _size(problem: Problem) -> float:
    """The norm of the response, or of as many ones where its logarithm is fitted."""
    log = problem.objective.log
    return math.sqrt(len(problem.y)) if log else float(np.linalg.norm(problem.y))


def _unidentified(
    problem: Problem,
    params: dict[str, float],
    jacobian: Floats,
    names: tuple[str, ...],
    moved: list[str],
) -> str:
    """Why the parameters are not identified by these points, or nothing."""
    size = np.linalg.norm(jacobian, axis=0)
    reach = size * [1.0 if problem.by_log(n) else max(1.0, abs(params[n])) for n in names]
    if not np.all(np.isfinite(size)):
        return "the law's slope is not finite on these points"
    nothing = ROUNDING * _size(problem)
    idle = [n for n, one in zip(names, reach, strict=True) if n in moved and one <= nothing]
    if idle:
        return (
            f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no influence on these points"
        )
    kept = [k for k, name in enumerate(names) if name in moved]
    if not kept:
        return ""
    _, singular, right = np.linalg.svd(jacobian[:, kept] / size[kept], full_matrices=False)
    if singular[-1] * ILL_CONDITIONED >= singular[0]:
        return ""
    heavy = [names[k] for k, part in zip(kept, right[-1], strict=True) if abs(part) > 0.1]
    condition = singular[0] / max(singular[-1], 1e-300)
    return f"{', '.join(heavy)} trade off against each other (condition {condition:.1g})"


def covariance(problem: Problem, params: dict[str, float]) -> Floats | None:
    """Covariance [p, p] of the free parameters' coordinates, from the curvature at the optimum.

    For squares, the residual variance over J'J. For Huber's loss H^-1 J' psi^2 J H^-1 n / (n - p)
    with H = J' psi' J (Huber 1967): with deltas as small as the field's, points that scatter more
    weigh less, and one variance for all would be two times too small on the 240 points of
    2404.10102. Combinations that the points do not know at all get no variance, so that
    predictions which do not need them keep their band. None without a point to spare, for a loss
    with a kink, or where a slope is not finite.
    """
    found = _spread(problem, params)
    return None if found is None else found[0]


def _spread(problem: Problem, params: dict[str, float]) -> tuple[Floats, Floats] | None:
    """(covariance [p, p], its diagonal over that of the inverse Hessian [p])."""
    points, width = len(problem.y), len(problem.free)
    if points <= width or problem.objective.kinked:
        return None
    r = problem.residuals(params)
    bends = problem.objective.bends(r)
    if np.count_nonzero(bends) < width:
        return None
    jacobian = coordinate_jacobian(problem, params)
    size = np.linalg.norm(jacobian, axis=0)
    if not np.all(np.isfinite(size)):
        return None
    scaled = jacobian / np.where(size > 0, size, 1.0)
    root = np.linalg.pinv(scaled * np.sqrt(bends)[:, None], rcond=1e-12)
    inverse = root @ root.T
    pull, _ = problem.objective.pulls(r)
    if problem.objective.loss == "squares":  # pull^2 / bend is twice the residual's square
        spread = inverse * float(pull @ pull) / (points - width) / bends[0]
    else:
        middle = (scaled * (pull * pull)[:, None]).T @ scaled * points / (points - width)
        spread = inverse @ middle @ inverse
    diagonal = np.diag(inverse)
    rise = np.diag(spread) / np.where(diagonal > 0, diagonal, 1.0)
    scale = np.where(size > 0, size, 1.0)
    return spread / np.outer(scale, scale), rise


def _trade_offs(
    problem: Problem, params: dict[str, float], covariance: Floats, moved: list[str]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    names = problem.free
    error = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / np.outer(error, error)
    found = []
    for i, first in enumerate(names):
        for j in range(i):
            size = [1.0 if problem.by_log(n) else abs(params[n]) for n in (first, names[j])]
            loose = max(error[i] / max(size[0], 1e-300), error[j] / max(size[1], 1e-300))
            free = first in moved and names[j] in moved
            if free and abs(correlation[i, j]) >= TRADE_OFF and loose >= LOOSE:
                found.append((abs(correlation[i, j]), names[j], first))
    found.sort(reverse=True)
    pairs = tuple((a, b) for _, a, b in found[:MOST_PAIRS])
    notes = []
    for size_, a, b in found[:MOST_PAIRS]:
        widths = ", ".join(_width(problem, params, n, error[names.index(n)]) for n in (a, b))
        notes.append(f"{a} and {b} trade off (correlation {size_:.4f}): {widths}")
    return pairs, tuple(notes)


def _width(problem: Problem, params: dict[str, float], name: str, error: float) -> str:
    if problem.by_log(name):
        return f"{name} known to a factor of {math.exp(min(error, 99.0)):.2g}"
    return f"{name} {params[name]:.3g} +- {error:.2g}"


def coordinates(problem: Problem, params: dict[str, float]) -> Floats:
    """Coordinates [p] of the free parameters."""
    names = problem.free
    return inside(problem, names, np.array([[params[name] for name in names]]))[0]
