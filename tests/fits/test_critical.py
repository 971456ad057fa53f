"""The critical ratio: point, censoring, interval, and the turning point."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from fits import Refused, critical_ratio, turning_ratio
from fits.critical import Critical, Turning, fraction

GRID = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4)


def table(each: Sequence[Sequence[float]], grid: Sequence[float] = GRID) -> pd.DataFrame:
    rows = [
        {"unit": f"seed {unit}", "ratio": ratio, "change": change}
        for unit, changes in enumerate(each)
        for ratio, change in zip(grid, changes, strict=True)
    ]
    return pd.DataFrame(rows)


def line(offset: float) -> list[float]:
    """-1/2 + R + offset: a change of eps is reached at R = 1/2 + eps - offset."""
    return [ratio - 0.5 + offset for ratio in GRID]


def test_a_straight_line_is_read_exactly() -> None:
    for eps in (0.0, 0.05, -0.3):
        one = critical_ratio(table([line(0.0)]), eps)
        assert one.ratio == pytest.approx(0.5 + eps, abs=1e-9)
        assert (one.censored, one.units, one.grid) == ("", 1, GRID)


def test_a_smooth_curve_is_read_to_a_hundredth_between_its_places() -> None:
    def curve(ratio: float) -> float:
        return -0.17 + 0.19 * ratio + 0.08 * ratio**3

    one = critical_ratio(table([[curve(ratio) for ratio in GRID]]), -0.08)
    assert one.ratio == pytest.approx(brentq(lambda r: curve(r) + 0.08, 0.1, 0.9), abs=0.01)


def test_beyond_the_grid_the_reading_names_its_end() -> None:
    below = critical_ratio(table([line(0.5)]), 0.0)
    above = critical_ratio(table([line(-0.5)]), 0.0)
    assert (below.ratio, below.censored, below.text()) == (None, "<", "< 1/8")
    assert (above.ratio, above.censored, above.text()) == (None, ">", "> 3/4")


def test_the_control_and_the_cliff_play_no_part() -> None:
    grid = (0.0, *GRID, 1.0)
    for ends in ((0.3, -0.3), (-9.0, 9.0)):
        each = [[ends[0], *line(shift), ends[1]] for shift in (0.0, 0.01, 0.02)]
        with_ends = critical_ratio(table(each, grid), 0.0)
        assert with_ends == critical_ratio(table([line(s) for s in (0.0, 0.01, 0.02)]), 0.0)


def test_a_dip_in_the_mean_is_pooled_with_its_neighbours() -> None:
    dipping, pooled = table([[-1, 0.25, -0.75, 0.5, 1]]), table([[-1, -0.25, -0.25, 0.5, 1]])
    assert critical_ratio(dipping, 0.0) == critical_ratio(pooled, 0.0)
    assert critical_ratio(dipping, -0.25).ratio == pytest.approx(1 / 3)  # the larger of the two


def test_on_a_level_stretch_the_largest_ratio_is_read() -> None:
    assert critical_ratio(table([[-0.1, 0.0, 0.0, 0.0, 0.2]]), 0.0).ratio == pytest.approx(0.5)


def test_interval_over_seeds_is_the_t_interval_where_curves_are_parallel() -> None:
    shifts = [0.0, 0.01, 0.03]
    one = critical_ratio(table([line(shift) for shift in shifts]), 0.0)
    low, high = stats.t.interval(0.95, 2, np.mean(shifts), stats.sem(shifts))
    fine = (GRID[-1] - GRID[0]) / 2000
    assert (one.low, one.high) == pytest.approx((0.5 - high, 0.5 - low), abs=fine)
    assert one.interval_text() == f"{one.low:.3f} .. {one.high:.3f}"


def test_one_seed_has_no_interval() -> None:
    one = critical_ratio(table([line(0.0)]), 0.0)
    assert (one.low, one.high, one.interval_text()) == (None, None, "one seed: none")


def test_an_interval_that_reaches_an_end_is_open_there() -> None:
    one = critical_ratio(table([line(shift) for shift in (-0.3, -0.2, -0.1)]), 0.0)
    assert one.ratio == pytest.approx(0.7)
    assert one.high is None
    assert one.low is not None
    assert one.interval_text() == f"{one.low:.3f} .. > 3/4"
    both = critical_ratio(table([line(shift) for shift in (-0.5, 0.0, 0.5)]), 0.0)
    assert both.interval_text() == "< 1/8 .. > 3/4"


def test_an_interval_wholly_beyond_the_grid_says_so() -> None:
    below = critical_ratio(table([line(shift) for shift in (0.5, 0.501, 0.502)]), 0.0)
    assert (below.low, below.high, below.interval_text()) == (None, GRID[0], "< 1/8")
    above = critical_ratio(table([line(shift) for shift in (-0.5, -0.501, -0.502)]), 0.0)
    assert (above.low, above.high, above.interval_text()) == (GRID[-1], None, "> 3/4")


def test_seeds_that_all_agree_leave_an_interval_around_the_crossing() -> None:
    each = [[-0.1, -0.05, 0.05, 0.1, 0.2]] * 2
    one = critical_ratio(table(each), 0.0)
    assert one.low is not None
    assert one.high is not None
    assert one.ratio is not None
    assert one.low <= one.ratio <= one.high
    assert one.high - one.low < 1e-3


def test_where_quiet_seeds_cross_twice_the_interval_spans_both() -> None:
    one = critical_ratio(table([[0.1, -0.1, 0.1, 0.1, 0.2]] * 2), 0.0)
    assert one.low is not None
    assert one.high is not None
    assert GRID[0] < one.low < GRID[1] < one.high < GRID[2]


def test_a_seed_that_lacks_a_ratio_is_left_out() -> None:
    whole = table([line(shift) for shift in (0.0, 0.01)])
    broken = table([line(9.0)]).assign(unit="broken").iloc[:-1]
    assert critical_ratio(pd.concat([whole, broken]), 0.0) == critical_ratio(whole, 0.0)


def test_where_every_seed_lacks_one_the_ratios_that_all_have_are_read() -> None:
    both = table([line(0.0), line(0.02)])
    gap = both[~((both["unit"] == "seed 0") & (both["ratio"] == 0.75))]
    gap = gap[~((gap["unit"] == "seed 1") & (gap["ratio"] == 0.125))]
    one = critical_ratio(gap, -0.1)
    assert one.grid == (1 / 4, 1 / 3, 1 / 2)
    assert one.units == 2
    assert one.ratio == pytest.approx(0.39, abs=1e-9)


def test_fewer_than_two_ratios_are_refused() -> None:
    with pytest.raises(Refused, match="at least two ratios between 0 and 1"):
        critical_ratio(table([[0.1, 0.2, 0.3]], (0.0, 0.5, 1.0)), 0.0)


@pytest.mark.parametrize("common", [0.007, 0.0])
def test_the_interval_covers_the_truth_with_three_seeds(common: float) -> None:
    # 200 sets at 95 %: 190 expected; fewer than 180 (.90) happen once in 400 times (binomial).
    # common: the noise (sd .007) is a shift of the whole curve, or each ratio's own.
    assert stats.binom.cdf(179, 200, 0.95) < 1 / 400
    grid = np.array(GRID)
    exact = -0.1 + 0.25 * grid**1.5
    truth = (0.1 / 0.25) ** (1 / 1.5)
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        shift = common * random.normal(size=(3, 1))
        own = (0.001 if common else 0.007) * random.normal(size=(3, 5))
        one = critical_ratio(table((exact + shift + own).tolist()), 0.0)
        low = -np.inf if one.low is None else one.low
        hits += low <= truth <= (np.inf if one.high is None else one.high)
    assert 180 <= hits <= 200


change = st.floats(-1, 1).map(lambda x: round(x, 3))
curves = st.lists(st.lists(change, min_size=5, max_size=5), min_size=1, max_size=4)


@given(curves, change)
@settings(deadline=None, database=None, max_examples=60)
def test_a_reading_lies_in_the_grid_or_is_censored_and_in_its_interval(
    each: list[list[float]], eps: float
) -> None:
    one = critical_ratio(table(each), eps)
    assert (one.ratio is None) == (one.censored in ("<", ">"))
    low = GRID[0] if one.low is None else one.low
    high = GRID[-1] if one.high is None else one.high
    assert GRID[0] <= low <= high <= GRID[-1]
    if one.ratio is not None:
        assert low <= one.ratio <= high
    elif one.units > 1:
        assert (one.low if one.censored == "<" else one.high) is None


@given(curves, change, st.floats(0.01, 1))
@settings(deadline=None, database=None, max_examples=60)
def test_more_tolerance_never_allows_less_domain_text(
    each: list[list[float]], eps: float, more: float
) -> None:
    def place(one: Critical) -> float:
        return {"<": 0.0, ">": 1.0}[one.censored] if one.ratio is None else one.ratio

    first, second = critical_ratio(table(each), eps), critical_ratio(table(each), eps + more)
    assert place(first) <= place(second) + 1e-9


@given(curves, change)
@settings(deadline=None, database=None, max_examples=40)
def test_order_of_rows_and_names_of_seeds_do_not_matter(
    each: list[list[float]], eps: float
) -> None:
    given_rows = table(each)
    shuffled = given_rows.sample(frac=1, random_state=1)
    shuffled["unit"] = shuffled["unit"].str.replace("seed", "another")
    assert critical_ratio(shuffled, eps) == critical_ratio(given_rows, eps)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1 / 8, "1/8"),
        (1 / 3, "1/3"),
        (0.75, "3/4"),
        (0.6, "3/5"),
        (1.0, "1"),
        (5 / 16, "5/16"),
        (0.3456, "0.346"),
        (0.05, "0.05"),
    ],
)
def test_fractions_are_written_as_people_do(ratio: float, text: str) -> None:
    assert fraction(ratio) == text


def curves_over_tokens(peaks: dict[float, int]) -> pd.DataFrame:
    """The change at tokens 1..5 is largest at the given one, a curve a ratio, two units."""
    rows = [
        {"unit": unit, "ratio": ratio, "tokens": tokens, "change": -abs(tokens - peak) + unit}
        for ratio, peak in peaks.items()
        for tokens in range(1, 6)
        for unit in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_the_turning_point_binds_where_a_ratio_still_rises_at_the_horizon() -> None:
    curves = curves_over_tokens({0.0: 5, 0.25: 2, 0.5: 4, 0.75: 5, 1.0: 5})
    assert turning_ratio(curves, 5) == Turning(0.5, binding=True)
    assert turning_ratio(curves, 5).text() == "1/2"
    assert turning_ratio(curves, 4) == Turning(0.25, binding=True)  # 1/2 has its peak just there


def test_the_turning_point_does_not_bind_when_all_have_passed_it() -> None:
    one = turning_ratio(curves_over_tokens({0.25: 1, 0.75: 3, 1.0: 5}), 5)
    assert (one.ratio, one.binding, one.text()) == (0.75, False, "not binding")


def test_no_ratio_is_feasible_when_none_has_turned() -> None:
    one = turning_ratio(curves_over_tokens({0.25: 5, 0.75: 5}), 5)
    assert (one.ratio, one.binding, one.text()) == (None, True, "none")


def test_a_turning_point_needs_a_ratio_between_zero_and_one() -> None:
    with pytest.raises(Refused, match="between 0 and 1"):
        turning_ratio(curves_over_tokens({0.0: 1, 1.0: 1}), 5)
