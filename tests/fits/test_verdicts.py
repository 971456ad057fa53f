"""Every verdict comes out where it must, and wrong ones are as rare as promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fits.errors import Refused
from fits.verdicts import (
    Claim,
    Evidence,
    by_unit,
    estimated,
    holm,
    judge,
    nothing,
    smallest_decided,
    verdict_table,
)


def claim(sense: str, smallest: float = 0.05, name: str = "one", repetition: bool = False) -> Claim:
    return Claim(
        name, f"{name} holds", sense, smallest, "nats", "a larger model", repetition=repetition
    )


def decision(sense: str, evidence: Evidence, repetition: bool = False) -> str:
    return judge([claim(sense, repetition=repetition)], {"one": evidence})[0].decision


TIGHT = (-0.002, 0.001, 0.002, -0.001, 0.0)  # about a place; sd .0016, half width .002
WIDE = (-0.2, 0.1, 0.2, -0.1, 0.0)


@pytest.mark.parametrize(
    ("sense", "place", "spread", "expected"),
    [
        ("more", 0.1, TIGHT, "supported"),
        ("more", 0.0, TIGHT, "refuted"),  # nothing there
        ("more", 0.02, TIGHT, "refuted"),  # there, and too small to matter
        ("more", -0.1, TIGHT, "refuted"),
        ("more", 0.1, WIDE, "undecided"),
        ("more", 0.0495, TIGHT, "undecided"),  # there; whether it matters is open
        ("same", 0.0, TIGHT, "supported"),
        ("same", 0.02, TIGHT, "supported"),  # there, and within the margin
        ("same", 0.1, TIGHT, "refuted"),
        ("same", -0.1, TIGHT, "refuted"),
        ("same", 0.0, WIDE, "undecided"),  # absence of evidence
        ("same", 0.049, TIGHT, "undecided"),
    ],
)
def test_every_verdict(sense: str, place: float, spread: tuple[float, ...], expected: str) -> None:
    assert decision(sense, by_unit([place + one for one in spread])) == expected


def test_the_interval_and_p_are_those_of_scipy() -> None:
    effects = [0.11, 0.07, 0.02, 0.09]
    one = judge([claim("more")], {"one": by_unit(effects)})[0]
    known = stats.ttest_1samp(effects, 0.0)
    assert one.p == pytest.approx(known.pvalue, rel=1e-9)
    low, high = known.confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((low, high), rel=1e-9)
    equivalence = judge([claim("same", 0.2)], {"one": by_unit(effects)})[0]
    upper = stats.ttest_1samp(effects, 0.2, alternative="less").pvalue
    assert equivalence.p == pytest.approx(min(known.pvalue, 2 * upper), rel=1e-9)


def test_an_estimate_with_its_error_is_judged_like_units() -> None:
    effects = np.array([0.11, 0.07, 0.02, 0.09])
    error = effects.std(ddof=1) / 2
    units, fit = (
        judge([claim("more")], {"one": one})[0]
        for one in (by_unit(effects), estimated(effects.mean(), error, 3))
    )
    assert (fit.low, fit.high, fit.p) == pytest.approx((units.low, units.high, units.p))


def test_bounds_decide_only_what_they_allow() -> None:
    beyond = [(0.4, math.inf)] * 5 + [(0.38, 0.5)]
    assert decision("more", by_unit(beyond)) == "supported"
    assert decision("more", by_unit([(-math.inf, 0.02), (-math.inf, 0.01), (-1, 0.0)])) == "refuted"
    assert decision("more", by_unit([(-math.inf, math.inf)] * 5)) == "undecided"
    assert decision("same", by_unit(beyond)) == "refuted"
    assert decision("same", by_unit([(-0.01, math.inf)] * 5)) == "undecided"


def test_equal_bounds_are_no_proof_of_no_spread() -> None:
    # a sign test: two-sided p = 2 / 2^n, so five equal bounds do not decide and seven do
    assert decision("more", by_unit([(0.4, math.inf)] * 5)) == "undecided"
    assert decision("more", by_unit([(0.4, math.inf)] * 7)) == "supported"


def test_one_unit_nothing_and_repetition_decide_nothing() -> None:
    assert decision("more", by_unit([3.0])) == "undecided"
    one = judge([claim("more")], {"one": nothing("no run finished")})[0]
    assert (one.decision, one.why) == ("undecided", "no run finished")
    assert judge([claim("more")], {})[0].why == "nothing was measured"
    read_twice = by_unit([0.1, 0.11, 0.12], epochs=2.0)
    assert decision("more", read_twice) == "undecided"
    assert decision("more", read_twice, repetition=True) == "supported"


def test_holm_counts_every_claim() -> None:
    assert holm([0.01, 0.04, 0.03, 1.0]) == pytest.approx([0.04, 0.09, 0.09, 1.0])
    effects = by_unit([0.10, 0.16, 0.08, 0.2])  # p = .014 by itself
    claims = [claim("more", name=name) for name in ("one", "two", "three", "four")]
    alone = judge(claims[:1], {"one": effects})[0]
    among = judge(claims, {"one": effects})[0]
    assert (alone.decision, among.decision) == ("supported", "undecided")
    assert among.p_holm == pytest.approx(4 * alone.p)
    assert "Holm" in among.why


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_and_keeps_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= min(1.0, q) for a, q in zip(adjusted, p, strict=True))
    order = sorted(range(len(p)), key=lambda k: p[k])
    ranked = [adjusted[k] for k in order]
    assert ranked == sorted(ranked)


def test_any_wrong_verdict_of_a_study_is_rare() -> None:
    # worst cases: at every claim the hypothesis that a verdict rejects holds, at its boundary
    rng = np.random.default_rng(0)
    senses, places = ("more", "more", "same", "same"), (0.0, 0.05, 0.05, 0.0)
    claims = [claim(sense, name=str(k)) for k, sense in enumerate(senses)]
    wrongly = ("supported", "refuted", "supported", "refuted")
    for sd in (0.01, 0.05):
        wrong = 0
        for _ in range(1000):
            effects = rng.normal(places, sd, (5, 4)).T
            found = judge(claims, {str(k): by_unit(list(one)) for k, one in enumerate(effects)})
            wrong += any(one.decision == bad for one, bad in zip(found, wrongly, strict=True))
        assert wrong <= 70  # 50 expected at most; sd 7


def test_units_that_would_decide_do() -> None:
    rng = np.random.default_rng(1)
    effects = rng.normal(0.08, 0.08, 4)
    effects += 0.08 - effects.mean()
    one = judge([claim("more")], {"one": by_unit(list(effects))})[0]
    assert one.decision == "undecided"
    assert one.units_needed is not None
    half = smallest_decided(float(effects.std(ddof=1)), one.units_needed)
    assert half < 0.08 <= smallest_decided(float(effects.std(ddof=1)), one.units_needed - 1)
    row = verdict_table([one]).iloc[0]
    assert row["what would decide it"].startswith(f"about {one.units_needed} units")


def test_what_cannot_be_a_claim_is_refused() -> None:
    with pytest.raises(Refused, match="smallest effect 0"):
        claim("more", 0.0)
    with pytest.raises(Refused, match="must be more or same"):
        claim("less")
    with pytest.raises(Refused, match="evidence for no claim: two"):
        judge([claim("more")], {"two": nothing("")})
    with pytest.raises(Refused, match="not a number"):
        by_unit([math.nan])
    with pytest.raises(Refused, match="least is above its most"):
        by_unit([(1.0, 0.0)])
