"""Which parameters the data know: covariance, bounds reached, pairs that trade off."""

import math
from dataclasses import dataclass

import numpy as np

from fits.lanes import inside
from fits.problem import Floats, Problem

ILL_CONDITIONED = 1e7  # of the column-scaled Jacobian: beyond it the numbers are a matter of taste
ROUNDING = 1e-9  # of the response: a parameter that moves it by less has no influence
TRADE_OFF = 0.99  # correlation from which a pair is called one
LOOSE = 0.5  # standard error, of the logarithm or of the value, from which it matters
MOST_PAIRS = 3


@dataclass(frozen=True)
class Identified:
    """What the curvature at the optimum says.

    covariance [p, p] of the free parameters' coordinates (scales by their logarithm); None where
    they are not identified or no point is to spare. `pairs` trade off; `notes` is for readers.
    """

    unidentified: str
    at_bound: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    covariance: Floats | None
    notes: tuple[str, ...]


def identify(problem: Problem, params: dict[str, float]) -> Identified:
    """Status of a solution; nothing here raises."""
    names = problem.free
    bound, notes = _bounds_reached(problem, params)
    moved = [name for name in names if name not in bound]
    jacobian = coordinate_jacobian(problem, params, names)
    why = _unidentified(problem, params, jacobian, names, moved)
    if why:
        return Identified(why, bound, (), None, (*notes, f"not identified: {why}"))
    spread = covariance(problem, params)
    pairs, said = ((), ()) if spread is None else _trade_offs(problem, params, spread)
    return Identified("", bound, pairs, spread, (*notes, *said))


def coordinate_jacobian(
    problem: Problem, params: dict[str, float], names: tuple[str, ...]
) -> Floats:
    """Minus the derivatives of the residuals by coordinates, [n, p]."""
    scale = [params[name] if problem.by_log(name) else 1.0 for name in names]
    return problem.residual_jacobian(params, names) * np.array(scale)


def _bounds_reached(
    problem: Problem, params: dict[str, float]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    reached, notes = [], []
    for name in problem.free:
        for bound in problem.limits(name):
            near = 1e-6 * max(1.0, abs(bound)) if bound else 1e-9
            if math.isfinite(bound) and abs(params[name] - bound) <= near:
                reached.append(name)
                notes.append(f"{name} sits at its bound {bound:g}")
    return tuple(reached), tuple(notes)


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
    response = math.sqrt(len(problem.y)) if problem.objective.log else np.linalg.norm(problem.y)
    if not np.all(np.isfinite(size)):
        return "the law's slope is not finite on these points"
    idle = [n for n, one in zip(names, reach, strict=True) if one <= ROUNDING * response]
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

    Combinations that the points do not know at all get no variance, so that predictions which do
    not need them keep their band. None without a point to spare, or for a loss with a kink.
    """
    spare = len(problem.y) - len(problem.free)
    if spare < 1 or problem.objective.kinked:
        return None
    variance = problem.objective.scatter(problem.residuals(params), spare)
    if not math.isfinite(variance):
        return None
    jacobian = coordinate_jacobian(problem, params, problem.free)
    size = np.linalg.norm(jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    inverse = np.linalg.pinv(jacobian / size, rcond=1e-12)
    return variance * (inverse @ inverse.T) / np.outer(size, size)


def _trade_offs(
    problem: Problem, params: dict[str, float], covariance: Floats
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
            if abs(correlation[i, j]) >= TRADE_OFF and loose >= LOOSE:
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
