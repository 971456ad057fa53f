"""The turning point of two token laws: the paper's equation, censoring, coverage."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from fits import Fit, Refused, fit
from fits.turning import turning_ratio_by_laws, turning_tokens

UNIT = 0.2e9  # tokens, the paper's
TOKENS = np.geomspace(2, 100, 14) * UNIT
GENERAL = {"a2": 0.1, "s2": 0.3, "a3": -0.02, "s3": 0.6, "b2": -0.05}
DOMAIN = {"a1": -0.3, "s1": 0.2, "b1": 0.2}
PEAK = (0.1 * 0.3 / (0.02 * 0.6)) ** (1 / 0.3) * UNIT  # of the general loss


def change(p: dict[str, float], tokens: np.ndarray) -> np.ndarray:
    t = tokens / UNIT
    if "a1" in p:
        return np.asarray(p["a1"] * t ** p["s1"] + p["b1"])
    return np.asarray(p["a2"] * t ** p["s2"] + p["a3"] * t ** p["s3"] + p["b2"])


def token_fit(p: dict[str, float], noise: float, seed: int, **options: Any) -> Fit:
    scatter = noise * np.random.default_rng(seed).normal(size=len(TOKENS))
    table = pd.DataFrame({"cpt_tokens": TOKENS, "change_nats": change(p, TOKENS) + scatter})
    law = "cmr-domain-tokens" if "a1" in p else "cmr-general-tokens"
    return fit(law, table, near=p, **{"interval": "covariance", **options})


def pair(general: dict[str, float] = GENERAL, ratio: float = 0.5) -> tuple[Fit, Fit]:
    """Fits without noise."""
    group = {"ratio_domain": ratio}
    first, second = (token_fit(p, 1e-4, 0, group=group) for p in (general, DOMAIN))
    return replace(first, params=dict(general)), replace(second, params=dict(DOMAIN))


@pytest.mark.parametrize("lam", [10.0, 100.0, 7000.0])
def test_it_solves_the_papers_equation(lam: float) -> None:
    def equation(t: float) -> float:
        of_domain = -0.3 * 0.2 * t ** (0.2 - 1)
        return of_domain + lam * (0.1 * 0.3 * t ** (0.3 - 1) - 0.02 * 0.6 * t ** (0.6 - 1))

    point = turning_tokens(*pair(), lam)
    assert point.tokens == pytest.approx(brentq(equation, 2, 100) * UNIT, rel=1e-8)
    assert point.feasible
    assert point.horizon == TOKENS[-1]


def test_for_large_lam_it_is_the_peak_of_the_general_loss() -> None:
    found = [turning_tokens(*pair(), lam).tokens for lam in (1.0, 100.0, 1e6)]
    assert found[0] is None  # the domain's fall outweighs the rise from the first
    assert found[1] is not None
    assert found[1] < PEAK
    assert found[2] == pytest.approx(PEAK, rel=1e-5)


def test_what_lies_outside_is_said_and_not_extrapolated() -> None:
    early = turning_tokens(*pair(), 1.0)
    assert (early.tokens, early.censored, early.feasible) == (None, "<", True)
    assert early.text() == "turns before the first fitted tokens"
    rising = {**GENERAL, "a3": -0.001}
    late = turning_tokens(*pair(rising), 100.0)
    assert (late.tokens, late.censored, late.feasible) == (None, ">", False)
    assert "does not turn by 2e+10 tokens" in late.text()
    short = turning_tokens(*pair(), 1e4, horizon=PEAK / 2)
    assert not short.feasible
    far = turning_tokens(*pair(), 1e4, horizon=4e10)
    assert far.tokens == pytest.approx(PEAK, rel=0.01)
    assert far.notes == ("the horizon is 2 times the most fitted tokens, 2e+10",)


def test_intervals_of_the_turning_point_cover_the_truth() -> None:
    # 80 sets at 95 %: fewer than 69 happen once in 300 times (binomial)
    assert stats.binom.cdf(68, 80, 0.95) < 1 / 300
    truth = turning_tokens(*pair(), 1000.0).tokens
    assert truth is not None
    hits, closed = 0, 0
    for seed in range(80):
        general, domain = token_fit(GENERAL, 2e-4, seed), token_fit(DOMAIN, 2e-4, 1000 + seed)
        gap = turning_tokens(general, domain, 1000.0).interval
        closed += gap.low is not None and gap.high is not None
        hits += (gap.low is None or gap.low <= truth) and (gap.high is None or truth <= gap.high)
    assert 69 <= hits <= 80
    assert closed >= 40  # an interval open at both ends would hold anything


def test_units_are_paired_and_kinds_not_mixed() -> None:
    general, domain = pair()
    units = tuple({**GENERAL, "a3": -0.02 - 0.0004 * k} for k in (-1, 0, 1))
    both = replace(general, unit_params=units), replace(domain, unit_params=(DOMAIN,) * 3)
    gap = turning_tokens(*both, 1e4).interval
    assert gap.method == "t over 3 units"
    assert gap.low is not None
    assert gap.high is not None
    assert gap.low < PEAK < gap.high
    with pytest.raises(Refused, match="differ in their intervals"):
        turning_tokens(both[0], domain, 1e4)
    fewer = replace(domain, unit_params=(DOMAIN,) * 2)
    with pytest.raises(Refused, match="the two fits have 2 and 3 units"):
        turning_tokens(both[0], fewer, 1e4)


def test_any_pair_of_laws_in_tokens_will_do() -> None:
    n, t, r = (a.ravel() for a in np.meshgrid([1e8, 1e9, 4e9], TOKENS[::3], [0.1, 0.3, 0.6, 0.9]))
    p = {"E": 1.5, "A": 50.0, "B": 60.0, "C": 0.1, "alpha": 0.25, "beta": 0.25, "eta": 0.3}
    p |= {"eps": 0.1, "gamma": 0.5}
    table = pd.DataFrame({"n_params": n, "cpt_tokens": t, "ratio_domain": r})
    loss = p["E"] + p["A"] * n**-0.25 + p["B"] * r**0.3 * t**-0.25 + p["C"] * (r + 0.1) ** -0.5
    table["loss_nats"] = loss * np.exp(1e-4 * np.random.default_rng(0).normal(size=len(n)))
    domain = fit("d-cpt", table, near=p, interval="covariance")
    at = {"n_params": 1e9, "ratio_domain": 0.5}
    general, _ = pair()
    alone = turning_tokens(general, domain, 1e5, at=at)
    assert alone.tokens == pytest.approx(PEAK, rel=1e-3)
    with pytest.raises(Refused, match="law d-cpt needs a value of ratio_domain"):
        turning_tokens(general, domain, 1e5, at={"n_params": 1e9})
    with pytest.raises(Refused, match="cannot hold 'R': neither cmr-general-tokens nor d-cpt"):
        turning_tokens(general, domain, 1e5, at={**at, "R": 1.0})


def test_the_largest_ratio_that_turns_in_time() -> None:
    pairs = [
        pair({**GENERAL, "a3": a3}, ratio)
        for ratio, a3 in ((0.25, -0.03), (0.5, -0.02), (0.75, -0.005))
    ]
    general, domain = [one for one, _ in pairs], [other for _, other in pairs]
    turning, points = turning_ratio_by_laws(general, domain, 1e4)
    assert (turning.ratio, turning.binding) == (0.5, True)
    assert [points[ratio].feasible for ratio in (0.25, 0.5, 0.75)] == [True, True, False]
    all_turn, _ = turning_ratio_by_laws(general[:2], domain[:2], 1e4)
    assert (all_turn.ratio, all_turn.binding) == (0.5, False)
    none, _ = turning_ratio_by_laws(general[2:], domain[2:], 1e4)
    assert (none.ratio, none.binding) == (None, True)


def test_nonsense_is_refused_in_a_line() -> None:
    general, domain = pair()
    with pytest.raises(Refused, match="lam 0: must be positive"):
        turning_tokens(general, domain, 0.0)
    with pytest.raises(Refused, match="horizon 1: must lie above the least fitted tokens"):
        turning_tokens(general, domain, 10.0, horizon=1.0)
    ratios = pd.DataFrame({"ratio_domain": [0.1, 0.3, 0.5, 0.8], "loss_nats": [1.9, 1.8, 1.7, 1.5]})
    with pytest.raises(Refused, match="law cmr-ratio reads ratio_domain, and no cpt_tokens"):
        turning_tokens(fit("cmr-ratio", ratios, interval="none"), domain, 10.0)
    with pytest.raises(Refused, match="no general fits"):
        turning_ratio_by_laws([], [domain], 10.0)
    with pytest.raises(Refused, match="has no group ratio_domain"):
        turning_ratio_by_laws([replace(general, group={})], [domain], 10.0)
    with pytest.raises(Refused, match=r"two domain fits at ratio 0\.5"):
        turning_ratio_by_laws([general], [domain, domain], 10.0)
    with pytest.raises(Refused, match=r"ratio 0\.7 has but one of the two laws"):
        turning_ratio_by_laws([general, pair(ratio=0.7)[0]], [domain], 10.0)
