"""Critical ratios seed by seed: bounds, differences, and extrapolation to sizes and tokens."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Refused
from fits.unit_ratios import (
    along_size,
    at,
    changes_by_seed,
    late_horizons,
    paired,
    unit_readings,
)

RATIOS = (0.0, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
HORIZONS = (100, 200, 300, 400, 500, 800, 1000)


def table_of(critical: Any, units: int = 3, sizes: tuple[int, ...] = (1000,)) -> pd.DataFrame:
    """Changes of general loss R - critical(size, unit, tokens): 0 at the critical ratio."""
    rows = [
        {
            "n_params": size,
            "unit": unit,
            "ratio": ratio,
            "corpus": "prose",
            "tokens": tokens,
            "change": ratio - critical(size, unit, tokens),
        }
        for size in sizes
        for unit in range(units)
        for ratio in RATIOS
        for tokens in HORIZONS
    ]
    return pd.DataFrame(rows)


def power(size: int, unit: int, tokens: int) -> float:
    return 0.2 + 0.01 * unit + 0.3 * (tokens / 1000) ** 0.5


def test_a_reading_within_the_grid_is_a_number_and_one_beyond_is_bounds() -> None:
    table = table_of(lambda size, unit, tokens: (0.05, 0.4, 0.9)[unit])
    read = unit_readings(table, "prose", HORIZONS, [0.0]).query("horizon_tokens == 100")
    assert list(read["censored"]) == ["<", "", ">"]
    assert np.isnan(read["critical_ratio"].to_numpy()[[0, 2]]).all()
    found = at(read, 1000, 100, 0.0)
    assert found[0] == (0.0, 1 / 8)
    assert found[1] == pytest.approx((0.4, 0.4))
    assert found[2] == (3 / 4, 1.0)


def test_a_unit_without_a_ratio_is_left_out() -> None:
    table = table_of(power)
    ill = (table["unit"] == 1) & (table["ratio"] == 1 / 4)
    read = unit_readings(table[~ill], "prose", HORIZONS, [0.0])
    assert set(read["unit"]) == {0, 2}


def test_differences_are_paired_and_bounds_open_them() -> None:
    more = {0: (0.4, 0.4), 1: (0.75, 1.0), 3: (0.9, 0.9)}
    less = {0: (0.3, 0.3), 1: (0.0, 0.125), 2: (0.2, 0.2)}
    assert paired(more, less) == [pytest.approx((0.1, 0.1)), (0.625, 1.0)]


def test_an_arm_that_is_not_there_is_refused_by_its_name() -> None:
    rows = pd.DataFrame({"arm": ["a"], "seed": [0], "trunk": ["t"]})
    with pytest.raises(Refused, match=r"^arm b: the table lacks"):
        changes_by_seed(rows, "b", "cpt", "cpt_ratio")
    with pytest.raises(Refused, match=r"^the table lacks seed$"):
        changes_by_seed(rows.drop(columns="seed"), "a", "cpt", "cpt_ratio")


# To a larger size -----------------------------------------------------------------------------


def sized(slope: float, noise: float, random: np.random.Generator, counts: dict[int, int]) -> Any:
    return {
        size: {
            unit: (value, value)
            for unit, value in enumerate(
                0.3 + slope * math.log(size) + noise * random.normal(size=n)
            )
        }
        for size, n in counts.items()
    }


def test_a_line_is_that_of_scipy_with_its_prediction_error() -> None:
    made = sized(0.05, 0.02, np.random.default_rng(0), {1000: 5, 2000: 3, 3000: 4})
    x = np.log([size for size, units in made.items() for _ in units])
    y = np.array([low for units in made.values() for low, _ in units.values()])
    known = stats.linregress(x, y)
    line = along_size(made, 8000)
    assert line.predicted == pytest.approx(known.intercept + known.slope * math.log(8000))
    residual = y - known.intercept - known.slope * x
    spread = math.sqrt(float(residual @ residual) / 10)
    share = 1 / 12 + (math.log(8000) - x.mean()) ** 2 / float(((x - x.mean()) ** 2).sum())
    assert (line.degrees, line.spread) == (10, pytest.approx(spread))
    assert line.error == pytest.approx(spread * math.sqrt(share))
    assert line.error_against(4) == pytest.approx(spread * math.sqrt(share + 1 / 4))


def test_the_interval_holds_the_mean_of_new_seeds_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(1000):
        made = sized(0.1, 0.03, random, {1000: 5, 2000: 3, 4000: 3})
        line = along_size(made, 4000)
        low, high = line.interval(3)
        came = np.mean([value for value, _ in made[4000].values()])
        inside += low <= came <= high
    assert 930 <= inside <= 968  # 950 +- 2.8 standard errors


def test_the_rival_is_the_mean_of_the_next_smaller_size() -> None:
    made = sized(0.1, 0.01, np.random.default_rng(2), {1000: 5, 2000: 3})
    still = along_size(made, 4000, slope=False)
    assert still.predicted == pytest.approx(np.mean([low for low, _ in made[2000].values()]))
    assert still.degrees == 2


@pytest.mark.parametrize(
    ("by_size", "why"),
    [
        ({1000: {0: (0.3, 0.3)}}, "1 smaller sizes"),
        ({1000: {0: (0.3, 0.3)}, 2000: {0: (0.75, 1.0)}}, "a seed of a smaller size is censored"),
        ({1000: {0: (0.3, 0.3)}, 2000: {0: (0.4, 0.4)}}, "one seed a size"),
    ],
)
def test_what_cannot_be_extrapolated_says_why(by_size: Any, why: str) -> None:
    line = along_size(by_size, 4000)
    assert line.why.startswith(why)
    assert math.isnan(line.predicted)


# To more tokens -------------------------------------------------------------------------------


def test_late_horizons_are_predicted_by_each_seed_and_beat_a_ratio_that_stays() -> None:
    read = unit_readings(table_of(power), "prose", HORIZONS, [0.0])
    (one,), without = late_horizons(read, 500)
    assert without == []
    assert one.fit.params["s4"] == pytest.approx(0.5, rel=1e-3)
    assert one.fit.params["b3"] == pytest.approx(0.21, abs=1e-3)
    assert set(one.errors) == {800, 1000}
    assert list(one.errors[1000]) == [0, 1, 2]
    assert max(abs(error) for error in one.errors[1000].values()) < 1e-3
    for unit, error in one.still[1000].items():
        assert error == pytest.approx(power(0, unit, 500) - power(0, unit, 1000), abs=1e-6)


def test_a_horizon_with_a_censored_seed_does_not_count() -> None:
    def low_at_first(size: int, unit: int, tokens: int) -> float:
        return 0.05 if (unit, tokens) == (2, 300) else power(size, unit, tokens)

    read = unit_readings(table_of(low_at_first), "prose", HORIZONS, [0.0])
    found, without = late_horizons(read, 500)
    assert found == []
    assert without == [
        "R_CMR(T) at 1,000 parameters, eps 0: 4 early horizons without a censored seed, 2 late; "
        "predicted only from 5 or more"
    ]
