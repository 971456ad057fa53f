"""Axes reach any field of a run; what no field or value can be is refused in one line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Refused
from lab.spec import ModelSpec, RunSpec, hold, warm
from sweeps.grid import Grid, get_field, parse_value, parse_values, plain, with_fields
from tests.sweeps.small import DOMAIN, GENERAL, PEAK, STEP, few, small_run

RUN = small_run()


def refusal(axes: dict[str, tuple[Any, ...]]) -> str:
    with pytest.raises(Refused) as refused:
        list(Grid(RUN, axes).points())
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("seed", 7, lambda run: run.seed),
        ("batch", 2, lambda run: run.batch),
        ("model.width", 16, lambda run: run.model.width),
        ("optimizer.weight_decay", 0.3, lambda run: run.optimizer.weight_decay),
        ("cpt.tokens", 9 * STEP, lambda run: run.phases[1].tokens),
        ("cpt.reset_optimizer", True, lambda run: run.phases[1].reset_optimizer),
        ("cpt.ratio", 0.25, lambda run: run.phases[1].mixture[0].weight),
        ("cpt.peak_lr", 2e-3, lambda run: run.phases[1].schedule[0].to_lr),
        ("pretrain.end_lr", 5e-4, lambda run: run.phases[0].schedule[2].to_lr),
        ("cpt.schedule.0.to_lr", 3e-3, lambda run: run.phases[1].schedule[0].to_lr),
        ("phases.1.schedule.0.to_lr", 3e-3, lambda run: run.phases[1].schedule[0].to_lr),
        ("cpt.mixture.1.corpus", "code", lambda run: run.phases[1].mixture[1].corpus),
        ("model", ModelSpec(16, 2, 2, 8, 16), lambda run: run.model),
        ("cpt.schedule", (warm(STEP, 1e-3), hold()), lambda run: run.phases[1].schedule),
        ("cpt.schedule.1", warm(None, PEAK), lambda run: run.phases[1].schedule[1]),
    ],
)
def test_an_axis_sets_the_field_it_names_and_nothing_else(path: str, value: Any, read: Any) -> None:
    ((values, run),) = Grid(RUN, {path: (value,)}).points()
    assert values == {path: value}
    assert read(run) == value
    assert read(RUN) != value
    assert get_field(plain(run), path) == plain(value)
    assert with_fields(run, {path: get_field(plain(RUN), path)}) == RUN


def test_the_end_rate_of_a_held_phase_is_that_of_its_warm_stage() -> None:
    assert with_fields(RUN, {"cpt.end_lr": 4e-3}) == with_fields(RUN, {"cpt.peak_lr": 4e-3})


def test_the_last_axis_is_the_fastest() -> None:
    points = [values for values, _ in Grid(RUN, {"seed": (1, 0), "cpt.ratio": (0.5, 0)}).points()]
    assert [tuple(one.values()) for one in points] == [(1, 0.5), (1, 0), (0, 0.5), (0, 0)]


@few
@given(st.floats(0, 1))
def test_a_ratio_leaves_weights_that_sum_to_one_and_keeps_the_others_proportions(r: float) -> None:
    three = {"cpt.mixture": [[DOMAIN, 0.5], ["code", 0.3], ["docs", 0.2]]}
    shares = [{"corpus": name, "weight": weight} for name, weight in three["cpt.mixture"]]
    run = with_fields(with_fields(RUN, {"cpt.mixture": shares}), {"cpt.ratio": r})
    first, *others = [share.weight for share in run.phases[1].mixture]
    assert first == r
    assert others == pytest.approx([0.6 * (1 - r), 0.4 * (1 - r)])


def test_a_misspelt_path_is_refused_with_the_nearest_name() -> None:
    assert "did you mean 'weight_decay'?" in refusal({"optimizer.weightdecay": (0.1,)})
    assert "did you mean 'cpt'?" in refusal({"cpd.ratio": (0.1,)})
    assert "did you mean 'ratio'?" in refusal({"cpt.ratios": (0.1,)})
    assert "did you mean 'seed'?" in refusal({"seeds": (1,)})
    assert "to_lr" in refusal({"cpt.schedule.0.lr": (1e-3,)})


@pytest.mark.parametrize("place", ["2", "-1", "first", "²"])
def test_a_place_outside_a_list_is_refused(place: str) -> None:
    assert "places 0..1" in refusal({f"cpt.schedule.{place}.to_lr": (1e-3,)})


@pytest.mark.parametrize("path", ["phases", "cpt", "", ".", "seed.seed", "model.width.x", "ratio"])
def test_a_path_to_no_field_is_refused(path: str) -> None:
    assert "unknown field" in refusal({path: (1,)})


@pytest.mark.parametrize("values", [(0.5, 0.25, 0.5), (0, 0.0), (1, 1.0)])
def test_a_value_named_twice_is_refused(values: tuple[float, ...]) -> None:
    assert "names a value twice" in refusal({"cpt.ratio": values})


def test_an_axis_without_values_is_refused() -> None:
    assert "at least one value" in refusal({"seed": ()})


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), "half", True, None])
def test_a_ratio_that_is_none_is_refused(ratio: Any) -> None:
    assert "cpt.ratio" in refusal({"cpt.ratio": (ratio,)})


def test_a_ratio_needs_a_second_corpus() -> None:
    assert "second corpus" in refusal({"pretrain.ratio": (0.5,)})


def test_values_that_no_run_can_have_are_refused_by_name() -> None:
    assert "model.heads" in refusal({"model.heads": (3,)})
    assert "run.seed" in refusal({"seed": (0.5,)})
    assert "whole steps of 64 tokens (576 or 640)" in refusal({"cpt.tokens": (600,)})


# Values as typed -----------------------------------------------------------------------------


def test_values_are_read_as_what_the_field_holds() -> None:
    assert parse_values(RUN, "cpt.ratio", "1/8, .25,1") == (0.125, 0.25, 1.0)
    assert parse_values(RUN, "seed", "0,1_000,2e3") == (0, 1000, 2000)
    assert parse_values(RUN, "cpt.reset_optimizer", "true,False") == (True, False)
    assert parse_values(RUN, "cpt.mixture.0.corpus", "code,docs") == ("code", "docs")
    assert parse_values(RUN, "seed", " [3, 4]") == (3, 4)
    assert all(type(one) is int for one in parse_values(RUN, "seed", "1,2"))
    assert all(type(one) is float for one in parse_values(RUN, "cpt.ratio", "0,1"))


def test_a_whole_number_is_read_where_null_stands_for_the_rest() -> None:
    (tokens,) = parse_values(RUN, "cpt.schedule.1.tokens", "320")
    assert type(tokens) is int
    assert with_fields(RUN, {"cpt.schedule.1.tokens": tokens}).phases[1].schedule[1].tokens == 320


def test_a_whole_stage_is_typed_as_json() -> None:
    text = '[{"shape": "warm", "to_lr": 0.01}, {"shape": "hold", "tokens": null}]'
    warmed, held = parse_values(RUN, "cpt.schedule.1", text)
    assert with_fields(RUN, {"cpt.schedule.1": warmed}).phases[1].schedule[1] == warm(None, 0.01)
    assert with_fields(RUN, {"cpt.schedule.1": held}) == RUN
    with pytest.raises(Refused, match="JSON list"):
        parse_values(RUN, "cpt.schedule", "warm")
    with pytest.raises(Refused, match="not a JSON list"):
        parse_values(RUN, "seed", "[1, 2")


@pytest.mark.parametrize(
    ("now", "text"),
    [
        *((0, text) for text in ("x", "1.5", "nan", "inf", "1e400")),
        *((0.0, text) for text in ("nan", "-inf", "1/0", "", "1/2/3")),
        (True, "1"),
        (None, "x"),
    ],
)
def test_what_is_no_such_value_is_refused(now: Any, text: str) -> None:
    with pytest.raises(Refused, match=r"^f "):
        parse_value("f", now, text)


def test_a_grid_leaves_its_base_alone() -> None:
    grid = Grid(RUN, {"cpt.ratio": (0.0, 1.0), "model.width": (8, 16)})
    before = plain(grid.base)
    runs: list[RunSpec] = [run for _, run in grid.points()]
    assert len(set(runs)) == 4
    assert plain(grid.base) == before


def test_runs_made_of_parts_are_those_made_one_by_one() -> None:
    axes: dict[str, tuple[Any, ...]] = {
        "cpt.ratio": (0.0, 0.25),
        "seed": (0, 3),
        "phases.1.schedule.0.to_lr": (2e-3, 4e-3),
        "cpt.mixture.1.corpus": ("prose", GENERAL),  # after the ratio, in the same mixture
        "model.width": (8, 16),
        "optimizer.weight_decay": (0, 0.1),
    }
    grid = Grid(RUN, axes)
    for values, run in grid.points():
        assert run == with_fields(RUN, values)
    assert grid.corpora() == [GENERAL, DOMAIN, "prose"]


def test_parts_of_one_phase_are_checked_together() -> None:
    step = RUN.tokens_per_step
    grid = Grid(RUN, {"cpt.tokens": (4 * step, step), "cpt.schedule": (RUN.phases[1].schedule,)})
    points = grid.points()
    assert next(points)[1].phases[1].tokens == 4 * step
    with pytest.raises(Refused, match=r"must leave tokens of the phase's 64 for the open stage"):
        next(points)
