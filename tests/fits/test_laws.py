"""The library: forms, and every law found again from numbers made with it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import Refused, all_laws, fit, law
from fits.engine.dual import Dual
from fits.form import Law
from fits.laws.mixture import data_mixing
from fits.laws.repetition import optimal_size
from fits.laws.size_and_data import HOFFMANN_STARTS

STEP = 1e-30  # of complex differentiation, exact as the Duals are
R = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 0.9])
TOKENS = np.geomspace(0.2e9, 40e9, 30)
ENDS = np.concatenate([[0.0], np.geomspace(0.01, 1.0, 20)])


def grid(**axes: Any) -> dict[str, np.ndarray]:
    """Every combination of the axes' values: axis -> [n]."""
    met = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, met, strict=True)}


def repeated() -> dict[str, np.ndarray]:
    """Sizes on both sides of what the unique tokens can use, from half a pass to 200."""
    rows = grid(
        n_params=np.geomspace(7e6, 9e9, 6),
        unique_tokens=np.geomspace(1e8, 1e10, 4),
        passes=np.array([0.5, 1.0, 3.0, 10.0, 50.0, 200.0]),
    )
    return {**rows, "n_tokens": rows["unique_tokens"] * rows.pop("passes")}


def thirds() -> dict[str, np.ndarray]:
    """Two shares of three, over the whole simplex."""
    rows = grid(web=np.linspace(0.0, 1.0, 7), code=np.linspace(0.0, 1.0, 7))
    inside = rows["web"] + rows["code"] <= 1.0 + 1e-9
    return {name: values[inside] for name, values in rows.items()}


SIZES_AND_DATA = grid(n_params=np.geomspace(5e7, 2e10, 7), n_tokens=np.geomspace(1e9, 1e12, 7))
OF_THREE = "data-mixing:web+code+books"

