"""A law is a value: name, formula, variables with units, parameters with bounds, source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Values = Mapping[str, Any]  # parameter or variable name -> number or array
RATES = "rates"  # the variable that holds learning-rate curves (`fits.rates.Rates`)
GROUP = "group"  # the variable that holds the group's number, of a law that groups share


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

    `starts` are tried in every combination with those of the other non-linear parameters. One
    with `low` 0 is searched by its logarithm: it is a scale, and never reaches 0.
    """

    name: str
    meaning: str
    low: float = -np.inf
    high: float = np.inf
    starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Law:
    """`predict(parameters, variables)` gives the response, [n], at variables of [n] rows each.

    It is plain NumPy (operators, `np.exp`, `np.log`, `np.maximum` ...), so that three kinds of
    parameters pass through it: numbers; arrays [S, 1], S sets at once, giving [S, n]; and Duals
    (`fits.engine.dual`), which carry the exact gradient along. Parameters named in `linear` enter
    linearly, without offset: least squares eliminates them. `objective` is what is minimised unless
    asked otherwise (`fits.engine.objective`). A law with `rates` reads whole curves of learning
    rates: its `x["rates"]` is a `fits.rates.Rates` of n places on them. `published` are
    coefficients as printed, by citation. `per`, `groups`: of a law that groups share
    (`fits.shared`), the column that tells them apart and its values.
    """

    name: str
    title: str
    formula: str
    response: Variable
    variables: tuple[Variable, ...]
    parameters: tuple[Parameter, ...]
    source: str
    predict: Callable[[Values, Values], Any]
    linear: tuple[str, ...] = ()
    objective: str = "squares"
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rates: bool = False
    per: str = ""
    groups: tuple[Any, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(one.name for one in self.parameters)

    def parameter(self, name: str) -> Parameter:
        """The parameter called `name`."""
        return next(one for one in self.parameters if one.name == name)
