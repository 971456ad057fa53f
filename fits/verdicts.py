"""Statements and their verdicts: supported, refuted, or undecided at this scale.

A claim is written down before anything runs: a statement about an effect, and the smallest effect
that matters, m > 0. Evidence is the effect at each independent unit (a trunk seed; paired, where
the effect compares two arms), or an estimate with its standard error. Two tests stand against each
other, by Student's t over the units:

    "more" (effect > 0):  supported where effect <= 0 is rejected and the mean is at least m;
                          refuted where effect >= m is rejected: what there is does not matter
    "same" (no effect):   supported where |effect| >= m is rejected on both sides (two one-sided
                          tests: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657);
                          refuted where effect = 0 is rejected and |mean| is at least m

Of the two hypotheses of a claim at most one is true, so Holm's procedure (1979, Scand. J. Stat. 6,
65) over the smaller p of each claim bounds the chance of any wrong verdict of a study by 1 - level.
Every claim of the study counts, also one without evidence. All p are two-sided: at one claim a
verdict is what its interval says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fits.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

Sense = Literal["more", "same"]
Decision = Literal["supported", "refuted", "undecided"]
MOST_UNITS = 1000  # more seeds than this are not called a way to decide


@dataclass(frozen=True)
class Claim:
    """A testable statement. `smallest` is the smallest effect that matters, in `unit`.

    name: a word, unique in its study. sense: "more" says that the effect is above zero, "same" that
    there is none. decides: what would decide it, beside more units. arms: arms and controls that
    the sweep must have for it. sd: what is believed of the effect's standard deviation over units
    before anything runs (`smallest_decided`). repetition: whether reading a corpus more than once
    is the question; else there is no verdict above one epoch. Raises Refused.
    """

    name: str
    statement: str
    sense: Sense
    smallest: float
    unit: str
    decides: str
    arms: tuple[str, ...] = ()
    sd: float | None = None
    repetition: bool = False

    def __post_init__(self) -> None:
        if self.sense not in get_args(Sense):
            raise Refused(f"claim {self.name}: sense {self.sense!r}, must be more or same")
        if not 0 < self.smallest < math.inf:
            raise Refused(
                f"claim {self.name}: smallest effect {self.smallest}, must be above 0 and finite"
            )


@dataclass(frozen=True)
class Evidence:
    """An effect as measured: at every unit the least and the most that it can be.

    lows, highs: (units,), in the claim's unit; equal where the effect was read off, apart where the
    reading is only bounded (-inf, inf: not at all). standard_error, degrees: of an estimate by
    itself (one low, one high), such as a fit's. epochs: of the corpus that is read most.
    """

    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    standard_error: float | None = None
    degrees: float | None = None
    epochs: float = 0.0
    note: str = ""


def by_unit(
    effects: Sequence[float] | Sequence[tuple[float, float]], epochs: float = 0.0, note: str = ""
) -> Evidence:
    """Effects at independent units: numbers, or (least, most) where only bounds are known."""
    pairs = [one if isinstance(one, tuple) else (one, one) for one in effects]
    pairs = [(float(low), float(high)) for low, high in pairs]
    if any(math.isnan(low) or math.isnan(high) or low > high for low, high in pairs):
        raise Refused("an effect is not a number, or its least is above its most")
    return Evidence(
        tuple(low for low, _ in pairs), tuple(high for _, high in pairs), epochs=epochs, note=note
    )


def estimated(
    value: float, standard_error: float, degrees: float, epochs: float = 0.0, note: str = ""
) -> Evidence:
    """An estimate with its standard error and degrees of freedom. Raises Refused."""
    if not (math.isfinite(value) and 0 < standard_error < math.inf and degrees > 0):
        raise Refused(f"estimate {value} +- {standard_error} with {degrees} degrees of freedom")
    return Evidence((value,), (value,), standard_error, degrees, epochs, note)


def nothing(why: str) -> Evidence:
    """No effect could be measured."""
    return Evidence(note=why)


@dataclass(frozen=True)
class Verdict:
    """What the evidence says of a claim.

    effect: mean over units (of the bounds' middles where they are apart; nan if unbounded). low,
    high: interval at `level`, of this claim by itself. p, p_holm: two-sided, of the hypothesis that
    came nearer to being rejected, and after Holm's procedure over the study. units_needed: units at
    which the interval would decide, if mean and spread stay; None where that is not known.
    """

    claim: Claim
    decision: Decision
    effect: float
    low: float
    high: float
    level: float
    units: int
    p: float
    p_holm: float
    units_needed: int | None
    why: str


def judge(
    claims: Sequence[Claim], evidence: Mapping[str, Evidence], level: float = 0.95
) -> list[Verdict]:
    """A verdict for every claim, in their order. Raises Refused on evidence for no claim."""
    names = [claim.name for claim in claims]
    if strangers := [name for name in evidence if name not in names]:
        raise Refused(f"evidence for no claim: {strangers[0]}; claims are {', '.join(names)}")
    given = [evidence.get(claim.name, nothing("nothing was measured")) for claim in claims]
    tests = [_test(claim, one) for claim, one in zip(claims, given, strict=True)]
    smaller = [min(test.p_support, test.p_refute) for test in tests]
    adjusted = holm(smaller)
    return [
        _verdict(claim, one, test, p_holm, level)
        for claim, one, test, p_holm in zip(claims, given, tests, adjusted, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted by Holm's procedure, in the order given."""
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        adjusted[k] = largest
    return adjusted


def smallest_decided(sd: float, units: int, claims: int = 1, level: float = 0.95) -> float:
    """Half width of the interval over so many units, at the level that Holm's first step takes.

    An effect (of a "same" claim, a margin) below it cannot be decided by `units`; inf below two.
    """
    if units < 2:
        return math.inf
    return _quantile(1 - (1 - level) / claims, units - 1) * sd / math.sqrt(units)


def verdict_table(verdicts: Sequence[Verdict]) -> "pd.DataFrame":
    """A row a claim: statement, effect with its interval, verdict, why, what would decide it."""
    import pandas as pd

    rows = [
        {
            "claim": one.claim.name,
            "statement": one.claim.statement,
            "effect": one.effect,
            "low": one.low,
            "high": one.high,
            "unit": one.claim.unit,
            "smallest that matters": one.claim.smallest,
            "units": one.units,
            "p after Holm": one.p_holm,
            "verdict": one.decision,
            "why": one.why,
            "what would decide it": "" if one.decision != "undecided" else _deciding(one),
        }
        for one in verdicts
    ]
    return pd.DataFrame(rows)


# Tests ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """Mean of one side's bounds, its standard error and degrees of freedom; None: unbounded."""

    mean: float
    error: float
    degrees: float
    units: int

    def p_above(self, place: float) -> float:
        """Two-sided p against the effect being `place` or less."""
        if not math.isfinite(self.mean):
            return 1.0
        if self.error == 0.0:  # all units alike, as bounds often are: a sign test
            return min(1.0, 2 * 0.5**self.units) if self.mean > place else 1.0
        return min(1.0, 2 * _survival((self.mean - place) / self.error, self.degrees))

    def end(self, level: float, sign: int) -> float:
        """The end of the interval: below for sign -1, above for +1."""
        if not math.isfinite(self.mean) or self.error == 0.0:
            return self.mean
        return self.mean + sign * _quantile(level, self.degrees) * self.error


@dataclass(frozen=True)
class _Test:
    low: _Side | None
    high: _Side | None
    p_support: float = 1.0
    p_refute: float = 1.0


def _test(claim: Claim, evidence: Evidence) -> _Test:
    low, high = _side(evidence, evidence.lows), _side(evidence, evidence.highs)
    too_often = evidence.epochs > 1 and not claim.repetition
    if low is None or high is None or too_often:
        return _Test(low, high)
    mirrored = _Side(-high.mean, high.error, high.degrees, high.units)
    m = claim.smallest
    if claim.sense == "more":
        return _Test(low, high, low.p_above(0.0), mirrored.p_above(-m))
    apart = min(low.p_above(0.0), mirrored.p_above(0.0))
    return _Test(low, high, max(low.p_above(-m), mirrored.p_above(-m)), apart)


def _side(evidence: Evidence, bounds: tuple[float, ...]) -> _Side | None:
    units = len(bounds)
    if evidence.standard_error is not None and evidence.degrees is not None:
        return _Side(bounds[0], evidence.standard_error, evidence.degrees, units)
    if units < 2:
        return None
    mean = sum(bounds) / units
    if not math.isfinite(mean):
        return _Side(mean, math.inf, units - 1, units)
    variance = sum((one - mean) ** 2 for one in bounds) / (units - 1)
    if variance <= (1e-12 * max(abs(one) for one in bounds)) ** 2:
        variance = 0.0  # rounding
    return _Side(mean, math.sqrt(variance / units), units - 1, units)


def _verdict(claim: Claim, evidence: Evidence, test: _Test, p_holm: float, level: float) -> Verdict:
    low, high = test.low, test.high
    units = len(evidence.lows)
    p = min(test.p_support, test.p_refute)
    if low is None or high is None:
        only = f"one unit, effect {evidence.lows[0]:.3g}: no interval" if units else ""
        why = "; ".join(one for one in (evidence.note, only) if one)
        effect = evidence.lows[0] if units and evidence.lows == evidence.highs else math.nan
        return Verdict(
            claim, "undecided", effect, -math.inf, math.inf, level, units, 1.0, 1.0, None, why
        )
    effect = (low.mean + high.mean) / 2
    ends = low.end(level, -1), high.end(level, 1)
    decision, why = _decide(claim, evidence, test, p_holm, level)
    needed = None
    if decision == "undecided" and low == high and evidence.standard_error is None:
        needed = _units_needed(claim, low, level)
    why = "; ".join(one for one in (why, evidence.note) if one)
    return Verdict(claim, decision, effect, *ends, level, units, p, p_holm, needed, why)


def _decide(
    claim: Claim, evidence: Evidence, test: _Test, p_holm: float, level: float
) -> tuple[Decision, str]:
    low, high, m = test.low, test.high, claim.smallest
    assert low is not None
    assert high is not None
    if evidence.epochs > 1 and not claim.repetition:
        return "undecided", f"a corpus was read {evidence.epochs:.2g} times: no verdict above once"
    if p_holm >= 1 - level:
        if min(test.p_support, test.p_refute) < 1 - level:
            return "undecided", "its interval alone would decide, several statements (Holm) do not"
        return "undecided", "the interval leaves both open"
    if test.p_support <= test.p_refute:
        if claim.sense == "same":
            return "supported", f"the interval lies within {m:g} of zero"
        if low.mean >= m:
            return "supported", "the interval lies above zero, the mean is large enough to matter"
        return "undecided", "an effect is there, whether it is large enough to matter is not known"
    if claim.sense == "more":
        return "refuted", f"the interval lies below the smallest effect that matters ({m:g})"
    if low.mean >= m or high.mean <= -m:
        return "refuted", "the interval leaves zero out, the mean is large enough to matter"
    return "undecided", "an effect is there, whether it is large enough to matter is not known"


def _units_needed(claim: Claim, side: _Side, level: float) -> int | None:
    """Units at which the interval by itself decides, at this mean and spread; None: too many."""
    mean, m = side.mean, claim.smallest
    if claim.sense == "more":
        room = mean if mean >= m else m - mean
    else:
        room = abs(mean) if abs(mean) >= m else m - abs(mean)
    sd = side.error * math.sqrt(side.units)
    for units in range(2, MOST_UNITS + 1):
        if _quantile(level, units - 1) * sd / math.sqrt(units) < room:
            return max(units, side.units + 1)
    return None


def _deciding(one: Verdict) -> str:
    if one.units_needed is None:
        return one.claim.decides
    return f"about {one.units_needed} units at this spread; {one.claim.decides}"


def _quantile(level: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))


def _survival(t: float, degrees: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))
