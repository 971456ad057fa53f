"""Stages become one float32 rate a step; every boundary is looked at from both sides."""

import math

import numpy as np
import pytest
from hypothesis import given

from lab.errors import Refused
from lab.schedule import boundaries, realise, stage_rates
from lab.spec import RunSpec, Stage, decay, hold, warm
from tests.lab.building import STEP, few, phase, run_of, run_specs, shares

ONE = shares(a=1.0)
PEAK, LOW = 1e-3, 1e-4

# How far a stage has come at r of its way: 0 at its start, 1 at its end.
WAY = {
    "warm": lambda r: r,
    "linear": lambda r: r,
    "cosine": lambda r: (1 - math.cos(math.pi * r)) / 2,
    "1-sqrt": lambda r: math.sqrt(r),
}


def rates_of(*stages: Stage) -> np.ndarray:
    tokens = sum(stage.tokens for stage in stages)
    return realise(run_of(phase("p", tokens // STEP, ONE, *stages)))


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_a_decay_follows_its_closed_form_across_both_boundaries(shape: str) -> None:
    n = 7
    lr = rates_of(warm(3 * STEP, PEAK), decay(n * STEP, LOW, shape), hold(2 * STEP))
    assert lr.dtype == np.float32
    first, last = 3, 3 + n - 1
    assert lr[first - 1] == np.float32(PEAK)
    for k in range(n - 1):
        rate = PEAK + (LOW - PEAK) * WAY[shape]((k + 1) / n)
        assert lr[first + k] == pytest.approx(rate, rel=1e-7)
    assert lr[last - 1] > np.float32(LOW)
    assert lr[last] == np.float32(LOW)
    assert lr[last + 1] == np.float32(LOW)


def test_a_warm_rises_evenly_from_zero_and_a_rewarm_from_where_the_rate_is() -> None:
    lr = rates_of(warm(4 * STEP, PEAK), decay(STEP, LOW), warm(3 * STEP, PEAK), hold(STEP))
    wanted = [PEAK * (k + 1) / 4 for k in range(4)] + [LOW]
    wanted += [LOW + (PEAK - LOW) * (k + 1) / 3 for k in range(3)] + [PEAK]
    assert lr == pytest.approx(wanted, rel=1e-7)
    assert lr[3] == lr[7] == lr[8] == np.float32(PEAK)


def test_a_hold_keeps_the_rate_before_it_also_across_phases() -> None:
    run = run_of(phase("p", 2, ONE, warm(2 * STEP, PEAK)), phase("q", 3, ONE, hold()))
    assert realise(run).tolist() == [np.float32(PEAK / 2)] + [np.float32(PEAK)] * 4


def test_a_hold_at_the_start_holds_zero() -> None:
    assert rates_of(hold(2 * STEP)).tolist() == [0.0, 0.0]


def test_a_stage_of_one_step_is_at_its_end() -> None:
    lr = rates_of(warm(STEP, PEAK), decay(STEP, LOW, "cosine"), decay(STEP, 0.0, "1-sqrt"))
    assert lr.tolist() == [np.float32(PEAK), np.float32(LOW), 0.0]


def test_boundaries_are_where_stages_end() -> None:
    stages = (warm(2 * STEP, PEAK), hold(), decay(3 * STEP, 0.0))
    run = run_of(phase("p", 9, ONE, *stages), phase("q", 2, ONE, hold()))
    assert boundaries(run) == [2, 6, 9, 11]


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_a_decay_that_rises_is_refused_with_its_phase(shape: str) -> None:
    run = run_of(phase("p", 2, ONE, warm(STEP, LOW), decay(STEP, PEAK, shape)))
    with pytest.raises(Refused, match=f"phase 'p': {shape} stage to 0.001: lies above the rate"):
        realise(run)


def test_a_warm_that_falls_is_refused_with_its_phase() -> None:
    run = run_of(phase("p", 1, ONE, warm(STEP, PEAK)), phase("q", 1, ONE, warm(STEP, LOW)))
    with pytest.raises(Refused, match=r"phase 'q': warm stage to 0.0001: lies below the rate"):
        realise(run)


def test_a_stage_to_the_rate_it_starts_from_is_a_hold() -> None:
    for shape in ("warm", "linear", "cosine", "1-sqrt"):
        flat = stage_rates(Stage(shape, STEP, PEAK), 5, PEAK)
        assert flat == pytest.approx([PEAK] * 5, rel=1e-15)


@few
@given(run_specs())
def test_every_stage_is_monotone_stays_between_its_ends_and_arrives(run: RunSpec) -> None:
    lr = realise(run)
    assert lr.dtype == np.float32
    assert lr.shape == (run.steps,)
    ends = boundaries(run)
    assert ends[-1] == run.steps
    stages = [stage for phase in run.phases for stage in phase.schedule]
    rate = np.float32(0)
    for stage, start, stop in zip(stages, [0, *ends], ends, strict=False):
        piece = np.concatenate([[rate], lr[start:stop]])
        steps = np.diff(piece.astype(np.float64))
        # a float64 product may round to the wrong side of a flat stage's rate, by one part in 2^23
        slack = 2.0**-23 * piece.max()
        assert (steps >= -slack).all() if stage.shape == "warm" else (steps <= slack).all()
        rate = lr[stop - 1]
        wanted = piece[0] if stage.to_lr is None else np.float32(stage.to_lr)
        assert rate == wanted