# law -> (parameters, variables, noise in the response's unit)
MADE: dict[str, tuple[dict[str, float], dict[str, np.ndarray], float]] = {
    "kaplan-size": (
        {"N_c": 8.8e13, "alpha_N": 0.076},
        {"n_params": np.geomspace(1e6, 1e10, 40)},
        0.01,
    ),
    "kaplan-data": (
        {"D_c": 5.4e13, "alpha_D": 0.095},
        {"n_tokens": np.geomspace(2e7, 2e10, 40)},
        0.01,
    ),
    "kaplan": (
        {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
        grid(n_params=np.geomspace(4e5, 1e9, 7), n_tokens=np.geomspace(2e7, 2e10, 7)),
        0.01,
    ),
    "chinchilla": (
        {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
        SIZES_AND_DATA,
        0.01,
    ),
    # k and the floor E part only where some runs come near the floor
    "power-mean": (
        {"E": 0.8, "A": 9e3, "B": 4e5, "alpha": 0.55, "beta": 0.65, "k": 0.4},
        grid(n_params=np.geomspace(1e7, 1e11, 9), n_tokens=np.geomspace(1e8, 1e13, 9)),
        1e-3,
    ),
    "over-training": ({"E": 1.51, "a": 141.0, "b": 190.0, "eta": 0.121}, SIZES_AND_DATA, 0.01),
    "data-constrained": (
        {
            "E": 1.87,
            "A": 521.0,
            "B": 1488.0,
            "alpha": 0.35,
            "beta": 0.36,
            "R_D*": 15.4,
            "R_N*": 5.3,
        },
        repeated(),
        5e-3,
    ),
    "cmr-ratio": ({"alpha": -0.43, "s": 0.3, "beta": 1.9}, {"ratio_domain": R}, 1e-3),
    "cmr-domain-tokens": ({"a1": -0.2, "s1": 0.25, "b1": 0.05}, {"cpt_tokens": TOKENS}, 1e-3),
    "cmr-general-tokens": (
        {"a2": -0.3, "s2": -0.8, "a3": -0.02, "s3": 0.5, "b2": 0.3},
        {"cpt_tokens": TOKENS},
        1e-4,
    ),
    "cmr-critical": ({"a4": 0.12, "s4": 0.3, "b3": 0.02}, {"cpt_tokens": TOKENS}, 1e-3),
    # the nine ratios of the paper, R = 0 among them
    "d-cpt": (
        {
            "E": 0.9,
            "A": 3e3,
            "B": 90.0,
            "C": 0.5,
            "alpha": 0.4,
            "beta": 0.3,
            "eta": 0.5,
            "eps": 0.1,
            "gamma": 0.6,
        },
        grid(
            n_params=np.geomspace(5e8, 7e9, 4),
            cpt_tokens=np.geomspace(1e8, 3e10, 6),
            ratio_domain=np.array([0.0, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0]),
        ),
        5e-4,
    ),
    "data-mixing": (
        {"c": 1.9, "k": 0.6, "t": -2.4},
        {"ratio_domain": np.linspace(0.0, 1.0, 21)},
        1e-3,
    ),
    "ratio-inverse": (
        {"E": 1.4, "C": 0.5, "gamma": 0.4},
        {"own_share": np.linspace(0.05, 1.0, 21)},
        1e-3,
    ),
    "order-gain": ({"g0": 0.02, "g1": 0.06, "s": 0.5}, {"end_ratio": ENDS}, 1e-4),
    "order-gain-linear": ({"g0": 0.02, "g1": 0.06}, {"end_ratio": ENDS}, 1e-3),
    "order-gain-saturating": ({"g0": 0.02, "g1": 0.06, "h": 0.3}, {"end_ratio": ENDS}, 1e-4),
    "order-gain-log": ({"g0": 0.02, "g1": 0.06, "h": 0.05}, {"end_ratio": ENDS}, 1e-4),
    OF_THREE: ({"c": 1.9, "k": 0.6, "t_web": -2.4, "t_code": 0.8}, thirds(), 1e-3),
    "bimix": (
        {"B": 300.0, "C": 1.7, "alpha": 0.06, "beta": 0.3},
        grid(ratio_domain=R, n_tokens=np.geomspace(1e8, 1e11, 7)),
        5e-3,
    ),
}


def made_table(name: str, noise: float, seed: int) -> pd.DataFrame:
    params, variables, _ = MADE[name]
    response = law(name).predict(params, variables)
    response = response + noise * np.random.default_rng(seed).normal(size=len(response))
    return pd.DataFrame({**variables, law(name).response.name: response})


def test_every_law_of_the_library_is_tried_here() -> None:
    tried = {name for name in MADE if ":" not in name}
    # those of test_fit_schedule.py and test_cpt_dynamics.py
    of_curves = {one.name for one in all_laws() if one.rates}
    assert {one.name for one in all_laws()} - of_curves == tried
    of_pretraining = {"annealing", "annealing-free", "multi-power", "functional"}
    assert of_curves == of_pretraining | {"cpt-dynamics", "cpt-dynamics-product"}


@pytest.mark.parametrize("name", MADE)
def test_noise_free_numbers_give_back_the_parameters(name: str) -> None:
    truth = MADE[name][0]
    found = fit(name, made_table(name, 0.0, 0), interval="none")
    assert found.params == pytest.approx(truth, rel=1e-6)
    assert found.residual_rms < 1e-9


@pytest.mark.parametrize("name", MADE)
def test_noisy_numbers_give_intervals_that_hold_the_truth(name: str) -> None:
    truth, _, noise = MADE[name]
    # 99.9 %: five parameters of one set are no test of coverage (that is test_uncertainty.py)
    found = fit(name, made_table(name, noise, 1), objective="squares", level=0.999)
    assert set(found.intervals) == set(truth)
    for key, one in found.intervals.items():
        assert one.low is not None, key
        assert one.high is not None, key
        assert one.low < truth[key] < one.high, key
        assert one.low < found.params[key] < one.high, key
    assert 0.5 * noise < found.residual_rms < 1.5 * noise


def test_bootstrap_interval_of_the_robust_objective_holds_the_truth() -> None:
    truth, _, noise = MADE["chinchilla"]
    found = fit("chinchilla", made_table("chinchilla", noise, 2), interval="bootstrap", draws=60)
    for key, one in found.intervals.items():
        assert one.low is not None
        assert one.high is not None
        assert one.low < truth[key] < one.high, key
        assert one.method == "bootstrap of 60"


def test_tokens_are_counted_in_units_of_a_fifth_of_a_billion() -> None:
    at_20_billion = {"cpt_tokens": np.array([20e9])}
    value = law("cmr-domain-tokens").predict({"a1": 3.0, "s1": 0.5, "b1": 1.0}, at_20_billion)
    assert value == pytest.approx([31.0])  # T = 100


def test_chinchilla_is_the_sum_of_three_terms() -> None:
    params = {"E": 1.5, "A": 100.0, "B": 1000.0, "alpha": 0.5, "beta": 1 / 3}
    x = {"n_params": np.array([1e4]), "n_tokens": np.array([1e6])}
    assert law("chinchilla").predict(params, x) == pytest.approx([1.5 + 1.0 + 10.0])


def test_ratio_law_is_beta_at_zero_and_alpha_more_at_one() -> None:
    params = {"alpha": -0.4, "s": 0.2, "beta": 1.9}
    value = law("cmr-ratio").predict(params, {"ratio_domain": np.array([0.0, 1.0])})
    assert value == pytest.approx([1.9, 1.5])


@pytest.mark.parametrize("name", [name for name in MADE if law(name).linear])
def test_linear_parameters_enter_linearly_and_without_offset(name: str) -> None:
    params, variables, _ = MADE[name]
    one = law(name)
    trebled = {key: 3.0 * v if key in one.linear else v for key, v in params.items()}
    np.testing.assert_allclose(
        one.predict(trebled, variables), 3.0 * one.predict(params, variables), rtol=1e-12
    )
    alone = [
        one.predict({**params, **dict.fromkeys(one.linear, 0.0), key: params[key]}, variables)
        for key in one.linear
    ]
    np.testing.assert_allclose(sum(alone), one.predict(params, variables), rtol=1e-12)


def test_starts_are_within_bounds_and_few() -> None:
    for one in [*all_laws(), law(OF_THREE), data_mixing("abcdefghi")]:
        assert set(one.linear) <= set(one.names)
        for own in one.parameters:
            assert bool(own.starts) == (own.name not in one.linear), own.name
            assert all(own.low <= start <= own.high for start in own.starts), own.name
            assert own.low != 0.0 or all(start > 0.0 for start in own.starts), own.name
        assert math.prod(len(own.starts) or 1 for own in one.parameters) <= 64, one.name


# Gradients ----------------------------------------------------------------------------------


def away_from_the_truth(name: str, draw: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Parameters up to a fifth off; the rows whose variables are all positive."""
    params, variables, _ = MADE[name]
    rng = np.random.default_rng(draw)
    moved = {key: value * float(rng.uniform(0.8, 1.2)) for key, value in params.items()}
    positive = np.all([values > 0 for values in variables.values()], axis=0)
    return moved, {key: values[positive] for key, values in variables.items()}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("draw", range(3))
def test_slopes_are_those_of_the_complex_step(name: str, draw: int) -> None:
    params, x = away_from_the_truth(name, draw)
    one = law(name)
    found = one.predict({key: Dual(value, {key: 1.0}) for key, value in params.items()}, x)
    np.testing.assert_allclose(found.value, one.predict(params, x), rtol=1e-13)
    assert set(found.slopes) == set(params)
    for key, value in params.items():
        step = STEP * abs(value)
        expected = one.predict({**params, key: value + 1j * step}, x).imag / step
        size = np.abs(expected).max()
        assert size > 0, key
        np.testing.assert_allclose(
            found.slopes[key] + np.zeros(found.shape), expected, rtol=1e-11, atol=1e-12 * size
        )


@pytest.mark.parametrize("name", MADE)
def test_many_sets_of_parameters_go_through_at_once(name: str) -> None:
    sets = [away_from_the_truth(name, draw)[0] for draw in range(3)]
    x = MADE[name][1]
    stacked = {key: np.array([[one[key]] for one in sets]) for key in sets[0]}
    found = law(name).predict({k: Dual(v, {k: 1.0}) for k, v in stacked.items()}, x)
    assert found.shape == (3, len(next(iter(x.values()))))
    for row, one in zip(found.value, sets, strict=True):
        np.testing.assert_allclose(row, law(name).predict(one, x), rtol=1e-13)


@pytest.mark.parametrize("name", ["d-cpt", "data-mixing", OF_THREE])
def test_a_share_of_nothing_has_finite_slopes(name: str) -> None:
    params, variables, _ = MADE[name]
    nothing = {k: np.where(v < 0.5, 0.0, v) if v.max() <= 1 else v for k, v in variables.items()}
    found = law(name).predict({k: Dual(v, {k: 1.0}) for k, v in params.items()}, nothing)
    assert np.all(np.isfinite(found.value))
    assert all(np.all(np.isfinite(slope)) for slope in found.slopes.values())


# Values -------------------------------------------------------------------------------------


def value(one: Law, params: Mapping[str, float], **x: float) -> float:
    """The law at one place."""
    return float(one.predict(params, {key: np.array([number]) for key, number in x.items()})[0])


def test_kaplan_published_constants() -> None:
    size, data = law("kaplan-size"), law("kaplan-data")
    # 8.8e13 / 1.5e9 is 58667, to the .076; 5.4e13 / 2.2e10 is 2454.5, to the .095
    assert value(size, size.published["2001.08361"], n_params=1.5e9) == pytest.approx(2.3035, 1e-4)
    assert value(data, data.published["2001.08361"], n_tokens=2.2e10) == pytest.approx(2.0992, 1e-4)


def test_kaplan_joins_size_and_data_in_one_bracket() -> None:
    params = {"N_c": 3e8, "D_c": 7e9, "alpha_N": 1.0, "alpha_D": 0.5}
    found = value(law("kaplan"), params, n_params=1e8, n_tokens=1e9)
    assert found == pytest.approx((3.0**2 + 7.0) ** 0.5)


def test_kaplan_eightfold_size_needs_fivefold_data() -> None:
    one = law("kaplan")
    params = one.published["2001.08361"]

    def overfit(n_params: float, n_tokens: float) -> float:
        ample = value(one, params, n_params=n_params, n_tokens=1e300)
        assert ample == pytest.approx((6.4e13 / n_params) ** 0.076)
        return value(one, params, n_params=n_params, n_tokens=n_tokens) / ample

    more = 8 ** (0.076 / 0.103)  # the paper: "roughly 5x"
    assert 4.5 < more < 5.0
    assert overfit(8e8, more * 1e10) == pytest.approx(overfit(1e8, 1e10))


def test_kaplan_does_not_overflow_far_from_the_data() -> None:
    params = {"N_c": 1e40, "D_c": 1e10, "alpha_N": 2.0, "alpha_D": 0.01}
    found = value(law("kaplan"), params, n_params=1e2, n_tokens=1e9)
    assert found == pytest.approx(1e76)  # by way of 1e7600


def test_chinchilla_at_its_own_budget() -> None:
    # 406.4 / 7e10^.34 is .0835, 410.7 / 1.4e12^.28 is .1631
    quoted = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    found = value(law("chinchilla"), quoted, n_params=70e9, n_tokens=1.4e12)
    assert found == pytest.approx(1.69 + 0.0835 + 0.1631, abs=2e-4)
    printed = law("chinchilla").published["2203.15556"]
    found = value(law("chinchilla"), printed, n_params=70e9, n_tokens=1.4e12)
    assert found == pytest.approx(1.69 + 0.0852 + 0.1422, abs=2e-4)


def test_the_starts_of_hoffmann_are_4500() -> None:
    assert set(HOFFMANN_STARTS) == set(law("chinchilla").names)
    assert math.prod(len(along) for along in HOFFMANN_STARTS.values()) == 4500
    np.testing.assert_allclose(np.log(HOFFMANN_STARTS["E"]), [-1.0, -0.5, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(np.log(HOFFMANN_STARTS["A"]), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0])
    assert HOFFMANN_STARTS["A"] == HOFFMANN_STARTS["B"]
    assert HOFFMANN_STARTS["alpha"] == HOFFMANN_STARTS["beta"] == (0.0, 0.5, 1.0, 1.5, 2.0)


def test_power_mean_raises_the_sum_and_is_chinchilla_at_k_1() -> None:
    params = {"E": 1.5, "A": 100.0, "B": 3000.0, "alpha": 0.5, "beta": 1 / 3, "k": 0.5}
    x = {"n_params": 1e4, "n_tokens": 1e9}  # 1 and 3
    assert value(law("power-mean"), params, **x) == pytest.approx(1.5 + 2.0)
    plain = {key: number for key, number in params.items() if key != "k"}
    assert value(law("power-mean"), {**params, "k": 1.0}, **x) == pytest.approx(
        value(law("chinchilla"), plain, **x)
    )


def test_over_training_is_chinchilla_with_one_exponent() -> None:
    one = law("over-training")
    params = one.published["2403.08540 C4"]
    tied = {
        "E": params["E"],
        "A": params["a"] * 6 ** -params["eta"],
        "B": params["b"] * 6 ** -params["eta"],
        "alpha": 2 * params["eta"],
        "beta": 2 * params["eta"],
    }
    x = SIZES_AND_DATA
    np.testing.assert_allclose(one.predict(params, x), law("chinchilla").predict(tied, x))
    # M = 20 at 1e22 FLOPs, by hand: (141 * 1.4370 + 190 * .6959) * .0021777
    at = {"n_params": (1e22 / 120) ** 0.5, "n_tokens": 20 * (1e22 / 120) ** 0.5}
    assert value(one, params, **at) == pytest.approx(1.51 + 0.7292, abs=2e-4)


@pytest.mark.parametrize(
    ("trained_on", "measured"), [("C4", 3.0417), ("RedPajama", 3.1498), ("RefinedWeb", 3.1305)]
)
def test_over_training_coefficients_give_the_authors_losses(
    trained_on: str, measured: float
) -> None:
    # the 0.4B run at 20 tokens a parameter, as released with the paper; the third digit of eta,
    # to which the coefficients are printed, is worth .03 nats here
    params = law("over-training").published[f"2403.08540 {trained_on}"]
    found = value(law("over-training"), params, n_params=411616256, n_tokens=8232325120)
    assert found == pytest.approx(measured, abs=0.03)


def test_unique_tokens_are_used_by_a_twentieth_as_many_parameters() -> None:
    params = law("data-constrained").published["2305.16264"]
    assert params["A"] == pytest.approx(521, abs=0.5)
    assert params["B"] == pytest.approx(1488, abs=0.5)
    assert params["E"] == pytest.approx(1.87, abs=0.005)
    assert optimal_size(params, 1e9) / 1e9 == pytest.approx(0.051, abs=5e-4)
    uneven = {**params, "alpha": 0.3, "beta": 0.4}
    size = optimal_size(uneven, 1e9)  # where a trade of size for data gains nothing
    at_size = 0.3 * params["A"] / size**0.3
    assert at_size == pytest.approx(0.4 * params["B"] / 1e9**0.4)


def test_data_constrained_counts_passes_down() -> None:
    one = law("data-constrained")
    params = one.published["2305.16264"]
    a, b, e, power = params["A"], params["B"], params["E"], 0.3526596

    def data_term(passes: float) -> float:
        x = {"n_params": 1e6, "unique_tokens": 1e9, "n_tokens": passes * 1e9}
        return value(one, params, **x) - e - a / 1e6**power

    # four passes: 1 + 15.387756 (1 - exp(-3 / 15.387756)) = 3.7257 passes' worth
    assert data_term(4.0) == pytest.approx(b / (3.72566 * 1e9) ** power, rel=1e-5)
    assert data_term(1e9) == pytest.approx(b / (16.387756 * 1e9) ** power, rel=1e-6)
    assert data_term(1.0) == pytest.approx(b / 1e9**power, rel=1e-9)
    assert data_term(0.5) == pytest.approx(b / 0.5e9**power, rel=1e-9)  # half a pass: all unique


def test_data_constrained_counts_excess_parameters_down() -> None:
    one = law("data-constrained")
    params = one.published["2305.16264"]
    usable = float(optimal_size(params, 1e9))
    x = {"unique_tokens": 1e9, "n_tokens": 1e9}
    below = value(one, params, n_params=usable / 2, **x)
    chinchilla = {key: params[key] for key in law("chinchilla").names}
    assert below == pytest.approx(
        value(law("chinchilla"), chinchilla, n_params=usable / 2, n_tokens=1e9)
    )
    worth = usable * (1 + 5.309743 * (1 - math.exp(-1 / 5.309743)))  # of twice the usable size
    assert value(one, params, n_params=2 * usable, **x) == pytest.approx(
        value(law("chinchilla"), chinchilla, n_params=worth, n_tokens=1e9)
    )


def test_d_cpt_is_the_sum_of_four_terms() -> None:
    params = {
        "E": 1.0,
        "A": 100.0,
        "B": 2.0,
        "C": 3.0,
        "alpha": 0.5,
        "beta": 0.5,
        "eta": 2.0,
        "eps": 0.25,
        "gamma": 1.0,
    }
    x = {"n_params": 1e4, "cpt_tokens": 4.0, "ratio_domain": 0.5}
    assert value(law("d-cpt"), params, **x) == pytest.approx(1.0 + 1.0 + 2.0 * 0.25 / 2.0 + 4.0)
    none = value(law("d-cpt"), params, **{**x, "ratio_domain": 0.0})
    assert none == pytest.approx(1.0 + 1.0 + 0.0 + 12.0)


def test_data_mixing_is_exponential_in_the_ratio() -> None:
    params = {"c": 1.0, "k": 2.0, "t": -2.0 * math.log(2.0)}
    assert value(law("data-mixing"), params, ratio_domain=0.0) == pytest.approx(3.0)
    assert value(law("data-mixing"), params, ratio_domain=0.5) == pytest.approx(2.0)
    assert value(law("data-mixing"), params, ratio_domain=1.0) == pytest.approx(1.5)


def test_data_mixing_of_shares_leaves_the_last_out() -> None:
    one = law(OF_THREE)
    assert [v.name for v in one.variables] == ["web", "code"]
    c, k, t = 1.9, 0.6, {"web": -2.0, "code": 0.5, "books": -0.7}  # as the paper writes it
    ours = {"c": c, "k": k * math.exp(-0.7), "t_web": -2.0 + 0.7, "t_code": 0.5 + 0.7}
    full = c + k * math.exp(0.5 * t["web"] + 0.2 * t["code"] + 0.3 * t["books"])
    assert value(one, ours, web=0.5, code=0.2) == pytest.approx(full)


def test_data_mixing_of_two_shares_is_that_of_the_ratio() -> None:
    one = data_mixing(["w_github", "w_pilecc"])
    assert value(one, {"c": 1.0, "k": 2.0, "t_w_github": -3.0}, w_github=0.3) == pytest.approx(
        value(law("data-mixing"), {"c": 1.0, "k": 2.0, "t": -3.0}, ratio_domain=0.3)
    )


def test_data_mixing_of_shares_is_found_again_by_its_name() -> None:
    assert law(data_mixing(["web", "code", "books"]).name) is law(OF_THREE)
    found = fit(OF_THREE, made_table(OF_THREE, 1e-3, 3), interval="none")
    assert found.law is law(OF_THREE)


@pytest.mark.parametrize("shares", ["web", "web+web", "web+", "web+a,b"])
def test_data_mixing_of_unfit_shares_is_refused(shares: str) -> None:
    with pytest.raises(Refused, match=r"data-mixing of .*(two or more columns|no \+ or ,)"):
        law(f"data-mixing:{shares}")


def test_bimix_is_a_product_of_share_and_volume() -> None:
    params = {"B": 100.0, "C": 3.0, "alpha": 0.5, "beta": 0.5}
    assert value(law("bimix"), params, ratio_domain=0.25, n_tokens=1e4) == pytest.approx(8.0)


# Names --------------------------------------------------------------------------------------


def test_every_law_names_its_source_and_complete_published_parameters() -> None:
    for one in all_laws():
        assert "arXiv" in one.source
        assert all(set(values) == set(one.names) for values in one.published.values())
    assert {"2203.15556", "2404.10102"} <= set(law("chinchilla").published)


def test_an_unknown_law_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refused, match=r"unknown law 'chinchila'.*did you mean 'chinchilla'\?\Z"):
        law("chinchila")
    with pytest.raises(
        Refused, match=r"unknown law 'zzz'; known: kaplan-size, kaplan-data, kaplan, chin"
    ) as no:
        law("zzz")
    assert "did you mean" not in str(no.value)
