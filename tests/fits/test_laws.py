"""The library: forms, and every law found again from numbers made with it."""

import numpy as np
import pandas as pd
import pytest

from fits import Refused, all_laws, fit, law

R = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 0.9])
TOKENS = np.geomspace(0.2e9, 40e9, 30)
SIZES, DATA = (
    axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 2e10, 7), np.geomspace(1e9, 1e12, 7))
)

# law -> (parameters, variables, noise in the response's unit)
MADE = {
    "chinchilla": (
        {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
        {"n_params": SIZES, "n_tokens": DATA},
        0.01,
    ),
    "cmr-ratio": ({"alpha": -0.43, "s": 0.3, "beta": 1.9}, {"ratio_domain": R}, 1e-3),
    "cmr-domain-tokens": ({"a1": -0.2, "s1": 0.25, "b1": 0.05}, {"cpt_tokens": TOKENS}, 1e-3),
    "cmr-general-tokens": (
        {"a2": -0.3, "s2": -0.8, "a3": -0.02, "s3": 0.5, "b2": 0.3},
        {"cpt_tokens": TOKENS},
        1e-4,
    ),
    "cmr-critical": ({"a4": 0.12, "s4": 0.3, "b3": 0.02}, {"cpt_tokens": TOKENS}, 1e-3),
}


def made_table(name: str, noise: float, seed: int) -> pd.DataFrame:
    params, variables, _ = MADE[name]
    response = law(name).predict(params, variables)
    response = response + noise * np.random.default_rng(seed).normal(size=len(response))
    return pd.DataFrame({**variables, law(name).response.name: response})


def test_every_law_of_the_library_is_tried_here() -> None:
    assert {one.name for one in all_laws()} == set(MADE)


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


@pytest.mark.parametrize("name", MADE)
def test_linear_parameters_enter_linearly_and_without_offset(name: str) -> None:
    params, variables, _ = MADE[name]
    one = law(name)
    assert one.linear
    trebled = {key: 3.0 * v if key in one.linear else v for key, v in params.items()}
    np.testing.assert_allclose(
        one.predict(trebled, variables), 3.0 * one.predict(params, variables), rtol=1e-12
    )


def test_every_searched_parameter_has_starts_within_its_bounds() -> None:
    for one in all_laws():
        assert set(one.linear) <= set(one.names)
        for own in one.parameters:
            assert bool(own.starts) == (own.name not in one.linear), own.name
            assert all(own.low <= start <= own.high for start in own.starts), own.name


def test_every_law_names_its_source_and_complete_published_parameters() -> None:
    for one in all_laws():
        assert "arXiv" in one.source
        assert all(set(values) == set(one.names) for values in one.published.values())
    assert {"2203.15556", "2404.10102"} <= set(law("chinchilla").published)


def test_an_unknown_law_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refused, match=r"unknown law 'chinchila'.*did you mean 'chinchilla'\?\Z"):
        law("chinchila")
    with pytest.raises(Refused, match=r"unknown law 'zzz'; known: chinchilla, cmr-ratio") as no:
        law("zzz")
    assert "did you mean" not in str(no.value)
