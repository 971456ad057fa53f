"""A sweep is data: written, read back, changed from the command line, with places to evaluate."""

import dataclasses
import json
from typing import Any

import pytest

from lab.errors import Refused
from lab.spec import hold, warm
from sweeps.grid import Grid, with_fields
from sweeps.sweep import Evaluations, Sweep, sweep_from_json
from tests.sweeps.small import GENERAL, STEP, TRUNK, cooled, small_run, small_sweep

SWEEP = small_sweep(seeds=(0, 1), ratios=(0.0, 0.5, 1.0))
TWO_ARMS = dataclasses.replace(
    SWEEP,
    arms={
        **SWEEP.arms,
        "wide": Grid(with_fields(small_run(), {"model.width": 16}), {"seed": (5,)}),
    },
)


def horizons(*tokens: int, per_octave: int = 1) -> Evaluations:
    return Evaluations((GENERAL,), 8, "cpt", tokens, per_octave)


def test_a_sweep_is_read_back_as_it_was_written() -> None:
    assert sweep_from_json(TWO_ARMS.to_json()) == TWO_ARMS


def test_arms_and_axes_keep_their_order_through_json() -> None:
    swapped = dataclasses.replace(TWO_ARMS, arms=dict(reversed(TWO_ARMS.arms.items())))
    assert list(sweep_from_json(swapped.to_json()).arms) == ["wide", "only"]
    assert list(sweep_from_json(SWEEP.to_json()).arms["only"].axes) == ["seed", "cpt.ratio"]


def test_structured_values_of_an_axis_plan_the_same_runs_when_read_back() -> None:
    sweep = small_sweep(cpt__schedule=((warm(STEP, 1e-2), hold()), cooled()))
    again = sweep_from_json(sweep.to_json())
    assert again.to_json() == sweep.to_json()
    runs = [run for _, run in sweep.arms["only"].points()]
    assert [run for _, run in again.arms["only"].points()] == runs


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: tree.pop("arms"),
        lambda tree: tree.update(arms={"only": 1}),
        lambda tree: tree["arms"][0][1]["base"].pop("seed"),
        lambda tree: tree["arms"][0][1]["base"].update(colour="red"),
        lambda tree: tree["arms"][0][1].update(axes=[["seed"]]),
        lambda tree: tree["arms"][0][1].update(axes=[["seed", [0, 0]]]),
        lambda tree: tree["evaluate"].update(windows=0),
        lambda tree: tree["evaluate"].update(horizons=64),
    ],
)
def test_json_that_is_no_sweep_is_refused(spoil: Any) -> None:
    tree = json.loads(SWEEP.to_json())
    spoil(tree)
    with pytest.raises(Refused):
        sweep_from_json(json.dumps(tree))


# Changes from the command line ---------------------------------------------------------------


def values(sweep: Sweep, arm: str, path: str) -> tuple[Any, ...]:
    return tuple(sweep.arms[arm].axes[path])


def test_an_axis_is_replaced_or_extended() -> None:
    assert values(SWEEP.with_axis("seed", "7"), "only", "seed") == (7,)
    assert values(SWEEP.with_axis("seed", "1,2", extend=True), "only", "seed") == (0, 1, 2)


def test_extending_what_is_no_axis_yet_begins_with_the_value_of_the_base() -> None:
    more = SWEEP.with_axis("optimizer.weight_decay", "0.3", extend=True)
    assert values(more, "only", "optimizer.weight_decay") == (0.1, 0.3)


def test_an_axis_goes_to_every_arm_or_to_the_one_that_is_named() -> None:
    every = TWO_ARMS.with_axis("batch", "2,4")
    assert values(every, "only", "batch") == values(every, "wide", "batch") == (2, 4)
    one = TWO_ARMS.with_axis("wide:batch", "2,4")
    assert values(one, "wide", "batch") == (2, 4)
    assert "batch" not in one.arms["only"].axes
    with pytest.raises(Refused, match="unknown arm 'narrow'; the arms are only, wide"):
        TWO_ARMS.with_axis("narrow:batch", "2")


def test_a_field_is_set_in_every_arm_unless_it_is_an_axis() -> None:
    changed = TWO_ARMS.with_fields({"optimizer.b1": "1/2"})
    assert [grid.base.optimizer.b1 for grid in changed.arms.values()] == [0.5, 0.5]
    with pytest.raises(Refused, match="seed is an axis of this sweep"):
        SWEEP.with_fields({"seed": "3"})


def test_fields_that_need_each_other_are_set_together() -> None:
    told = {"model.parametrisation": "mup", "model.base_width": "8"}
    for order in (told, dict(reversed(told.items()))):
        model = SWEEP.with_fields(order).arms["only"].base.model
        assert (model.parametrisation, model.base_width) == ("mup", 8)
    with pytest.raises(Refused, match="mup needs the width at which rates were tuned"):
        SWEEP.with_fields({"model.parametrisation": "mup"})


# Places to evaluate --------------------------------------------------------------------------


def test_a_state_is_evaluated_at_log_spaced_steps_phase_ends_and_horizons() -> None:
    steps = horizons(3 * STEP, 6 * STEP).steps(small_run(branch=40))
    in_branch = [1, 2, 3, 4, 6, 8, 16, 32, 40]
    assert steps == [0, 1, 2, TRUNK, *(TRUNK + step for step in in_branch)]


def test_more_places_an_octave_hold_those_of_fewer() -> None:
    run = small_run(branch=40)
    one, four = horizons(per_octave=1).steps(run), horizons(per_octave=4).steps(run)
    assert set(one) < set(four)
    late = [step - TRUNK for step in four if step > TRUNK + 8]
    assert late == [10, 11, 13, 16, 19, 23, 27, 32, 38, 40]


def test_a_longer_phase_asks_for_nothing_new_along_the_way() -> None:
    short, long = (horizons(3 * STEP).steps(small_run(branch)) for branch in (9, 40))
    assert [step for step in long if step < TRUNK + 9] == short[:-1]


def test_a_horizon_behind_its_phase_or_off_the_steps_is_refused_in_one_line() -> None:
    with pytest.raises(Refused, match=r"^horizon 448: lies behind phase 'cpt' of 384 tokens$"):
        horizons(7 * STEP).steps(small_run())
    with pytest.raises(Refused, match=r"^horizon = 100: must be whole steps of 64 tokens \(64 or"):
        horizons(100).steps(small_run())


@pytest.mark.parametrize("bad", [(64, 64), (0,), (-64,)])
def test_horizons_are_positive_and_differ(bad: tuple[int, ...]) -> None:
    with pytest.raises(Refused, match="must be positive and differ"):
        horizons(*bad)


@pytest.mark.parametrize("per_octave", [0, 17])
def test_places_an_octave_have_bounds(per_octave: int) -> None:
    with pytest.raises(Refused, match=r"1\.\.16"):
        horizons(per_octave=per_octave)
