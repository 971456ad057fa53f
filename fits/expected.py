"""What points tell of a law's parameters: those of a fit, or of a plan before anything is run.

A plan needs the law, parameters to believe in, the noise of a point and where the points lie; the
points' losses are not needed, for the covariance of least squares, noise^2 (J'J)^-1, does not read
them. Widths are linear: good where the intervals will be short beside the law's curvature.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.columns import with_columns
from fits.engine.identify import ILL_CONDITIONED, coordinate_jacobian, covariance
from fits.engine.objective import objective as objective_named
from fits.engine.problem import Problem
from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.form import Law
from fits.laws import law as law_named
from fits.quantities import Quantity, depends_on_unknown, gradient
from fits.result import Fit
from fits.table import resolve_columns
from fits.variables import read_variables

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What n points tell of a law's p free parameters.

    covariance [p, p] is of their coordinates (scales by logarithm), `variance` that of one point
    about the law, in the unit of the objective's residual. `condition` is that of the points'
    Jacobian with columns of equal length; beyond 1e7 some combination is not identified.
    """

    problem: Problem
    params: dict[str, float]
    covariance: Floats
    variance: float
    condition: float
    level: float

    @property
    def spare(self) -> int:
        """Degrees of freedom: points less free parameters."""
        return len(self.problem.y) - len(self.problem.free)

    def slopes(self, target: "str | Quantity") -> Floats:
        """Slopes [p] of a target by the coordinates. Raises Refused.

        The target is a free parameter by name (a scale by its logarithm), or a quantity with one
        value (`fits.quantities`).
        """
        free = self.problem.free
        if isinstance(target, str):
            name = self.problem.tied.get(target, target)
            if name not in free:
                raise Refused(
                    f"law {self.problem.law.name} has no free parameter {target!r}; it has "
                    f"{', '.join(free)}"
                )
            return np.array([1.0 if one == name else 0.0 for one in free])
        found = gradient(self.problem, self.params, target, np.sqrt(np.diag(self.covariance)))
        if found.shape[0] != 1:
            raise Refused(f"the target has {found.shape[0]} values: a design narrows one")
        if not np.isfinite(found).all():
            raise Refused("the target has no value at these parameters, or none beside them")
        return found[0]

    def sd(self, target: "str | Quantity") -> float:
        """Standard deviation of a target's estimate; infinite where it is not identified."""
        slopes = self.slopes(target)
        jacobian = coordinate_jacobian(self.problem, self.params)
        if depends_on_unknown(jacobian, slopes[None])[0]:
            return math.inf
        return math.sqrt(max(0.0, float(slopes @ self.covariance @ slopes)))

    def half_width(self, target: "str | Quantity") -> float:
        """Half of the t interval's width that the points give; infinite without one to spare."""
        return self.sd(target) * quantile(self.level, self.spare)

    def table(self) -> "pd.DataFrame":
        """A row a free parameter: `parameter`, `value`, `by_log`, `sd`, `half_width`.

        sd and half_width are of the logarithm where `by_log`.
        """
        import pandas as pd

        rows = [
            {
                "parameter": name,
                "value": self.params[name],
                "by_log": self.problem.by_log(name),
                "sd": self.sd(name),
                "half_width": self.half_width(name),
            }
            for name in self.problem.free
        ]
        return pd.DataFrame(rows)


def quantile(level: float, spare: int) -> float:
    """Two-sided Student quantile; infinite without a degree of freedom."""
    return t_quantile(level, spare) if spare > 0 else math.inf


