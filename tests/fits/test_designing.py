"""Which run next: rank-one updates against refits, greedy against random, costs and budgets."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Refused, fit, law
from fits.designing import design
from fits.expected import Knowledge, expected_intervals
from fits.optimum import allocation_exponent, log_optimal_size
from fits.quantities import prediction

TRUTH = {"alpha": -0.4, "s": 0.3, "beta": 1.9}
RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
SIZES = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def ratio_plan(ratios: Any = RATIOS, noise: float = 1e-3) -> Knowledge:
    return expected_intervals("cmr-ratio", TRUTH, {"ratio_domain": np.array(ratios)}, noise)


def ratio_table(ratios: np.ndarray, seed: int) -> pd.DataFrame:
    scatter = 1e-3 * np.random.default_rng(seed).normal(size=len(ratios))
    return pd.DataFrame({"ratio_domain": ratios, "loss_nats": 1.9 - 0.4 * ratios**0.3 + scatter})


def size_plan(sizes: np.ndarray, tokens: np.ndarray) -> Knowledge:
    points = {"n_params": sizes, "n_tokens": tokens}
    return expected_intervals("chinchilla", SIZES, points, 0.004, objective="squares-log")


def size_start() -> Knowledge:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(2e7, 2e8, 3), np.geomspace(4e8, 8e9, 3)))
    return size_plan(n, d)


def size_candidates() -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 2e10, 6)))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "flop": 6 * n * d})


CANDIDATES = pd.DataFrame({"ratio_domain": [0.02, 0.05, 0.2, 0.5, 0.99], "steps": 100.0})


# Against whole refits ---------------------------------------------------------------------------


def test_a_run_narrows_as_a_plan_with_it_does() -> None:
    found = design(ratio_plan(), CANDIDATES, "steps", "s")
    for k, ratio in enumerate(CANDIDATES["ratio_domain"]):
        with_it = ratio_plan([*RATIOS, ratio])
        assert found.candidates["half_width"][k] == pytest.approx(with_it.half_width("s"), rel=1e-6)
    assert found.half_width == ratio_plan().half_width("s")


def test_the_sequence_is_that_of_plans_with_all_its_runs() -> None:
    found = design(ratio_plan(), CANDIDATES, "steps", "s", runs=4)
    ratios = list(RATIOS)
    for row in found.sequence.itertuples():
        ratios.append(CANDIDATES["ratio_domain"][row.candidate])
        assert row.half_width == pytest.approx(ratio_plan(ratios).half_width("s"), rel=1e-6)
    assert found.sequence["cost_so_far"].tolist() == [100.0, 200.0, 300.0, 400.0]


def test_of_a_straight_line_the_ends_are_best() -> None:
    line = {"alpha": -0.4, "s": 1.0, "beta": 1.9}
    start = expected_intervals("cmr-ratio", line, {"ratio_domain": RATIOS}, 1e-3, pin=("s",))
    candidates = pd.DataFrame({"ratio_domain": np.linspace(0.05, 1.0, 20)})
    found = design(start, candidates, [1.0] * 20, "alpha", runs=6)
    assert set(found.sequence["candidate"]) == {0, 19}
    # a prediction inside wants runs that balance about it: the exact variance of the line there
    inside = design(
        start, candidates, [1.0] * 20, prediction(start.problem.law, {"ratio_domain": 0.5})
    )
    everywhere = [*RATIOS, candidates["ratio_domain"][inside.best]]
    lever = 1 / 7 + (0.5 - np.mean(everywhere)) ** 2 / np.sum(
        (everywhere - np.mean(everywhere)) ** 2
    )
    expected = stats.t.ppf(0.975, 5) * 1e-3 * np.sqrt(lever)
    assert inside.candidates["half_width"].min() == pytest.approx(expected, rel=1e-6)


def test_predicted_widths_are_the_realised_ones() -> None:
    found = design(ratio_plan(), CANDIDATES, "steps", "s", runs=2)
    for runs in (1, 2):
        added = CANDIDATES["ratio_domain"][found.sequence["candidate"][:runs]]
        ratios = np.concatenate([RATIOS, added])
        options: dict[str, Any] = {"near": TRUTH, "interval": "covariance"}
        halves = []
        for seed in range(120):
            gap = fit("cmr-ratio", ratio_table(ratios, seed), **options).interval("s")
            assert gap.low is not None
            assert gap.high is not None
            halves.append((gap.high - gap.low) / 2)
        predicted = found.sequence["half_width"][runs - 1]
        assert np.mean(halves) == pytest.approx(predicted, rel=0.2)


def test_a_fits_own_prediction_is_on_average_what_the_run_then_gives() -> None:
    predicted, realised = [], []
    options: dict[str, Any] = {"near": TRUTH, "interval": "covariance"}
    for seed in range(80):
        table = ratio_table(np.append(RATIOS, 0.05), seed)
        before = fit("cmr-ratio", table[:-1], **options)
        predicted.append(design(before, CANDIDATES, "steps", "s").candidates["half_width"][1])
        gap = fit("cmr-ratio", table, **options).interval("s")
        assert gap.low is not None
        assert gap.high is not None
        realised.append((gap.high - gap.low) / 2)
    # three spare points know their noise to a third: sets differ, the mean agrees
    assert np.mean(predicted) == pytest.approx(np.mean(realised), rel=0.2)


# Greedy ---------------------------------------------------------------------------------------


def test_greedy_beats_random_choice_at_the_same_cost() -> None:
    start, candidates = size_start(), size_candidates()
    target = allocation_exponent(law("chinchilla"), 1e21)
    budget = 1e19
    found = design(start, candidates, "flop", target, budget)
    random = np.random.default_rng(0)
    widths = []
    for _ in range(100):
        n, d = (start.problem.x[name].tolist() for name in ("n_params", "n_tokens"))
        spent = 0.0
        for k in random.integers(0, len(candidates), 200):
            one = candidates.iloc[k]
            if spent + one["flop"] <= budget:
                spent += one["flop"]
                n.append(one["n_params"])
                d.append(one["n_tokens"])
        widths.append(size_plan(np.array(n), np.array(d)).half_width(target))
    assert found.sequence["cost_so_far"].iloc[-1] <= budget
    assert found.width_for(budget) < min(widths)
    assert found.width_for(budget) < 0.5 * np.median(widths)


def test_more_budget_never_buys_a_wider_interval() -> None:
    target = log_optimal_size(law("chinchilla"), 1e21)
    found = design(size_start(), size_candidates(), "flop", target, runs=15)
    assert (np.diff(found.sequence["half_width"]) < 0).all()
    widths = [found.width_for(budget) for budget in (0.0, 1e17, 1e18, 1e19, 1e21)]
    assert widths[0] == found.half_width
    assert widths == sorted(widths, reverse=True)


def test_cost_decides_between_a_dear_run_and_a_cheap_one() -> None:
    dear = CANDIDATES.assign(steps=[1e6, 1.0, 1.0, 1.0, 1.0])
    found = design(ratio_plan(), dear, "steps", "s", runs=1)
    assert found.best == 0
    assert found.best_per_cost == 1
    assert found.sequence["candidate"].tolist() == [1]
    by_width = design(ratio_plan(), dear, "steps", "s", runs=1, by="width")
    assert by_width.sequence["candidate"].tolist() == [0]
    cheap = design(ratio_plan(), dear, "steps", "s", budget=3.5, by="width")
    assert cheap.sequence["cost_so_far"].tolist() == [1.0, 2.0, 3.0]
    assert 0 not in set(cheap.sequence["candidate"])


def test_seeds_may_be_repeated_or_not() -> None:
    often = design(ratio_plan(), CANDIDATES, "steps", "s", runs=5)
    once = design(ratio_plan(), CANDIDATES, "steps", "s", again=False)
    assert often.sequence["candidate"].duplicated().any()
    assert sorted(once.sequence["candidate"]) == [0, 1, 2, 3, 4]


def test_the_first_spare_point_makes_a_width_finite() -> None:
    found = design(ratio_plan(RATIOS[:3]), CANDIDATES, "steps", "s", runs=2)
    assert found.half_width == math.inf
    assert found.candidates["half_width"].max() < math.inf
    assert found.sequence["half_width"].is_monotonic_decreasing
    assert found.sequence["candidate"][0] == found.candidates["half_width"].idxmin()


def test_labels_are_the_candidates_own_and_the_text_names_them() -> None:
    named = CANDIDATES.set_index(pd.Index(list("abcde")))
    found = design(ratio_plan(), named, "steps", "s", runs=2)
    assert found.best in "abcde"
    again = found.sequence["candidate"][0]
    assert f"then {again}" in found.summary()
    assert f"most by one run: {found.best}" in found.summary()
    assert found.summary().startswith("s: half width")
    long = design(ratio_plan(), named, [1.0, 2.0, 3.0, 4.0, 5.0], "s", budget=200.0)
    assert len(long.summary().splitlines()) <= 3 + 13
    assert f"{long.width_for(200.0):.4g}" in long.summary().splitlines()[-1]
    tokens = {"n_params": [5e8], "n_tokens": [1e10]}
    assert design(size_start(), pd.DataFrame(tokens), [1.0], "A").target == "ln A"


# Refused ------------------------------------------------------------------------------------


def test_nonsense_is_refused_in_a_line() -> None:
    plan = ratio_plan()
    with pytest.raises(Refused, match="no column 'flop'; it has ratio_domain, steps"):
        design(plan, CANDIDATES, "flop", "s")
    with pytest.raises(Refused, match="2 costs for 5 candidates"):
        design(plan, CANDIDATES, [1.0, 2.0], "s")
    with pytest.raises(Refused, match="candidate 1 costs 0: must be positive"):
        design(plan, CANDIDATES, [1.0, 0.0, 1.0, 1.0, 1.0], "s")
    with pytest.raises(Refused, match="costs must be numbers"):
        design(plan, CANDIDATES.assign(steps="few"), "steps", "s")
    with pytest.raises(Refused, match="budget 5: the cheapest candidate costs 100"):
        design(plan, CANDIDATES, "steps", "s", 5.0)
    with pytest.raises(Refused, match="no candidates"):
        design(plan, CANDIDATES[:0], "steps", "s")
    with pytest.raises(Refused, match="two candidates have one label"):
        design(plan, pd.concat([CANDIDATES, CANDIDATES]), "steps", "s")
    with pytest.raises(Refused, match="no free parameter 'k'"):
        design(plan, CANDIDATES, "steps", "k")
    with pytest.raises(Refused, match="needs ratio_domain"):
        design(plan, CANDIDATES[["steps"]], "steps", "s")
    with pytest.raises(Refused, match="unknown rule 'luck'"):
        design(plan, CANDIDATES, "steps", "s", by="luck")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="runs = 0"):
        design(plan, CANDIDATES, "steps", "s", runs=0)
    with pytest.raises(Refused, match="noise is already part"):
        design(plan, CANDIDATES, "steps", "s", noise=1e-3)
    with pytest.raises(Refused, match="not identified yet"):
        design(ratio_plan(RATIOS[:2]), CANDIDATES, "steps", "s")
    tokens = np.geomspace(1e9, 2e10, 8)
    table = pd.DataFrame({"cpt_tokens": tokens, "change_nats": 0.02 * (tokens / 2e8) ** 0.3})
    flat = fit("cmr-general-tokens", table, pin={"s2": 0.3, "s3": 0.3})
    with pytest.raises(Refused, match="weigh whole designs with expected_intervals first"):
        design(flat, table, [1.0] * 8, "a2")
