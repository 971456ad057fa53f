"""Numbers that follow from parameters: slopes, intervals of each source, what is not known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Fit, Refused, fit, law
from fits.quantities import Spread, held, prediction, spread
from fits.shared import shared_law

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def ratio_fit(seed: int = 0, interval: Any = "covariance", **options: Any) -> Fit:
    noise = 1e-3 * np.random.default_rng(seed).normal(size=len(RATIOS))
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise})
    return fit("cmr-ratio", table, interval=interval, **options)


def test_a_parameter_as_a_quantity_has_the_parameters_interval() -> None:
    one = ratio_fit()
    (found,) = spread(one, lambda p: p["s"]).intervals()
    expected = one.interval("s")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert found.method == "covariance"


@pytest.mark.parametrize("interval", ["covariance", "bootstrap"])
def test_a_prediction_as_a_quantity_has_the_curves_band(interval: str) -> None:
    one = ratio_fit(interval=interval, draws=50)
    known = spread(one, prediction(one.law, {"ratio_domain": 0.6}))
    predicted, low, high = one.band({"ratio_domain": np.array([0.6])}, "curve")
    assert known.values == pytest.approx(predicted)
    found_low, found_high = known.ends()
    width = float((high - low)[0])
    slack = 1e-6 * width if interval == "covariance" else 0.2 * width  # percentiles, outwards
    assert found_low[0] == pytest.approx(low[0], abs=slack)
    assert found_high[0] == pytest.approx(high[0], abs=slack)


def test_units_give_a_t_interval_of_the_quantity() -> None:
    one = ratio_fit()
    units = tuple({**one.params, "s": value} for value in (0.28, 0.31, 0.33))
    known = spread(replace(one, unit_params=units), lambda p: 2.0 * p["s"])
    half = stats.t.ppf(0.975, 2) * np.std([0.56, 0.62, 0.66], ddof=1) / np.sqrt(3)
    low, high = known.ends()
    assert known.method == "t over 3 units"
    assert (high - low)[0] / 2 == pytest.approx(half)
    assert (high + low)[0] / 2 == pytest.approx(2 * one.params["s"])


def test_a_draw_without_a_value_opens_both_ends_only_when_there_are_many() -> None:
    each = np.linspace(0.0, 1.0, 101)[:, None]
    few, many = each.copy(), each.copy()
    few[0], many[:10] = np.nan, np.nan
    low, high = Spread(np.array([0.5]), 0.9, "draws", few, tail=(1 - 0.9) / 2).ends()
    assert (low[0], high[0]) == (pytest.approx(0.04), pytest.approx(0.96))  # outwards
    low, high = Spread(np.array([0.5]), 0.9, "draws", many, tail=(1 - 0.9) / 2).ends()
    assert (low[0], high[0]) == (-np.inf, np.inf)


def test_what_the_points_do_not_know_has_no_interval_and_what_they_know_has() -> None:
    tokens = np.geomspace(1e9, 2e10, 8)
    noise = 1e-3 * np.random.default_rng(0).normal(size=8)
    line = stats.linregress((tokens / 2e8) ** 0.3, change := 0.02 * (tokens / 2e8) ** 0.3 + noise)
    table = pd.DataFrame({"cpt_tokens": tokens, "change_nats": change})
    pinned = {"s2": 0.3, "s3": 0.3}  # of a2 and a3 the points know the sum alone
    one = fit("cmr-general-tokens", table, pin=pinned)
    assert one.status == "not identified"
    halves = {"a2": line.slope / 2, "a3": line.slope / 2, "b2": line.intercept}
    one = replace(one, params={**one.params, **halves})
    alone, both = (
        spread(one, quantity) for quantity in (lambda p: p["a2"], lambda p: p["a2"] + p["a3"])
    )
    assert np.isinf(alone.ends()).all()
    assert "not identified" in alone.intervals()[0].note
    low, high = both.ends()
    assert both.values[0] == pytest.approx(line.slope)
    half = stats.t.ppf(0.975, 8 - 3) * line.stderr * np.sqrt(6 / 5)  # the fit counts 3 parameters
    assert (high - low)[0] / 2 == pytest.approx(half, rel=1e-4)


def test_sums_of_two_fits_add_variances_and_pair_draws() -> None:
    one, other = ratio_fit(0), ratio_fit(1)
    both = spread(one, lambda p: p["s"]).plus(spread(other, lambda p: p["s"]), 2.0)
    assert both.variance is not None
    errors = [f.identified.covariance for f in (one, other)]
    place = one.problem.free.index("s")
    expected = sum(
        k**2 * e[place, place] for k, e in zip((1, 2), errors, strict=True) if e is not None
    )
    assert both.variance[0] == pytest.approx(expected, rel=1e-6)
    drawn = ratio_fit(1, "bootstrap", draws=20)
    with pytest.raises(Refused, match="differ in their intervals, covariance and bootstrap of 20"):
        spread(one, lambda p: p["s"]).plus(spread(drawn, lambda p: p["s"]), 1.0)
    twice = spread(drawn, lambda p: p["s"]).plus(spread(drawn, lambda p: p["s"]), -1.0)
    assert np.array(twice.ends()).tolist() == [[0.0], [0.0]]


def test_a_scale_at_0_moves_a_quantity_by_its_value() -> None:
    rng = np.random.default_rng(2)
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4)))
    table = pd.DataFrame({"n_params": n, "n_tokens": d})
    table["loss_nats"] = 2.0 + 480.0 * n**-0.35 + 1e-3 * rng.normal(size=16)  # data helps nothing
    pinned = {"alpha": 0.35, "beta": 0.37}
    found = fit("chinchilla", table, objective="squares", pin=pinned)
    one = replace(found, params={**found.params, "B": 0.0})
    assert one.identified.at_bound == ("B",)
    place = {"n_params": 3e7, "n_tokens": 2e9}
    known = spread(one, prediction(one.law, place))
    _, low, high = one.band({k: np.array([v]) for k, v in place.items()}, "curve")
    assert np.concatenate(known.ends()) == pytest.approx(np.concatenate([low, high]), rel=1e-6)


def test_no_covariance_says_why() -> None:
    table = pd.DataFrame({"ratio_domain": RATIOS[:3], "loss_nats": 1.9 - 0.4 * RATIOS[:3] ** 0.3})
    (none,) = spread(fit("cmr-ratio", table), lambda p: p["s"]).intervals()
    assert (none.low, none.high, none.note) == (None, None, "as many parameters as points")
    absolute = ratio_fit(objective="absolute")
    assert "resample" in spread(absolute, lambda p: p["s"]).intervals()[0].note


def test_a_quantity_that_mixes_its_sets_is_refused() -> None:
    with pytest.raises(Refused, match="write it in plain NumPy"):
        spread(ratio_fit(), lambda p: np.mean(p["s"], axis=0))


def test_held_names_what_is_missing_unknown_or_no_place() -> None:
    chosen = law("data-constrained")
    varied = ("n_params", "n_tokens")
    assert held(chosen, {"unique_tokens": 1e9}, varied) == {"unique_tokens": 1e9}
    with pytest.raises(Refused, match="needs a value of unique_tokens"):
        held(chosen, None, varied)
    with pytest.raises(Refused, match="cannot hold 'n_params': law data-constrained needs unique"):
        held(chosen, {"n_params": 1.0}, varied)
    with pytest.raises(Refused, match="cannot hold 'R': law chinchilla needs nothing held"):
        held(law("chinchilla"), {"R": 1.0}, varied)
    with pytest.raises(Refused, match="unique_tokens = 0: must be positive"):
        held(chosen, {"unique_tokens": 0}, varied)
    with pytest.raises(Refused, match="unique_tokens = nan: must be a finite number"):
        held(chosen, {"unique_tokens": np.nan}, varied)
    with pytest.raises(Refused, match="unique_tokens = 'much': must be a number"):
        held(chosen, {"unique_tokens": "much"}, varied)
    shared = shared_law(law("cmr-ratio"), "n_params", [460e6, 940e6], ["s"])
    assert held(shared, {"n_params": 940e6}, ("ratio_domain",)) == {"group": 1.0}
    with pytest.raises(Refused, match="n_params 5: no such group was fitted"):
        held(shared, {"n_params": 5}, ("ratio_domain",))
