"""The critical ratio of fitted laws: crossing, censoring, coverage, gain, both criteria."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Fit, Refused, fit
from fits.critical import Turning
from fits.critical_laws import Tolerance, criteria, tolerance_ratio

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
BEFORE = 2.5
RISE = {"alpha": 0.25, "s": 1.5, "beta": BEFORE - 0.06}  # general: a change of -.06 to .15
CRITICAL = ((0.05 + 0.06) / 0.25) ** (1 / 1.5)  # where it is .05
FALL = {"alpha": -0.4, "s": 0.3, "beta": 1.9}  # domain


def ratio_fit(p: dict[str, float], noise: float = 1e-3, seed: int = 0, **options: Any) -> Fit:
    scatter = noise * np.random.default_rng(seed).normal(size=len(RATIOS))
    table = pd.DataFrame({"ratio_domain": RATIOS})
    table["loss_nats"] = p["alpha"] * RATIOS ** p["s"] + p["beta"] + scatter
    return fit("cmr-ratio", table, near=p, **{"interval": "covariance", **options})


def exact(p: dict[str, float], **options: Any) -> Fit:
    return replace(ratio_fit(p, **options), params=dict(p))


def test_the_ratio_is_where_the_law_meets_the_tolerance() -> None:
    for eps in (-0.02, 0.0, 0.05, 0.1):
        found = tolerance_ratio(exact(RISE), BEFORE, eps).reading
        assert found.ratio == pytest.approx(((eps + 0.06) / 0.25) ** (1 / 1.5), rel=1e-9)
        assert (found.censored, found.grid) == ("", tuple(RATIOS))
        assert found.low is not None
        assert found.high is not None
        assert found.low < ((eps + 0.06) / 0.25) ** (1 / 1.5) < found.high


def test_beyond_the_fitted_ratios_it_says_so_and_is_not_extrapolated() -> None:
    below = tolerance_ratio(exact(RISE), BEFORE, -0.059).reading
    above = tolerance_ratio(exact(RISE), BEFORE, 0.2).reading
    assert (below.ratio, below.censored, below.text()) == (None, "<", "< 1/8")
    assert (above.ratio, above.censored, above.text()) == (None, ">", "> 9/10")
    assert (below.low, below.high) == (None, RATIOS[0])
    assert (above.low, above.high) == (RATIOS[-1], None)


def test_the_interval_opens_where_the_band_reaches_the_end() -> None:
    noisy = ratio_fit(RISE, noise=0.02, seed=1)
    end = float(noisy.predict({"ratio_domain": [0.9]})["predicted"].iloc[0]) - BEFORE
    found = tolerance_ratio(noisy, BEFORE, end - 0.005).reading
    assert found.ratio is not None
    assert found.high is None
    assert "> 9/10" in found.interval_text()


def test_intervals_of_the_critical_ratio_cover_the_truth() -> None:
    # 150 sets at 95 %: 142.5 expected; fewer than 133 happen once in 250 times (binomial)
    assert stats.binom.cdf(132, 150, 0.95) < 1 / 250
    hits = 0
    for seed in range(150):
        found = tolerance_ratio(ratio_fit(RISE, 4e-3, seed), BEFORE, 0.05).reading
        low = 0.0 if found.low is None else found.low
        hits += low <= CRITICAL <= (1.0 if found.high is None else found.high)
        assert found.ratio is None or low <= found.ratio
    assert 133 <= hits <= 150


@pytest.mark.parametrize("source", ["draws", "unit_params"])
def test_draws_and_units_carry_their_own_band(source: str) -> None:
    sets = tuple({**RISE, "beta": RISE["beta"] + shift} for shift in (-0.004, 0.0, 0.004))
    found = tolerance_ratio(replace(exact(RISE), **{source: sets}), BEFORE, 0.05)
    reading = found.reading
    assert reading.low is not None
    assert reading.high is not None
    shift = 0.95 * 0.004  # percentiles of three draws
    if source == "unit_params":
        shift = float(stats.t.ppf(0.975, 2)) * 0.004 / np.sqrt(3)
        assert reading.units == 3
    ends = [((0.11 + move) / 0.25) ** (1 / 1.5) for move in (-shift, shift)]
    assert (reading.low, reading.high) == pytest.approx(tuple(ends), abs=1e-3)


def test_the_domain_gains_there_or_is_not_sure_to() -> None:
    domain = exact(FALL)
    there = -0.4 * CRITICAL**0.3 + 1.9
    sure = tolerance_ratio(exact(RISE), BEFORE, 0.05, domain=domain, domain_before=2.0).domain
    assert sure is not None
    assert sure.change == pytest.approx(there - 2.0, abs=1e-9)
    assert sure.falls is True
    doubtful = tolerance_ratio(exact(RISE), BEFORE, 0.05, domain=domain, domain_before=there)
    assert doubtful.domain is not None
    assert doubtful.domain.falls is None
    assert "not sure to fall" in doubtful.text()
    rises = tolerance_ratio(exact(RISE), BEFORE, 0.05, domain=domain, domain_before=1.5).domain
    assert rises is not None
    assert rises.falls is False
    above = tolerance_ratio(exact(RISE), BEFORE, 0.5, domain=domain, domain_before=2.0).domain
    assert above is not None
    assert above.change == pytest.approx(-0.4 * 0.9**0.3 - 0.1)  # at the largest fitted ratio
    below = tolerance_ratio(exact(RISE), BEFORE, -0.06, domain=domain, domain_before=2.0)
    assert below.domain is None


def test_a_law_of_the_general_share_is_mirrored() -> None:
    shares = 1.0 - RATIOS
    table = pd.DataFrame({"share_general": shares})
    noise = 1e-4 * np.random.default_rng(0).normal(size=len(shares))
    table["loss_nats"] = 2.4 + 0.3 * np.exp(-2.0 * shares) + noise
    columns = {"ratio_domain": "share_general"}
    one = fit("data-mixing", table, columns=columns, interval="covariance")
    one = replace(one, params={"c": 2.4, "k": 0.3, "t": -2.0})
    found = tolerance_ratio(one, BEFORE, 0.05, share="general").reading
    assert found.ratio == pytest.approx(1 + np.log(0.15 / 0.3) / 2, abs=1e-9)
    assert found.grid == pytest.approx(tuple(RATIOS))


def test_of_a_curve_that_dips_the_largest_ratio_counts() -> None:
    dip = {"c": 0.0, "k": 1.0, "t": 0.0}
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.0 + 0.01 * RATIOS})
    one = fit("data-mixing", table, near={"c": 0.5, "k": 0.5, "t": 0.01}, interval="none")

    def valley(p: Any, x: Any) -> Any:
        return BEFORE + 0.5 * (x["ratio_domain"] - 0.4) ** 2 - 0.02 + 0.0 * p["t"]

    curve = replace(one, law=replace(one.law, predict=valley), params=dip)
    assert tolerance_ratio(curve, BEFORE, 0.0).reading.ratio == pytest.approx(0.6)


def test_other_variables_are_held() -> None:
    n, r = (a.ravel() for a in np.meshgrid([1e8, 1e9], RATIOS))
    table = pd.DataFrame({"n_tokens": n, "ratio_domain": r})
    table["loss_nats"] = (30.0 * n**-0.25 + 2.0) * r**-0.05
    near = {"B": 30.0, "C": 2.0, "alpha": 0.05, "beta": 0.25}
    one = fit("bimix", table, near=near, interval="none")
    falls = tolerance_ratio(one, 2.5, -0.1, at={"n_tokens": 1e8})
    assert falls.reading.censored == ">"  # a loss that falls in R has no largest ratio inside
    with pytest.raises(Refused, match="needs a value of n_tokens"):
        tolerance_ratio(one, 2.5, -0.1)
    with pytest.raises(Refused, match="cannot hold 'n_params': neither bimix reads it"):
        tolerance_ratio(one, 2.5, -0.1, at={"n_tokens": 1e8, "n_params": 1e9})


def test_without_a_band_there_is_no_interval() -> None:
    table = pd.DataFrame({"ratio_domain": RATIOS[[0, 2, 4]]})
    table["loss_nats"] = 0.25 * table["ratio_domain"] ** 1.5 + RISE["beta"]
    found = tolerance_ratio(fit("cmr-ratio", table, near=RISE), BEFORE, 0.05)
    assert found.reading.ratio == pytest.approx(CRITICAL, abs=1e-4)
    assert (found.reading.low, found.reading.high, found.method) == (None, None, "none")
    assert "no interval" in found.text()


# Both criteria ----------------------------------------------------------------------------------


def reading(eps: float = 0.05) -> Tolerance:
    return tolerance_ratio(exact(RISE), BEFORE, eps)


@pytest.mark.parametrize(
    ("eps", "turning", "ratio", "binds"),
    [
        (0.05, Turning(0.9, binding=False), CRITICAL, "tolerance"),
        (0.05, Turning(0.75, binding=True), CRITICAL, "tolerance"),
        (0.05, Turning(0.5, binding=True), 0.5, "turning point"),
        (0.05, Turning(None, binding=True), None, "turning point"),
        (0.3, Turning(0.75, binding=True), 0.75, "turning point"),
        (0.3, Turning(0.9, binding=False), None, ""),
        (-0.06, Turning(0.5, binding=True), None, "tolerance"),
    ],
)
def test_the_lesser_of_both_criteria_binds(
    eps: float, turning: Turning, ratio: float | None, binds: str
) -> None:
    both = criteria(reading(eps), turning, {})
    assert both.ratio == (None if ratio is None else pytest.approx(ratio, rel=1e-6))
    assert both.binds == binds
    assert (f"binding: {binds}" if binds else "neither binds") in both.text()


def test_nonsense_is_refused_in_a_line() -> None:
    one = exact(RISE)
    with pytest.raises(Refused, match="before nan: must be a finite number of nats"):
        tolerance_ratio(one, float("nan"), 0.05)
    with pytest.raises(Refused, match="eps inf"):
        tolerance_ratio(one, BEFORE, float("inf"))
    with pytest.raises(Refused, match="unknown share 'code'"):
        tolerance_ratio(one, BEFORE, 0.05, share="code")
    with pytest.raises(Refused, match="a domain's law and its loss before come together"):
        tolerance_ratio(one, BEFORE, 0.05, domain=one)
    tokens = np.geomspace(1e9, 2e10, 8)
    table = pd.DataFrame({"cpt_tokens": tokens, "change_nats": -0.1 * (tokens / 2e8) ** 0.3})
    with pytest.raises(Refused, match="cmr-domain-tokens reads cpt_tokens, and no ratio_domain"):
        tolerance_ratio(fit("cmr-domain-tokens", table, interval="none"), 0.0, 0.05)
