"""Objectives: their names, and losses, slopes and scatter against plain formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fits.engine.objective import Objective, objective
from fits.errors import Refused

ALL = ("squares", "huber:0.3", "absolute", "pinball:0.8")
R = np.array([-2.0, -0.4, -0.1, 0.0, 0.05, 0.29, 0.7, 3.0])


@given(
    st.sampled_from(["huber", "pinball"]),
    st.booleans(),
    st.floats(1e-12, 1.0, exclude_max=True),
)
def test_a_name_is_read_back_to_the_last_digit(loss: str, log: bool, number: float) -> None:
    one = Objective(loss, log, number)
    assert objective(one.name) == one


@pytest.mark.parametrize("name", ["squares", "squares-log", "absolute", "huber-log", "huber:0.02"])
def test_short_names_stay_short(name: str) -> None:
    assert objective(name).name == name
    assert objective("huber:1e-3").name == "huber"


@pytest.mark.parametrize(
    "name",
    [
        *("", "cubes", "log", "-log", "squares-log-log", "squares:", "squares:2", "absolute:0.5"),
        *("huber:", "huber:x", "huber:0", "huber:-1", "huber:nan", "huber:inf", "huber:1:2"),
        *("pinball", "pinball:0", "pinball:1", "pinball:nan", "pinball-log", "Huber"),
    ],
)
def test_other_names_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(Refused) as no:
        objective(name)
    assert "\n" not in str(no.value)
    assert repr(name) in str(no.value)


@given(st.text(max_size=12))
def test_any_text_is_an_objective_or_refused(text: str) -> None:
    try:
        one = objective(text)
    except Refused:
        return
    assert objective(one.name) == one


def test_losses_are_the_plain_formulas() -> None:
    d = 0.3
    huber = [0.5 * r * r if abs(r) <= d else d * (abs(r) - d / 2) for r in R]
    np.testing.assert_allclose(objective("huber:0.3").losses(R), huber, rtol=1e-15)
    np.testing.assert_allclose(objective("squares").losses(R), R**2)
    np.testing.assert_allclose(objective("absolute").losses(R), np.abs(R))
    pinball = [0.8 * r if r > 0 else -0.2 * r for r in R]
    np.testing.assert_allclose(objective("pinball:0.8").losses(R), pinball)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("smooth", [None, 0.1])
def test_pulls_are_slopes_of_the_losses(name: str, smooth: float | None) -> None:
    plain = objective(name)
    one = Objective(plain.loss, plain.log, plain.number, smooth)
    r, step = R[R != 0], 1e-7
    pull, weight = one.pulls(r)
    expected = (one.losses(r + step) - one.losses(r - step)) / (2 * step)
    np.testing.assert_allclose(pull, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(weight * r, pull)


def test_a_kink_is_rounded_lane_by_lane() -> None:
    two = Objective("absolute", smooth=np.array([[0.1], [1.0]]))
    for k, smooth in enumerate((0.1, 1.0)):
        one = Objective("absolute", smooth=smooth)
        np.testing.assert_array_equal(two.losses(R[None])[k], one.losses(R))
        np.testing.assert_array_equal(two.pulls(R[None])[0][k], one.pulls(R)[0])


def test_the_bend_of_huber_is_the_density_of_residuals_near_0() -> None:
    """With delta far below the scatter, the share within delta over any window that is small."""
    r = np.random.default_rng(0).normal(size=20_000)
    inside = np.mean(np.abs(r) <= 0.1)
    assert np.mean(objective("huber:0.1").bends(r)) == pytest.approx(inside, rel=0.2)
    assert np.mean(objective("huber:1e-4").bends(r)) == pytest.approx(1e-3 * inside, rel=0.2)
    np.testing.assert_array_equal(objective("huber:5").bends(r), np.ones(20_000))
    np.testing.assert_array_equal(objective("squares").bends(R), np.full(len(R), 2.0))


def test_the_logarithm_of_no_positive_prediction_has_no_value() -> None:
    found = objective("squares-log").residuals(np.ones(3), np.array([1.0, 0.0, -1.0]))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
