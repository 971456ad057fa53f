"""Dual numbers: every rule against the complex step, whose derivatives are exact as well."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fits.engine.dual import Dual, chain, value_of

STEP = 1e-30
X = np.array([0.3, 1.0, 2.5, 40.0])

# of two parameters a, b > 0 and a constant array
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda a, b: a + b + X + 1.0,
    "difference": lambda a, b: (a - X) - (2.0 - b),
    "product": lambda a, b: a * X * b * a,
    "quotient": lambda a, b: (X / a) / (b / a + X),
    "constant to a number": lambda a, b: b * X**-a,
    "number to a constant": lambda a, b: (a + X) ** 1.7 + b**2,
    "number to a number": lambda a, b: (a + X) ** b,
    "exponential": lambda a, b: np.exp(-a * X) + np.expm1(b * X / 50.0),
    "logarithm": lambda a, b: np.log(a + X) - np.log1p(b * X),
    "roots and squares": lambda a, b: np.sqrt(a + b * X) + np.square(b - X),
    "tanh": lambda a, b: np.tanh(a * X) - (-b),
}
positive = st.floats(0.05, 3.0)


def slopes_by_complex_step(function: Callable[[Any, Any], Any], a: float, b: float) -> list[Any]:
    return [function(a + 1j * STEP, b).imag / STEP, function(a, b + 1j * STEP).imag / STEP]


@pytest.mark.parametrize("name", FUNCTIONS)
@given(a=positive, b=positive)
def test_slopes_are_those_of_the_complex_step(name: str, a: float, b: float) -> None:
    function = FUNCTIONS[name]
    found = function(Dual(a, {"a": 1.0}), Dual(b, {"b": 1.0}))
    np.testing.assert_allclose(found.value, function(a, b), rtol=1e-13)
    expected = slopes_by_complex_step(function, a, b)
    for key, slope in zip("ab", expected, strict=True):
        size = np.abs(slope).max() + np.abs(found.value).max()
        np.testing.assert_allclose(found.slopes.get(key, 0.0), slope, rtol=1e-12, atol=1e-13 * size)


def test_many_sets_of_parameters_go_through_at_once() -> None:
    sets = np.array([[0.5], [1.5], [2.0]])
    found = FUNCTIONS["constant to a number"](Dual(sets, {"a": 1.0}), Dual(2.0 * sets, {"b": 1.0}))
    assert found.shape == (3, 4)
    for k, a in enumerate(sets[:, 0]):
        one = FUNCTIONS["constant to a number"](Dual(a, {"a": 1.0}), Dual(2.0 * a, {"b": 1.0}))
        np.testing.assert_array_equal(found.value[k], one.value)
        np.testing.assert_array_equal(found.slopes["a"][k], one.slopes["a"])


def test_one_parameter_in_two_places_adds_its_slopes() -> None:
    a = Dual(3.0, {"a": 1.0})
    assert (a * a).slopes["a"] == pytest.approx(6.0)
    tied = Dual(3.0, {"a": 1.0})
    assert (a - tied).slopes["a"] == 0.0


def test_zero_to_a_power_does_not_move() -> None:
    found = np.array([0.0, 1.0, 4.0]) ** Dual(0.5, {"s": 1.0})
    np.testing.assert_allclose(found.value, [0.0, 1.0, 2.0])
    np.testing.assert_allclose(found.slopes["s"], [0.0, 0.0, 2.0 * np.log(4.0)])


def test_the_larger_of_two_carries_its_own_slope() -> None:
    found = np.maximum(Dual(2.0, {"a": 1.0}) * X, 5.0)
    np.testing.assert_allclose(found.value, [5.0, 5.0, 5.0, 80.0])
    np.testing.assert_allclose(found.slopes["a"], [0.0, 0.0, 2.5, 40.0])
    found = np.minimum(Dual(2.0, {"a": 1.0}) * X, 5.0)
    np.testing.assert_allclose(found.slopes["a"], [0.3, 1.0, 2.5, 0.0])


def test_rows_and_sums() -> None:
    a = Dual(np.array([[1.0], [2.0]]), {"a": 1.0}) * X
    np.testing.assert_allclose(a[:, 1].value, [1.0, 2.0])
    np.testing.assert_allclose(a[:, 1].slopes["a"], [1.0, 1.0])
    np.testing.assert_allclose(a.sum(1).value, [X.sum(), 2 * X.sum()])
    np.testing.assert_allclose(a.sum(1).slopes["a"], [X.sum()] * 2)


def test_a_function_of_ones_own_follows_the_chain_rule() -> None:
    a = Dual(2.0, {"a": 1.0}) ** 2.0
    found = chain(np.sin(value_of(a)), [(a, np.cos(value_of(a))), (7.0, 1.0)])
    assert found.slopes["a"] == pytest.approx(4.0 * np.cos(4.0))


def test_what_has_no_rule_is_an_error_not_a_wrong_slope() -> None:
    with pytest.raises(TypeError):
        np.floor(Dual(2.5, {"a": 1.0}))
    with pytest.raises(TypeError):
        np.add.reduce(Dual(X, {"a": 1.0}))
