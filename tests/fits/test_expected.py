"""What points will tell, before they are run: widths, conditions, what is not identified."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Refused, fit, law
from fits.expected import expected_intervals, known

TRUTH = {"alpha": -0.4, "s": 0.3, "beta": 1.9}
RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def ratio_table(noise: float, seed: int, ratios: np.ndarray = RATIOS) -> pd.DataFrame:
    scatter = noise * np.random.default_rng(seed).normal(size=len(ratios))
    return pd.DataFrame({"ratio_domain": ratios, "loss_nats": 1.9 - 0.4 * ratios**0.3 + scatter})


def test_of_a_straight_line_the_width_is_the_textbooks() -> None:
    points = {"ratio_domain": RATIOS}
    line = {"alpha": -0.4, "s": 1.0, "beta": 1.9}
    plan = expected_intervals("cmr-ratio", line, points, 2e-3, pin=("s",))
    sd = 2e-3 / np.sqrt(np.sum((RATIOS - RATIOS.mean()) ** 2))
    assert plan.sd("alpha") == pytest.approx(sd)
    assert plan.half_width("alpha") == pytest.approx(stats.t.ppf(0.975, 4) * sd)
    assert plan.table()["parameter"].tolist() == ["alpha", "beta"]


def test_eight_runs_along_one_ray_do_not_know_the_exponents() -> None:
    # Hoffmann's rounded coefficients, 10 M to 12 B parameters, noise of .014 nats: all at
    # D = 20 N size and data terms are told apart only by how their exponents differ
    believed = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    n = np.geomspace(1e7, 1.2e10, 8)
    plans = []
    for ratio in (np.full(8, 20.0), np.tile([5.0, 80.0], 4)):
        points = pd.DataFrame({"n_params": n, "n_tokens": ratio * n})
        plans.append(expected_intervals("chinchilla", believed, points, 0.014, objective="squares"))
    ray, fan = plans
    assert ray.sd("alpha") == pytest.approx(12.2, rel=0.01)
    assert fan.sd("alpha") == pytest.approx(0.023, rel=0.01)
    assert ray.condition > 1e5
    assert fan.condition < 300


def test_expected_errors_are_those_of_many_sets() -> None:
    plan = expected_intervals("cmr-ratio", TRUTH, {"ratio_domain": RATIOS}, 1e-3)
    options: dict[str, Any] = {"near": TRUTH, "interval": "covariance"}
    fits = [fit("cmr-ratio", ratio_table(1e-3, seed), **options) for seed in range(200)]
    spread = np.std([one.params["s"] for one in fits])
    assert spread == pytest.approx(plan.sd("s"), rel=0.15)  # 200 sets: 5 % of standard error
    intervals = [one.interval("s") for one in fits]
    widths = [(one.high or np.nan) - (one.low or np.nan) for one in intervals]
    assert np.mean(widths) / 2 == pytest.approx(plan.half_width("s"), rel=0.2)


def test_a_fit_knows_what_its_intervals_say() -> None:
    one = fit("cmr-ratio", ratio_table(1e-3, 0), interval="covariance")
    gap = one.interval("s")
    assert gap.low is not None
    assert gap.high is not None
    assert known(one).half_width("s") == pytest.approx((gap.high - gap.low) / 2)
    assert known(one).variance == pytest.approx(
        np.sum((one.y - one.problem.predict(one.params)) ** 2) / 3
    )
    assert known(one, noise=1e-3).sd("s") == pytest.approx(
        known(one).sd("s") * 1e-3 / math.sqrt(known(one).variance), rel=1e-6
    )


def test_hubers_fit_has_about_the_noise_it_was_given() -> None:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(5e7, 5e9, 12), np.geomspace(1e9, 2e11, 12)))
    chinchilla = law("chinchilla")
    exact = chinchilla.predict(chinchilla.published["2404.10102"], {"n_params": n, "n_tokens": d})
    scatter = np.exp(0.005 * np.random.default_rng(0).normal(size=len(n)))
    table = pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": exact * scatter})
    told = known(fit("chinchilla", table, interval="none"))
    # far below the scatter Huber's is an absolute loss, with pi / 2 the variance of a mean; the
    # density of residuals within one sd, which the engine takes, makes that (1 / .683)^2
    assert math.sqrt(told.variance) == pytest.approx(0.005 / 0.683, rel=0.1)


def test_scales_are_by_their_logarithm_and_quantities_as_they_are() -> None:
    points = {"n_params": np.geomspace(1e7, 1e10, 8), "n_tokens": 1e9 * np.array([1.0, 30.0] * 4)}
    believed = law("chinchilla").published["2404.10102"]
    plan = expected_intervals("chinchilla", believed, points, 0.005)
    table = plan.table().set_index("parameter")
    assert table["by_log"].tolist() == [True, True, True, False, False]
    assert plan.sd(lambda p: np.log(p["A"])) == pytest.approx(plan.sd("A"), rel=1e-6)
    assert plan.sd(lambda p: p["A"]) == pytest.approx(plan.sd("A") * believed["A"], rel=1e-4)


def test_too_few_points_know_nothing_and_as_many_as_parameters_no_noise() -> None:
    two = expected_intervals("cmr-ratio", TRUTH, {"ratio_domain": RATIOS[:2]}, 1e-3)
    assert (two.sd("s"), two.condition) == (math.inf, math.inf)
    three = expected_intervals("cmr-ratio", TRUTH, {"ratio_domain": RATIOS[:3]}, 1e-3)
    assert three.sd("s") < math.inf
    assert three.half_width("s") == math.inf


def test_nonsense_is_refused_in_a_line() -> None:
    points = {"ratio_domain": RATIOS}
    with pytest.raises(Refused, match="noise 0: must be a positive"):
        expected_intervals("cmr-ratio", TRUTH, points, 0.0)
    with pytest.raises(Refused, match="the parameters lack s: law cmr-ratio has alpha, s, beta"):
        expected_intervals("cmr-ratio", {"alpha": 1.0, "beta": 1.0}, points, 1e-3)
    with pytest.raises(Refused, match="have k too much"):
        expected_intervals("cmr-ratio", {**TRUTH, "k": 1.0}, points, 1e-3)
    with pytest.raises(Refused, match=r"s = -1: law cmr-ratio takes 0\.01 to 10"):
        expected_intervals("cmr-ratio", {**TRUTH, "s": -1.0}, points, 1e-3)
    with pytest.raises(Refused, match="needs ratio_domain"):
        expected_intervals("cmr-ratio", TRUTH, {"ratio": RATIOS}, 1e-3)
    with pytest.raises(Refused, match="no points"):
        expected_intervals("cmr-ratio", TRUTH, {"ratio_domain": []}, 1e-3)
    with pytest.raises(Refused, match="no parameter 'k' to pin"):
        expected_intervals("cmr-ratio", TRUTH, points, 1e-3, pin=("k",))
    with pytest.raises(Refused, match="no parameter of law cmr-ratio is left"):
        expected_intervals("cmr-ratio", TRUTH, points, 1e-3, pin=("alpha", "s", "beta"))
    with pytest.raises(Refused, match="level 2"):
        expected_intervals("cmr-ratio", TRUTH, points, 1e-3, level=2)
    plan = expected_intervals("cmr-ratio", TRUTH, points, 1e-3)
    with pytest.raises(Refused, match="no free parameter 'k'"):
        plan.sd("k")
    with pytest.raises(Refused, match="has 2 values: a design narrows one"):
        plan.sd(lambda p: np.concatenate([p["s"], p["s"]], axis=1))
    with pytest.raises(Refused, match="no value at these parameters"):
        plan.sd(lambda p: np.log(p["alpha"]))
    few = fit("cmr-ratio", ratio_table(1e-3, 0, RATIOS[:3]))
    with pytest.raises(Refused, match="do not tell their noise"):
        known(few)
    assert known(few, noise=1e-3).sd("s") > 0
