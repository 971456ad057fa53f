"""Dips of a curve: made-up curves whose depth and return are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fits.dips import dip
from fits.errors import Refused

STEPS = [0, 1, 2, 4, 8, 16, 32]


def test_depth_lowest_state_and_return_of_a_known_curve() -> None:
    one = dip(STEPS, [0.50, 0.48, 0.40, 0.42, 0.46, 0.52, 0.54], within=16)
    assert one.depth == pytest.approx(0.10)
    assert one.deepest == 2
    assert one.end == pytest.approx(0.04)
    assert one.part_regained == pytest.approx(1.4)
    assert one.regained(0.5) == pytest.approx((7.0, 7.0))  # 0.45 lies 3/4 between steps 4 and 8
    assert one.regained(0.2) == pytest.approx((4.0, 4.0))  # a state itself
    low, high = one.regained(1.0)  # 0.50 lies 2/3 between steps 8 and 16
    assert low == high == pytest.approx(8 + 16 / 3)


def test_a_run_that_ends_before_it_is_back_says_only_that() -> None:
    one = dip(STEPS, [0.50, 0.48, 0.40, 0.42, 0.42, 0.43, 0.44], within=32)
    assert one.regained(0.5) == (32.0, math.inf)
    assert one.regained(0.25) == pytest.approx((12.0, 12.0))
    assert one.part_regained == pytest.approx(0.4)
    still_falling = dip(STEPS, np.linspace(0.5, 0.2, 7), within=32)
    assert still_falling.deepest == 32
    assert still_falling.regained(0.1) == (32.0, math.inf)
    assert still_falling.part_regained == pytest.approx(0.0)


def test_only_what_falls_at_first_counts() -> None:
    late = dip(STEPS, [0.50, 0.49, 0.48, 0.50, 0.51, 0.30, 0.20], within=8)
    assert late.depth == pytest.approx(0.02)
    assert late.deepest == 2
    assert late.regained(1.0) == pytest.approx((4.0, 4.0))
    assert late.part_regained == pytest.approx(1 - 0.30 / 0.02)


def test_a_curve_that_never_falls_has_no_dip() -> None:
    rising = dip(STEPS, [0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56], within=32)
    assert rising.depth == pytest.approx(-0.01)  # its least gain, not 0
    assert rising.regained(1.0) == (0.0, 0.0)
    assert math.isnan(rising.part_regained)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=12),
    st.floats(0.01, 1.0),
)
def test_what_was_regained_lies_on_the_curve(falls: list[float], share: float) -> None:
    values = np.array([0.0, *falls])
    steps = np.arange(len(values), dtype=float)
    one = dip(steps, values, within=len(values))
    assert one.depth == -min(falls)
    low, high = one.regained(share)
    if one.depth <= 0:
        assert (low, high) == (0.0, 0.0)
    elif math.isinf(high):
        assert values[one.deepest :].max() < -(1 - share) * one.depth
    else:
        assert one.deepest <= low == high <= steps[-1]
        at = float(np.interp(low, steps, values))
        assert at == pytest.approx(-(1 - share) * one.depth, abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "values", "within", "why"),
    [
        ([1, 2, 3], [1.0, 1.0, 1.0], 3, "ascending from step 0"),
        ([0, 2, 2], [1.0, 1.0, 1.0], 3, "ascending from step 0"),
        ([0, 1], [1.0], 3, "a value a step"),
        ([], [], 3, "ascending from step 0"),
        ([0, 4, 8], [1.0, 1.0, 1.0], 3, "no state between the switch and step 3"),
    ],
)
def test_what_is_no_curve_is_refused(
    steps: list[float], values: list[float], within: float, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        dip(steps, values, within)