def expected_intervals(
    law: str | Law,
    params: Mapping[str, float],
    points: "pd.DataFrame | Mapping[str, Any]",
    noise: float,
    *,
    columns: Mapping[str, str] | None = None,
    objective: str | None = None,
    pin: tuple[str, ...] = (),
    level: float = 0.95,
    rates: Any = None,
) -> Knowledge:
    """What a fit to these points would know, if the law held with these parameters.

    points: rows with the law's variables; a row twice is two runs with noise of their own. noise:
    standard deviation of a point, of the response, or of its logarithm where the objective (the
    law's own by default) takes that; assumed normal. pin: parameters that will not be fitted.
    Raises Refused.
    """
    import pandas as pd

    law = law_named(law) if isinstance(law, str) else law
    rule = objective_named(objective or law.objective)
    _refuse_noise(noise)
    if not 0 < level < 1:
        raise Refused(f"level {level!r}: must lie between 0 and 1, such as 0.95")
    believed = _parameters(law, params)
    for name in pin:
        if name not in law.names:
            raise Refused(f"law {law.name} has no parameter {name!r} to pin")
    frame = with_columns(pd.DataFrame(points), columns)
    if frame.empty:
        raise Refused("no points to expect anything of")
    chosen, _ = resolve_columns(law, frame, columns, response=False)
    x, _ = read_variables(law, frame, chosen, rates)
    pinned = {name: believed[name] for name in pin}
    problem = Problem(law, x, np.ones(len(frame)), rule, pinned)
    if not problem.free:
        raise Refused(f"no parameter of law {law.name} is left to fit")
    return _least_squares(replace(problem, y=problem.predict(believed)), believed, noise, level)


def known(one: Fit, noise: float | None = None) -> Knowledge:
    """What a fit knows. noise: of a point, where the fit's own residuals are not to say it.

    Raises Refused where the fit's parameters are not identified, or it has no point to spare.
    """
    if one.identified.unidentified:
        raise Refused(
            f"{one.law_name} is not identified by its points: {one.identified.unidentified}; weigh "
            "whole designs with expected_intervals first"
        )
    if noise is not None:
        _refuse_noise(noise)
        return _least_squares(one.problem, one.params, noise, one.level)
    found = covariance(one.problem, one.params)
    if found is None:
        raise Refused(
            f"{one.law_name}: its points do not tell their noise (objective {one.objective}, "
            f"{one.points} points, {len(one.problem.free)} parameters); give noise=..."
        )
    r = one.problem.residuals(one.params)
    pull, _ = one.problem.objective.pulls(r)
    # of an M-estimator, sum(psi^2) / spare / mean(psi')^2 (Huber 1981, section 7.6); of squares
    # that is the residual variance
    bend = float(np.mean(one.problem.objective.bends(r)))
    variance = float(pull @ pull) / one.spare / bend**2
    return Knowledge(
        one.problem, one.params, found, variance, _condition(one.problem, one.params), one.level
    )


def _least_squares(
    problem: Problem, params: dict[str, float], noise: float, level: float
) -> Knowledge:
    jacobian = coordinate_jacobian(problem, params)
    if not np.isfinite(jacobian).all():
        raise Refused(f"law {problem.law.name} has no finite slopes at these points")
    size = np.linalg.norm(jacobian, axis=0)
    size = np.where(size > 0, size, 1.0)
    inverse = np.linalg.pinv(jacobian / size, rcond=1.0 / ILL_CONDITIONED)
    spread = noise**2 * (inverse @ inverse.T) / np.outer(size, size)
    return Knowledge(problem, params, spread, noise**2, _condition(problem, params), level)


def _condition(problem: Problem, params: dict[str, float]) -> float:
    jacobian = coordinate_jacobian(problem, params)
    size = np.linalg.norm(jacobian, axis=0)
    if len(jacobian) < len(size) or not size.all():
        return math.inf
    singular = np.linalg.svd(jacobian / size, compute_uv=False)
    return float(singular[0] / singular[-1]) if singular[-1] > 0 else math.inf


def _refuse_noise(noise: float) -> None:
    if not (math.isfinite(noise) and noise > 0):
        raise Refused(f"noise {noise:g}: must be a positive standard deviation of one point")


def _parameters(law: Law, params: Mapping[str, float]) -> dict[str, float]:
    lacking = [name for name in law.names if name not in params]
    strange = [name for name in params if name not in law.names]
    if lacking or strange:
        wrong = f"lack {', '.join(lacking)}" if lacking else f"have {', '.join(strange)} too much"
        raise Refused(f"the parameters {wrong}: law {law.name} has {', '.join(law.names)}")
    believed = {name: float(params[name]) for name in law.names}
    for name, value in believed.items():
        one = law.parameter(name)
        if not (math.isfinite(value) and one.low <= value <= one.high):
            raise Refused(f"{name} = {value:g}: law {law.name} takes {one.low:g} to {one.high:g}")
    return believed
