"""Compute-optimal size and tokens: published optima, exponents, intervals, extrapolation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from fits import Fit, Refused, fit, fit_shared, law, read_table
from fits.allocation import allocate, loss_cost
from fits.optimum import allocation_exponent, log_optimal_size

GOPHER = 5.76e23  # FLOP, the budget that Chinchilla was trained at
TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def best_size(name: str, params: Mapping[str, float], flop: float, **at: Any) -> float:
    return float(np.exp(log_optimal_size(law(name), flop, at=at)(params))[0, 0])


def closed_form(p: Mapping[str, float], flop: float) -> float:
    """Hoffmann et al. 2022, 2203.15556, eq. 4."""
    total = p["alpha"] + p["beta"]
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total)
    return float(g * (flop / 6) ** (p["beta"] / total))


def grid_table(noise: float, seed: int = 0, sizes: int = 5) -> pd.DataFrame:
    n, d = (
        a.ravel() for a in np.meshgrid(np.geomspace(5e7, 5e9, sizes), np.geomspace(1e9, 2e11, 6))
    )
    exact = law("chinchilla").predict(TRUTH, {"n_params": n, "n_tokens": d})
    scatter = np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": exact * scatter})


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit("chinchilla", grid_table(0.003), objective="squares-log", interval="covariance")


# Published ----------------------------------------------------------------------------------


def test_published_coefficients_at_gophers_budget() -> None:
    printed = law("chinchilla").published["2203.15556"]
    assert best_size("chinchilla", printed, GOPHER) == pytest.approx(40e9, rel=0.02)
    refit = law("chinchilla").published["2404.10102"]
    size = best_size("chinchilla", refit, GOPHER)
    tokens = GOPHER / 6 / size
    assert size == pytest.approx(72e9, rel=0.02)
    assert tokens == pytest.approx(1.33e12, rel=0.02)
    assert tokens / size == pytest.approx(18, abs=1)
    repeated = law("data-constrained").published["2305.16264"]
    assert best_size("data-constrained", repeated, GOPHER, unique_tokens=1e14) == pytest.approx(
        70e9, rel=0.02
    )


@pytest.mark.parametrize("key", ["2203.15556", "2404.10102"])
@pytest.mark.parametrize("flop", [1e15, 1e21, GOPHER, 1e28])
def test_the_search_finds_the_closed_form(key: str, flop: float) -> None:
    p = law("chinchilla").published[key]
    assert best_size("chinchilla", p, flop) == pytest.approx(closed_form(p, flop), rel=1e-9)
    exponent = allocation_exponent(law("chinchilla"), flop)(p)[0, 0]
    assert exponent == pytest.approx(p["beta"] / (p["alpha"] + p["beta"]), abs=1e-9)


def test_kaplans_joint_law_gives_model_size_the_greater_part() -> None:
    p = law("kaplan").published["2001.08361"]
    exponent = allocation_exponent(law("kaplan"), 1e21)(p)[0, 0]
    # the bracket's powers alpha_N / alpha_D and 1: a = 1 / (1 + alpha_N / alpha_D)
    assert exponent == pytest.approx(1 / (1 + p["alpha_N"] / p["alpha_D"]), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "params", "at"),
    [
        ("power-mean", {"E": 1.5, "A": 8e3, "B": 2e4, "alpha": 0.7, "beta": 0.6, "k": 0.4}, {}),
        ("over-training", dict(law("over-training").published["2403.08540 C4"]), {}),
        (
            "data-constrained",
            dict(law("data-constrained").published["2305.16264"]),
            {"unique_tokens": 5e9},
        ),
    ],
)
def test_other_laws_agree_with_scipys_minimum(
    name: str, params: dict[str, float], at: dict[str, float]
) -> None:
    flop = 3e21

    def loss(u: float) -> float:
        n = np.exp(u)
        x = {"n_params": n, "n_tokens": flop / 6 / n, **at}
        return float(law(name).predict(params, x))

    expected = minimize_scalar(loss, bounds=(15.0, 32.0), method="bounded", options={"xatol": 1e-9})
    found = np.log(best_size(name, params, flop, **at))
    assert found == pytest.approx(expected.x, abs=1e-4)
    assert loss(float(found)) <= expected.fun + 1e-14


def test_the_public_points_reach_the_refit_and_its_exponent(public_tables: Path) -> None:
    points = read_table(public_tables / "chinchilla_epoch245.csv")
    options: dict[str, Any] = {"where": "in_published_fit == 1", "interval": "bootstrap"}
    one = fit("chinchilla", points, draws=300, **options)
    (best,) = allocate(one, GOPHER).optima
    assert best.n_params == pytest.approx(72e9, rel=0.02)
    assert best.exponent == pytest.approx(0.5126, abs=0.005)  # 2404.10102
    low, high = best.exponent_interval.low, best.exponent_interval.high
    assert low is not None
    assert high is not None
    assert (high - low) / 4 == pytest.approx(0.02, abs=0.012)  # the standard error printed there
    assert best.beyond > 4  # the largest of the points has 16 B parameters
    assert best.notes[0].startswith("extrapolated: N is")


# Intervals ----------------------------------------------------------------------------------


def test_covariance_of_the_exponent_is_the_delta_method_by_hand(fitted: Fit) -> None:
    best = allocate(fitted, 1e21).optima[0]
    a, b = fitted.params["alpha"], fitted.params["beta"]
    covariance = fitted.identified.covariance
    assert covariance is not None
    slopes = np.zeros(5)
    slopes[[fitted.problem.free.index("alpha"), fitted.problem.free.index("beta")]] = (
        -b / (a + b) ** 2,
        a / (a + b) ** 2,
    )
    half = stats.t.ppf(0.975, fitted.spare) * np.sqrt(slopes @ covariance @ slopes)
    assert best.exponent_interval.low == pytest.approx(best.exponent - half, rel=1e-5)
    assert best.exponent_interval.high == pytest.approx(best.exponent + half, rel=1e-5)


def test_draws_and_covariance_agree_on_many_points(fitted: Fit) -> None:
    table = grid_table(0.003, sizes=12)
    options: dict[str, Any] = {"objective": "squares-log"}
    drawn = fit("chinchilla", table, interval="bootstrap", draws=400, **options)
    curved = fit("chinchilla", table, interval="covariance", **options)
    widths = []
    for one in (drawn, curved):
        gap = allocate(one, 1e22).optima[0].n_params_interval
        assert gap.low is not None
        assert gap.high is not None
        widths.append(np.log(gap.high / gap.low))
    assert 0.75 < widths[0] / widths[1] < 1.33


def test_intervals_of_the_optimal_size_cover_the_truth() -> None:
    # 100 sets at 95 %: fewer than 88 happen once in 250 times (binomial)
    assert stats.binom.cdf(87, 100, 0.95) < 1 / 250
    truth, hits, exponents = closed_form(TRUTH, 1e22), 0, 0
    for seed in range(100):
        table = grid_table(0.01, seed)
        options: dict[str, Any] = {"near": TRUTH, "interval": "covariance"}
        one = fit("chinchilla", table, objective="squares-log", **options)
        best = allocate(one, 1e22).optima[0]
        sizes, slopes = best.n_params_interval, best.exponent_interval
        assert sizes.low is not None
        assert sizes.high is not None
        assert slopes.low is not None
        assert slopes.high is not None
        hits += sizes.low <= truth <= sizes.high
        exponents += slopes.low <= 0.37 / 0.72 <= slopes.high
    assert 88 <= hits <= 100
    assert 88 <= exponents <= 100


def test_tokens_and_their_ratio_follow_size(fitted: Fit) -> None:
    best = allocate(fitted, 1e21, flop_per_param_token=8.0).optima[0]
    assert best.n_params * best.n_tokens == pytest.approx(1e21 / 8)
    size, data, ratio = (
        best.n_params_interval,
        best.n_tokens_interval,
        best.tokens_per_param_interval,
    )
    assert size.low is not None
    assert size.high is not None
    assert (data.low, data.high) == pytest.approx((1.25e20 / size.high, 1.25e20 / size.low))
    assert ratio.low == pytest.approx(1.25e20 / size.high**2)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < best.tokens_per_param < ratio.high


def test_loss_at_the_optimum_has_the_curves_band(fitted: Fit) -> None:
    best = allocate(fitted, 1e21).optima[0]
    place = {"n_params": [best.n_params], "n_tokens": [best.n_tokens]}
    expected = fitted.predict(place, band="curve").iloc[0]
    gap = best.loss_interval
    assert (best.loss, gap.low, gap.high) == pytest.approx(tuple(expected))


def test_many_budgets_at_once_are_as_each_alone(fitted: Fit) -> None:
    budgets = [1e19, 1e21, 1e23]
    together = allocate(fitted, budgets)
    for one, flop in zip(together.optima, budgets, strict=True):
        assert one.n_params == allocate(fitted, flop).optima[0].n_params
    table = together.table()
    assert table["budget_flop"].tolist() == budgets
    assert (table["n_params_low"] < table["n_params"]).all()
    assert (table["n_params_high"] > table["n_params"]).all()
    assert "C 1e+23 FLOP" in together.summary()


def test_groups_that_share_a_law_have_optima_of_their_own() -> None:
    lower = grid_table(0.003, 1).assign(corpus="code")
    lower["loss_nats"] -= 0.3
    table = pd.concat([grid_table(0.003).assign(corpus="web"), lower], ignore_index=True)
    options: dict[str, Any] = {"objective": "squares-log", "interval": "covariance"}
    one = fit_shared("chinchilla", table, "corpus", ["A", "B", "alpha", "beta"], **options)
    web, code = (allocate(one, 1e21, at={"corpus": name}).optima[0] for name in ("web", "code"))
    assert web.n_params == pytest.approx(code.n_params, rel=1e-9)
    assert web.loss - code.loss == pytest.approx(one.params["E[web]"] - one.params["E[code]"])
    with pytest.raises(Refused, match="needs a value of corpus"):
        allocate(one, 1e21)


# What is no optimum, and how far out ----------------------------------------------------------


def test_extrapolation_is_measured_and_said(fitted: Fit) -> None:
    inside, outside = allocate(fitted, [1e20, 1e25]).optima
    assert (inside.beyond, inside.notes) == (1.0, ())
    assert outside.beyond == pytest.approx(1e25 / 6 / (5e9 * 2e11))
    assert [note[: note.index(" is")] for note in outside.notes] == [
        "extrapolated: N",
        "extrapolated: D",
        "extrapolated: N D",
    ]


def test_the_searchs_edge_is_no_optimum(fitted: Fit) -> None:
    lopsided = replace(fitted, params={**fitted.params, "B": 1e-300})  # data is worth nothing
    (best,) = allocate(lopsided, 1e21).optima
    assert best.edge
    assert np.isnan([best.n_params, best.n_tokens, best.loss, best.exponent]).all()
    assert "falls with ever larger models" in best.notes[0]
    assert allocate(lopsided, 1e21).table()["edge"].tolist() == [True]
    with pytest.raises(Refused, match="no optimum at 1e\\+21 FLOP to compare with"):
        loss_cost(lopsided, 1e21, 1e9)


def test_draws_at_the_edge_open_the_interval(fitted: Fit) -> None:
    good = tuple({**fitted.params, "alpha": 0.35 + 0.001 * k} for k in range(20))
    bad = ({**fitted.params, "B": 1e-300},) * 4
    closed = allocate(replace(fitted, draws=good), 1e21).optima[0].n_params_interval
    opened = allocate(replace(fitted, draws=good + bad), 1e21).optima[0].n_params_interval
    assert closed.high is not None
    assert opened.high is None
    assert opened.low is not None


def test_points_that_do_not_know_the_split_give_no_interval() -> None:
    n = np.geomspace(1e7, 1e9, 8)
    table = pd.DataFrame({"n_params": n, "n_tokens": 2e10})
    noise = 1e-3 * np.random.default_rng(0).normal(size=8)
    table["loss_nats"] = 2.2 + 480.0 * n**-0.35 + noise
    one = fit("chinchilla", table, objective="squares", pin={"beta": 0.37})
    shared = {"E": one.params["E"] - 0.2, "B": 0.2 * 2e10**0.37}  # fits as well as any other
    one = replace(one, params={**one.params, **shared})
    best = allocate(one, 1e20).optima[0]
    assert (best.n_params_interval.low, best.n_params_interval.high) == (None, None)
    assert any("no interval" in note for note in best.notes)


# Off the optimum ------------------------------------------------------------------------------


def test_over_training_costs_loss_and_compute(fitted: Fit) -> None:
    best = allocate(fitted, 1e21).optima[0]
    at, small, smaller = loss_cost(fitted, 1e21, [best.n_params, best.n_params / 4, 1e7])
    assert at.excess == pytest.approx(0.0, abs=1e-12)
    assert at.waste == pytest.approx(0.0, abs=1e-5)
    assert 0 < small.excess < smaller.excess
    assert 0 < small.waste < smaller.waste < 1
    thrifty = allocate(fitted, 1e21 * (1 - small.waste)).optima[0]
    assert thrifty.loss == pytest.approx(small.loss, abs=1e-9)
    assert small.loss - best.loss == pytest.approx(small.excess)
    gap = small.excess_interval
    assert gap.low is not None
    assert gap.high is not None
    assert 0 <= gap.low < small.excess < gap.high


# Refused ------------------------------------------------------------------------------------


def test_nonsense_is_refused_in_a_line(fitted: Fit) -> None:
    with pytest.raises(Refused, match="budget -1: must be positive and finite"):
        allocate(fitted, [1e20, -1.0])
    with pytest.raises(Refused, match="must be numbers"):
        allocate(fitted, "much")
    with pytest.raises(Refused, match="one number or a list"):
        allocate(fitted, [])
    with pytest.raises(Refused, match="flop_per_param_token 0: must be positive"):
        allocate(fitted, 1e20, flop_per_param_token=0.0)
    with pytest.raises(Refused, match="cannot hold 'unique_tokens': law chinchilla needs nothing"):
        allocate(fitted, 1e20, at={"unique_tokens": 1e9})
    with pytest.raises(Refused, match="one budget, not 2"):
        loss_cost(fitted, [1e20, 1e21], 1e9)  # type: ignore[arg-type]
    size = fit("kaplan-size", grid_table(0.01), pin={"alpha_N": 0.076})
    with pytest.raises(Refused, match="kaplan-size reads n_params: an allocation needs a law of"):
        allocate(size, 1e20)
