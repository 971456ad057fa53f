"""Numbers that carry their derivatives: exact gradients of laws written as plain NumPy.

Forward-mode differentiation. A `Dual` is an array and, for each parameter it depends on, the
array of its derivatives; NumPy's elementwise functions take it (`np.exp(p["a"])`, `x ** p["b"]`)
and return one. A power costs one exponential for the value and all its derivatives, where a
complex step (as exact) costs ten times that.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Dual(NDArrayOperatorsMixin):
    """An array `value` and `slopes`: parameter -> derivative, each broadcastable to `value`."""

    __slots__ = ("slopes", "value")

    def __init__(self, value: Any, slopes: Mapping[str, Any]) -> None:
        self.value = np.asarray(value, np.float64)
        self.slopes = dict(slopes)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **given: Any) -> Any:
        rule = _RULES.get(ufunc)
        if rule is None or method != "__call__" or given:
            return NotImplemented
        return rule(*inputs)

    def __getitem__(self, where: Any) -> "Dual":
        shape = self.value.shape
        slopes = {k: np.broadcast_to(s, shape)[where] for k, s in self.slopes.items()}
        return Dual(self.value[where], slopes)

    def sum(self, axis: int) -> "Dual":
        """The sum over one axis."""
        shape = self.value.shape
        slopes = {k: np.broadcast_to(s, shape).sum(axis) for k, s in self.slopes.items()}
        return Dual(self.value.sum(axis), slopes)

    def __repr__(self) -> str:
        return f"Dual({self.value}, {self.slopes})"


def value_of(number: Any) -> Any:
    """The number without its derivatives."""
    return number.value if isinstance(number, Dual) else number


def chain(value: Any, parts: Iterable[tuple[Any, Any]]) -> Dual:
    """The chain rule: `parts` are (number, derivative of `value` by it); plain numbers have none.

    For a function of Duals that NumPy lacks, or whose derivatives share work with its value.
    """
    slopes: dict[str, Any] = {}
    for number, partial in parts:
        if isinstance(number, Dual):
            for name, inner in number.slopes.items():
                more = partial * inner
                slopes[name] = slopes[name] + more if name in slopes else more
    return Dual(value, slopes)


# Rules --------------------------------------------------------------------------------------


def _unary(
    function: Callable[[Any], Any], derivative: Callable[[Any, Any], Any]
) -> Callable[[Any], Dual]:
    """`derivative(x, f(x))`."""

    def rule(a: Any) -> Dual:
        value = function(a.value)
        return chain(value, [(a, derivative(a.value, value))])

    return rule


def _multiply(a: Any, b: Any) -> Dual:
    return chain(value_of(a) * value_of(b), [(a, value_of(b)), (b, value_of(a))])


def _divide(a: Any, b: Any) -> Dual:
    value = value_of(a) / value_of(b)
    return chain(value, [(a, 1.0 / value_of(b)), (b, -value / value_of(b))])


def _power(a: Any, b: Any) -> Dual:
    base, exponent = np.asarray(value_of(a), np.float64), value_of(b)
    if np.all(base > 0):
        log = np.log(base)
        value = np.exp(exponent * log)
    else:  # 0 ** b is 0, and does not move with b > 0
        log = np.log(np.where(base > 0, base, 1.0))
        value = np.power(base, exponent)
    parts: list[tuple[Any, Any]] = [(b, value * log)]
    if isinstance(a, Dual):
        parts.append((a, exponent * np.power(base, exponent - 1.0)))
    return chain(value, parts)


def _choose(pick_first: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Dual]:
    def rule(a: Any, b: Any) -> Dual:
        first = pick_first(value_of(a), value_of(b))
        return chain(
            np.where(first, value_of(a), value_of(b)), [(a, 1.0 * first), (b, 1.0 * ~first)]
        )

    return rule


_RULES: dict[np.ufunc, Callable[..., Any]] = {
    np.add: lambda a, b: chain(value_of(a) + value_of(b), [(a, 1.0), (b, 1.0)]),
    np.subtract: lambda a, b: chain(value_of(a) - value_of(b), [(a, 1.0), (b, -1.0)]),
    np.multiply: _multiply,
    np.divide: _divide,
    np.power: _power,
    np.maximum: _choose(np.greater_equal),
    np.minimum: _choose(np.less_equal),
    np.negative: lambda a: chain(-a.value, [(a, -1.0)]),
    np.exp: _unary(np.exp, lambda x, y: y),
    np.expm1: _unary(np.expm1, lambda x, y: y + 1.0),
    np.log: _unary(np.log, lambda x, y: 1.0 / x),
    np.log1p: _unary(np.log1p, lambda x, y: 1.0 / (1.0 + x)),
    np.sqrt: _unary(np.sqrt, lambda x, y: 0.5 / y),
    np.square: _unary(np.square, lambda x, y: 2.0 * x),
    np.tanh: _unary(np.tanh, lambda x, y: 1.0 - y * y),
}
