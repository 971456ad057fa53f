"""A law is a value: name, formula, variables with units, parameters with bounds, source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = Mapping[str, Any]  # parameter or variable name -> number or array
Objective = Literal["squares", "huber-log"]


@dataclass(frozen=True)
class Variable:
    """A column that a law reads, or the one it predicts."""

    name: str
    unit: str
    meaning: str
    positive: bool = True


@dataclass(frozen=True)
class Parameter:
    """A number that a fit finds, within closed bounds.

    `starts` are tried in every combination with those of the other non-linear parameters.
    """

    name: str
    meaning: str
    low: float = -np.inf
    high: float = np.inf
    starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Law:
    """`predict(parameters, variables)` gives the response; it must also take complex parameters.

    Complex ones are how gradients are taken (complex step: exact to rounding), so `abs`, `max` and
    comparisons have no place in it. Parameters named in `linear` enter linearly, without offset:
    they are eliminated by least squares. `objective` is what is minimised unless asked otherwise:
    `squares` (sum of squared residuals) or `huber-log` (sum of Huber losses, delta 1e-3, of
    residuals of the logarithm).
    """

    name: str
    title: str
    formula: str
    response: Variable
    variables: tuple[Variable, ...]
    parameters: tuple[Parameter, ...]
    source: str
    predict: Callable[[Values, Values], NDArray[Any]]
    linear: tuple[str, ...] = ()
    objective: Objective = "squares"
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(one.name for one in self.parameters)

    def parameter(self, name: str) -> Parameter:
        """The parameter called `name`."""
        return next(one for one in self.parameters if one.name == name)
