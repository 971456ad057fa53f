"""What a plan cannot show is said beforehand, and is what comes out of data made by the law."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.fitting import fit
from fits.laws import law
from lab.spec import decay, hold, warm
from sweeps.foresight import Expected, Foreseen, Sought, foresee, mixed_rates, repeats
from sweeps.studies.cmr import CRITICAL, RATIO_LAWS, STUDY
from sweeps.study import ask
from tests.sweeps.small import BRANCH, PEAK, STEP, planned, small_sweep

TRUTH = {"alpha": 0.222, "s": 1.9, "beta": 1.76}


def expected(ratios: Any, noise: float) -> Expected:
    points = {"ratio_domain": tuple(ratios)}
    return Expected("loss", "cmr-ratio", TRUTH, points, noise, "prior: made up")


def one(ratios: Any, noise: float) -> tuple[dict[str, Any], list[str]]:
    (row,), said = foresee(Foreseen((expected(ratios, noise),)))
    return row, said


# Laws ----------------------------------------------------------------------------------------


def test_the_expected_interval_is_how_far_fits_of_made_data_scatter() -> None:
    ratios, noise = np.linspace(0.05, 1.0, 12), 1e-3
    row, said = one(ratios, noise)
    draw = np.random.default_rng(0)
    true = law("cmr-ratio").predict(TRUTH, {"ratio_domain": ratios})
    found = []
    for _ in range(60):
        losses = true + draw.normal(0, noise, len(ratios))
        table = pd.DataFrame({"ratio_domain": ratios, "loss_nats": losses})
        found.append(fit("cmr-ratio", table, interval="none").params["s"])
    low, high = row["params"]["s"]["low"], row["params"]["s"]["high"]
    # half widths are t(9) sd; an sd of 60 draws is known to 9 %, three of which are allowed
    assert (high - low) / 2 / 2.262 == pytest.approx(np.std(found, ddof=1), rel=0.27)
    assert (said, row["identified"]) == ([], True)


def test_points_that_leave_a_parameter_open_are_said_with_its_interval() -> None:
    row, said = one((0.2, 0.3, 0.4, 0.5), 0.02)
    assert row["params"]["s"]["wide"]
    assert said == ["loss: cmr-ratio from 4 points will hardly bound alpha, s (prior: made up)"]
    assert row["noise"] == 0.02


def test_a_design_that_identifies_nothing_says_so() -> None:
    row, said = one((0.5, 0.5, 0.5, 0.5), 0.001)
    assert not row["identified"]
    assert "is not identified, condition " in said[0]
    assert row["params"]["s"]["low"] is None


def test_as_many_parameters_as_points_give_no_interval_and_no_points_nothing() -> None:
    row, said = one((0.2, 0.4, 0.6), 0.001)
    assert said == [
        "loss: cmr-ratio from 3 points has 3 parameters: none gets an interval (prior: made up)"
    ]
    assert all(one["low"] is None for one in row["params"].values())
    assert one((), 0.001)[1][0].startswith("loss: cmr-ratio from 0 points has 3 parameters")


# Places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "side"), [(0.1, "below"), (0.79, "above"), (0.4, "")])
def test_a_place_at_the_edge_of_the_grid_is_said_with_its_chance(place: float, side: str) -> None:
    sought = Sought("optimum", place, 0.05, 0.125, 0.75, "prior: made up")
    _, said = foresee(Foreseen((), (sought,)))
    below, above = sought.beyond()
    assert below == pytest.approx(0.5 * math.erfc((place - 0.125) / 0.05 / math.sqrt(2)))
    if side:
        edge, chance = (0.125, below) if side == "below" else (0.75, above)
        assert said == [
            f"optimum may lie {side} the grid's edge {edge:.3g}: {chance:.0%} likely "
            f"({place:.3g} +- 0.05) (prior: made up)"
        ]
    else:
        assert said == []


# What the plan tells by itself ---------------------------------------------------------------


def test_text_read_twice_is_said_and_more_than_four_times_with_what_follows() -> None:
    assert repeats({"a": 1.0, "b": 1.5, "c": 4.2}) == [
        "corpus b would be read 1.5 times",
        "corpus c would be read 4.2 times; lab run will refuse",
    ]


COOLED = (warm(STEP, PEAK / 2), hold(), decay(2 * STEP, PEAK / 40))


@pytest.mark.parametrize(
    ("axes", "horizons", "mixed"),
    [
        ({}, (2, BRANCH), False),  # a constant rate, whatever the horizon
        ({"cpt__schedule": (COOLED,)}, (2, BRANCH), True),  # before and after the fall
        ({"cpt__schedule": (COOLED,)}, (BRANCH,), False),  # its end alone
        ({"cpt__schedule": (COOLED, (warm(STEP, PEAK / 2), hold()))}, (BRANCH,), True),
        ({"cpt__peak_lr": (PEAK / 2, PEAK)}, (BRANCH,), False),  # each against its own peak
    ],
)
def test_decayed_beside_undecayed_losses_are_said(
    axes: dict[str, Any], horizons: tuple[int, ...], mixed: bool
) -> None:
    said = mixed_rates(planned(small_sweep(horizons=horizons, **axes)))
    assert bool(said) == mixed
    if mixed:
        assert said == [
            "arm only: losses would be read off at 0.05 to 1 of the phase's peak rate: decayed and "
            "undecayed ones do not belong in one fit"
        ]


def test_a_sweep_without_the_phase_that_is_read_off_has_nothing_to_mix() -> None:
    sweep = small_sweep()
    other = dataclasses.replace(sweep.evaluate, phase="other", horizons=())
    assert mixed_rates(planned(dataclasses.replace(sweep, evaluate=other))) == []


# Of the built-in study -----------------------------------------------------------------------


def cmr(scale: str, *sets: str, axes: Any = ()) -> tuple[list[dict[str, Any]], list[str]]:
    settings, sweep = ask(STUDY, scale, sets, axes)
    return foresee(STUDY.foresees(settings, sweep))


def test_cmr_foresees_what_its_first_run_found_out_the_hard_way() -> None:
    rows, said = cmr("tiny")
    text = "\n".join(said)
    # README: at 164 k tokens the critical ratio is "< 1/8", at 246 k it is .129 (< 1/8 ..)
    below = "critical ratio, eps 0, may lie below the grid's edge 0.125: w24: 87% likely"
    assert f"{below} at 163,840 tokens (0.11 +- 0.014), 36% likely at 245,760 tokens" in text
    assert len(said) == len({line.partition(" from ")[0] for line in said})  # one line a kind
    assert "at 327,680" not in text
    assert "eps 0.05" not in text
    # README: "its exponents are hardly bounded"; the two-term law is mostly not identified
    hardly = [row["law"] for row in rows if row["params"].get("s", {}).get("wide")]
    assert set(hardly) == {"cmr-ratio"}
    assert "cmr-general-tokens from 10 points will hardly bound a2, s2" in text
    assert [row["points"] for row in rows if row["law"] == "cmr-critical"] == [5, 5]


def test_cmr_with_more_seeds_and_ratios_bounds_its_ratio_law() -> None:
    ratios = ",".join(str(k / 16) for k in range(17))
    rows, said = cmr("tiny", axes=[f"cpt.ratio={ratios}", "seed=0,1,2,3,4,5"])
    (general,) = [row for row in rows if row["what"].endswith("general loss against ratio")]
    assert general["what"] == "w24, w40, w64: general loss against ratio"
    assert general["points"] == 14
    assert not any(one["wide"] for one in general["params"].values())
    assert not [line for line in said if "general loss against ratio" in line]
    noise = RATIO_LAWS["general"][1]
    assert general["noise"] == pytest.approx(noise / math.sqrt(6))


@pytest.mark.parametrize("scale", STUDY.scales)
def test_the_prior_ends_alike_at_every_scale(scale: str) -> None:
    settings, sweep = ask(STUDY, scale)
    foreseen = STUDY.foresees(settings, sweep)
    last = max(settings.horizons)
    at_last = f"at {last:,} tokens"
    ends = [
        one.place
        for one in foreseen.places
        if one.where == at_last and one.what == "critical ratio, eps 0,"
    ]
    tiny = law("cmr-critical").predict(CRITICAL, {"cpt_tokens": np.array([983_040.0])})
    assert ends == pytest.approx([float(tiny[0])] * len(ends))
    for believed in foreseen.fits:
        if believed.law == "cmr-critical":
            at = law(believed.law).predict(believed.params, {"cpt_tokens": np.array([float(last)])})
            assert at == pytest.approx(tiny)
    assert ends


def test_plan_prints_and_returns_what_is_foreseen(
    lab_command: Callable[..., tuple[int, str, str]], told_json: Callable[..., Any]
) -> None:
    value = told_json("plan", "cmr", "--scale", "smoke")
    rows = {row["law"] for row in value["foreseen"]}
    assert {"cmr-ratio", "cmr-domain-tokens"} <= rows
    assert all(row["condition"] is None or row["condition"] > 1 for row in value["foreseen"])
    assert any("will hardly bound" in warning for warning in value["warnings"])
    _, out, _ = lab_command("plan", "cmr", "--scale", "smoke")
    assert "warning: critical ratio, eps 0, may lie below the grid's edge 0.125: w16" in out
