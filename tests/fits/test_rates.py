"""Learning-rate curves: read from tables, places on them, standard schedules, refusals."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.errors import Refused
from fits.rates import Curve, Rates, rates_from_table, schedule

RISE_HOLD_FALL = [1.0, 2.0, 4.0, 4.0, 2.0, 1.0]


def two_curves() -> Rates:
    curves = {"a": RISE_HOLD_FALL, "b": [3.0, 3.0, 1.0]}
    return Rates(curves, ["a", "b", "a", "b", "a"], [6, 3, 2, 1, 6])


# Curves and places --------------------------------------------------------------------------


def test_what_is_summed_and_what_changes() -> None:
    curve = Curve("", RISE_HOLD_FALL)
    assert curve.warmup == 3
    np.testing.assert_array_equal(curve.summed, [0, 1, 3, 7, 11, 13, 14])
    np.testing.assert_array_equal(curve.change, [-1, -1, -2, 0, 2, 1])


@pytest.mark.parametrize(
    ("rate", "warmup", "first_change"),
    [
        ([2.0, 2.0, 1.0], 0, 0.0),  # flat or falling at first: no rise from 0
        ([2.0, 1.0, 3.0], 0, 0.0),
        ([1.0, 2.0, 3.0], 3, -1.0),  # all of it a rise
        ([1.0, 2.0, 1.0, 3.0], 2, -1.0),  # a later rise is no warm-up
        ([5.0], 0, 0.0),
    ],
)
def test_the_warm_up_is_the_rise_before_the_rate_first_stops_rising(
    rate: list[float], warmup: int, first_change: float
) -> None:
    curve = Curve("", rate)
    assert curve.warmup == warmup
    assert curve.change[0] == first_change


@pytest.mark.parametrize("lam", [0.5, 0.999])
def test_annealing_area_is_the_double_sum_without_the_warm_up(lam: float) -> None:
    curve = Curve("", RISE_HOLD_FALL)
    change = np.array([0, 0, 0, 0, 2, 1.0])

    def area(s: int, lam: float) -> float:
        return sum(change[k] * lam ** (i - k) for i in range(s) for k in range(i + 1))

    found, slope = curve.annealed(lam)
    np.testing.assert_allclose(found, [area(s, lam) for s in range(1, 7)], rtol=1e-14)
    step = 1e-6
    by_difference = [(area(s, lam + step) - area(s, lam - step)) / (2 * step) for s in range(1, 7)]
    np.testing.assert_allclose(slope, by_difference, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(curve.annealed(lam)[0], found)


def test_places_read_their_own_curve() -> None:
    rates = two_curves()
    assert len(rates) == 5
    np.testing.assert_array_equal(rates.summed, [14, 7, 3, 3, 14])
    area, _ = rates.annealed(0.5)
    np.testing.assert_allclose(area, [2 + (1 + 1), 2, 0, 0, 4])
    changes = rates.changes
    np.testing.assert_allclose(changes.sum(changes.signed), [-1, 2, -2, 0, -1])
    np.testing.assert_allclose(changes.sum(changes.falls), [3, 2, 0, 0, 3])


@pytest.mark.parametrize("early", [True, False], ids=["sliced with its terms", "sliced before"])
@pytest.mark.parametrize(
    "rows",
    [np.array([False, True, False, True, True]), np.array([4, 0, 0, 1]), [2], np.zeros(0, int)],
    ids=["mask", "rows, some twice", "list", "none"],
)
def test_rows_are_places_on_the_same_curves(rows: Any, early: bool) -> None:
    rates = two_curves()
    if early:
        assert rates.changes is rates.changes
    part = rates[rows]
    chosen = np.arange(5)[rows]
    assert len(part) == len(chosen)
    np.testing.assert_array_equal(part.summed, rates.summed[chosen])
    for name in ("first", "signed", "log_rate", "from_step"):
        alone = getattr(rates[chosen].changes, name)
        np.testing.assert_array_equal(getattr(part.changes, name), alone)
    whole, changes = rates.changes, part.changes
    of_all = whole.sum(whole.signed * whole.from_step)
    np.testing.assert_array_equal(changes.sum(changes.signed * changes.from_step), of_all[chosen])


def test_equal_are_the_same_places_on_the_same_rates() -> None:
    rates = two_curves()
    assert rates == two_curves()
    assert rates == rates[np.arange(5)]
    assert rates != rates[[0, 1, 2, 3]]
    assert rates != rates[[1, 0, 2, 3, 4]]
    assert rates != Rates(
        {"a": RISE_HOLD_FALL, "b": [3.0, 3.0, 2.0]}, list("ababa"), [6, 3, 2, 1, 6]
    )
    assert rates != "rates"


def test_json_gives_the_same_rates_bit_for_bit() -> None:
    rate = np.random.default_rng(3).uniform(0, 3e-4, 50)
    rates = Rates({"1e3": rate, "never": [1.0]}, ["1e3", "1e3"], [50, 7])
    again = Rates.from_dict(json.loads(json.dumps(rates.to_dict())))
    assert again == rates
    np.testing.assert_array_equal(again.curves[0].rate, rate)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1], "curves, curve and step"),
        ({"curves": {}, "curve": []}, "curves, curve and step"),
        ({"curves": [], "curve": [], "step": []}, "lists of numbers, by name"),
        ({"curves": {"a": "x"}, "curve": [], "step": []}, "lists of numbers, by name"),
        ({"curves": {"a": [True]}, "curve": [], "step": []}, "lists of numbers, by name"),
        ({"curves": {"a": [[1.0]]}, "curve": [], "step": []}, "lists of numbers, by name"),
        ({"curves": {"a": []}, "curve": [], "step": []}, "one number a step"),
        ({"curves": {"a": [float("nan")]}, "curve": ["a"], "step": [1]}, "finite"),
        ({"curves": {"a": [10**400]}, "curve": ["a"], "step": [1]}, "must be numbers"),
        ({"curves": {"a": [1.0]}, "curve": [0], "step": [1]}, "list of names"),
        ({"curves": {"a": [1.0]}, "curve": ["a"], "step": [1.0]}, "whole steps"),
        ({"curves": {"a": [1.0]}, "curve": ["a"], "step": [10**400]}, "whole numbers"),
        ({"curves": {"a": [1.0]}, "curve": ["b"], "step": [1]}, "no rates for curve 'b'"),
        ({"curves": {"a": [1.0]}, "curve": ["a"], "step": [2]}, "steps 1 to 1, not 2"),
        ({"curves": {"a": [1.0]}, "curve": ["a"], "step": [0]}, "steps 1 to 1, not 0"),
        ({"curves": {"a": [1.0]}, "curve": ["a", "a"], "step": [1]}, "a step each"),
        ({"curves": {"a": [0.0, 1.0]}, "curve": ["a"], "step": [1]}, "the rate is 0 up to step 1"),
    ],
)
def test_what_is_no_rates_is_refused_in_one_line(values: Any, line: str) -> None:
    with pytest.raises(Refused, match=line) as told:
        Rates.from_dict(values)
    assert "\n" not in str(told.value)


# From tables --------------------------------------------------------------------------------


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": ["x", "x", "x", "y", "y"],
            "step": [6, 2, 4, 1, 3],
            "lr": [1.0, 4.0, 2.0, 3.0, 5.0],
        }
    )


def test_arrays_by_curve_are_taken_as_they_are() -> None:
    given = {"x": np.arange(1.0, 8.0), "y": [1.0, 1.0, 1.0], "z": [9.0]}
    rates, notes = rates_from_table(table(), "run", "step", given=given)
    assert notes == []
    np.testing.assert_array_equal(rates.summed, [21, 3, 10, 1, 3])
    assert [one.name for one in rates.curves] == ["x", "y"]


def test_curves_named_by_number_find_their_arrays() -> None:
    frame = table().assign(run=[25, 25, 25, 100, 100])
    rates, _ = rates_from_table(frame, "run", "step", given={25: np.ones(6), 100: np.ones(3)})
    np.testing.assert_array_equal(rates.summed, [6, 2, 4, 1, 3])


def test_a_table_without_curves_is_one() -> None:
    frame = table().iloc[:3]
    rates, _ = rates_from_table(frame, None, "step", given={"whatever": np.ones(6)})
    np.testing.assert_array_equal(rates.summed, [6, 2, 4])
    own, _ = rates_from_table(frame, None, "step")
    np.testing.assert_array_equal(own.curves[0].rate, [2, 4, 3, 2, 1.5, 1])


def test_a_table_of_rates_a_step_is_taken_as_it_is() -> None:
    per_step = pd.DataFrame(
        {"run": ["x"] * 6 + ["y"] * 3, "step": [*range(1, 7), *range(1, 4)], "eta": np.arange(9.0)}
    )
    rates, notes = rates_from_table(table(), "run", "step", "eta", per_step)
    assert notes == []
    np.testing.assert_array_equal(rates.curves[0].rate, np.arange(6.0))
    np.testing.assert_array_equal(rates.summed, [15, 1, 6, 6, 21])


def test_rows_own_rates_are_interpolated_and_rise_from_0_and_the_notes_say_so() -> None:
    rates, notes = rates_from_table(table(), "run", "step", "lr")
    np.testing.assert_array_equal(rates.curves[0].rate, [2, 4, 3, 2, 1.5, 1])
    np.testing.assert_array_equal(rates.curves[1].rate, [3, 4, 5])
    assert notes == [
        "rates before the first row (step 2 at most) rise linearly from 0",
        "rates between rows (up to 2 steps apart) are interpolated linearly",
    ]


def test_a_change_between_flat_stretches_is_a_jump() -> None:
    frame = pd.DataFrame({"step": [10, 20, 30, 40, 50], "lr": [3.0, 3.0, 1.0, 1.0, 0.0]})
    rates, notes = rates_from_table(frame, None, "step")
    rate = rates.curves[0].rate
    np.testing.assert_allclose(rate[[8, 9, 28, 29, 39, 44, 49]], [2.7, 3, 3, 1, 1, 0.5, 0])
    assert notes[-1] == "rates that jump between flat stretches (1) do so at the later row"


def test_a_step_twice_with_one_rate_is_one_step() -> None:
    frame = pd.DataFrame({"step": [1, 2, 2, 3], "lr": [1.0, 2.0, 2.0, 3.0]})
    rates, _ = rates_from_table(frame, None, "step")
    np.testing.assert_array_equal(rates.summed, [1, 3, 3, 6])


@pytest.mark.parametrize(
    ("changed", "given", "line"),
    [
        ({"lr": None}, None, "the table has no column 'lr'; it has run, step"),
        ({"step": None}, None, "no column 'step'; it has run, lr"),
        ({"run": None}, None, "no column 'run'; it has step, lr"),
        ({"run": ["x", "x", "x", "y", None]}, None, "rows without a curve"),
        ({"step": [6, 2, 4, 1, 2.5]}, None, "whole numbers from 1, not 2.5"),
        ({"step": [6, 2, 4, 1, float("nan")]}, None, "whole numbers from 1, not nan"),
        ({"step": list("abcde")}, None, "whole numbers from 1"),
        ({"step": [6, 2, 0, 1, 3]}, None, "curve 'x': steps count from 1, not 0"),
        ({"step": [6, 2, 2, 1, 3]}, None, "curve 'x' has two rates for step 2"),
        ({"lr": [1, 2, float("nan"), 3, 4]}, None, "curve 'x': the rate of step 4 is nan"),
        ({"lr": [1, 2, float("inf"), 3, 4]}, None, "the rate of step 4 is inf"),
        ({"lr": [1, 2, -1e-9, 3, 4]}, None, "the rate of step 4 is -1e-09"),
        ({"lr": list("abcde")}, None, "column 'lr' of the table must hold numbers"),
        ({}, {"x": np.ones(6)}, "no rates for curve 'y'; there are x"),
        ({}, {"x": np.ones(5), "y": np.ones(3)}, "curve 'x' has steps 1 to 5, not 6"),
        ({}, {"x": -np.ones(6), "y": np.ones(3)}, "the rate of step 1 is -1"),
        ({}, {"x": np.ones((2, 3)), "y": np.ones(3)}, r"one number a step, not \(2, 3\)"),
        ({}, {"x": "fast", "y": np.ones(3)}, "must be numbers"),
        ({}, [1.0, 2.0], "arrays by curve or a table, not list"),
        ({}, pd.DataFrame({"run": ["x"], "lr": [1.0]}), "the table of rates has no column 'step'"),
        ({}, pd.DataFrame({"run": ["x"], "step": [6], "lr": [1.0]}), "no rates for curve 'y'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    changed: Mapping[str, Any], given: Any, line: str
) -> None:
    frame = table()
    for column, values in changed.items():
        frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
    with pytest.raises(Refused, match=line) as told:
        rates_from_table(frame, "run", "step", "lr", given)
    assert "\n" not in str(told.value)


# Standard schedules -------------------------------------------------------------------------


def test_schedules_at_the_ends_of_their_parts() -> None:
    warm = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(schedule("constant", 6, 1.0, warmup=4), [*warm, 1, 1])
    cosine = schedule("cosine", 8, 1.0, warmup=4, end=0.2)
    np.testing.assert_allclose(cosine[[0, 3, 5, 7]], [0.25, 1, 0.6, 0.2])
    two = schedule("two-stage", 8, 1.0, warmup=4, end=0.2, decay=3)
    np.testing.assert_allclose(two, [*warm, 1, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("shape", "half"), [("linear", 0.55), ("exponential", 0.1**0.5), ("1-sqrt", 1 - 0.9 * 0.5**0.5)]
)
def test_wsd_holds_and_then_decays_by_its_shape(shape: str, half: float) -> None:
    rate = schedule("wsd", 12, 1.0, warmup=2, end=0.1, decay=4, shape=shape)
    np.testing.assert_allclose(rate[:8], [0.5, *[1.0] * 7])
    np.testing.assert_allclose(rate[[9, 11]], [half, 0.1])
    assert np.all(np.diff(rate[7:]) < 0)


@pytest.mark.parametrize(
    ("kind", "given", "line"),
    [
        ("step", {}, "constant, cosine, wsd and two-stage"),
        ("constant", {"warmup": 10}, "0 to 9 of 10 steps, not 10"),
        ("constant", {"warmup": -1}, "0 to 9 of 10 steps, not -1"),
        ("cosine", {"end": 2.0}, "0 <= end <= peak"),
        ("cosine", {"end": float("nan")}, "0 <= end <= peak"),
        ("wsd", {}, "wsd needs decay, 1 to 10 steps, not None"),
        ("two-stage", {"decay": 9, "warmup": 2}, "two-stage needs decay, 1 to 8 steps, not 9"),
        ("wsd", {"decay": 2, "shape": "square"}, "linear, exponential, 1-sqrt"),
        ("wsd", {"decay": 2, "shape": "exponential"}, "an end above 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    kind: str, given: Mapping[str, Any], line: str
) -> None:
    with pytest.raises(Refused, match=line):
        schedule(kind, 10, 1.0, **given)
