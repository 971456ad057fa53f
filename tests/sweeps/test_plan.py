"""The prefix tree: every state is planned once, however the runs that share it are written."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Refused
from lab.identity import Path
from lab.spec import OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from sweeps.grid import Grid
from sweeps.plan import Plan
from sweeps.remaining import remaining
from sweeps.sweep import Evaluations, Sweep
from tests.sweeps.small import (
    BRANCH,
    DOMAIN,
    GENERAL,
    PEAK,
    STEP,
    TRUNK,
    constant,
    few,
    index_after,
    planned,
    small_run,
    small_sweep,
)

SCHEDULES = (
    constant(),
    (warm(STEP, PEAK / 2), hold(), decay(STEP, 0.0)),
    (warm(STEP, PEAK / 2), hold(), decay(2 * STEP, 0.0, "1-sqrt")),
    (warm(STEP, PEAK), hold(2 * STEP), decay(None, PEAK / 10, "cosine")),
    (hold(STEP), hold()),  # a cut where nothing changes
)
ratios = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, unique=True)
horizons = st.lists(st.integers(4, 9), min_size=1, max_size=3, unique=True)
seeds = st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True)


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    """One or two arms with axes over all that a branch may differ in, in any order."""
    arms = {}
    for name in draw(st.sampled_from([("a",), ("a", "b")])):
        axes: dict[str, Any] = {
            "seed": draw(seeds),
            "cpt.ratio": draw(ratios),
            "cpt.tokens": [steps * STEP for steps in draw(horizons)],
            "cpt.schedule": draw(st.lists(st.sampled_from(SCHEDULES), min_size=1, unique=True)),
            "cpt.reset_optimizer": draw(st.sampled_from([(False,), (True,), (False, True)])),
            "cpt.reread": draw(st.sampled_from([((),), ((GENERAL,), ())])),
        }
        order = draw(st.permutations(list(axes)))
        arms[name] = Grid(small_run(), {path: tuple(axes[path]) for path in order})
    return Sweep("small", "tiny", arms, Evaluations((GENERAL,), 8, "cpt", (2 * STEP,)))


def states(plan: Plan) -> set[str]:
    """Every state that a step of any run leads to, by brute force."""
    return {one.path.state_id(t) for one in plan.runs for t in range(1, one.path.steps + 1)}


@few
@given(sweeps())
def test_the_segments_of_a_run_lead_from_its_start_to_its_end_without_gaps(sweep: Sweep) -> None:
    plan = planned(sweep)
    for run in plan.runs:
        mine = [plan.segments[k] for k in run.segments]
        cuts = [0, *(segment.stop for segment in mine)]
        assert [segment.start for segment in mine] == cuts[:-1]
        assert cuts[-1] == run.path.steps
        assert [one.end_id for one in mine] == [run.path.state_id(step) for step in cuts[1:]]
        asked = sweep.evaluate.steps(run.path.run)
        assert set(asked) <= {step for segment in mine for step in segment.stops}


@few
@given(sweeps())
def test_every_transition_between_states_is_trained_once(sweep: Sweep) -> None:
    plan = planned(sweep)
    assert sum(segment.tokens for segment in plan.segments) == len(states(plan)) * STEP
    ends = [segment.end_id for segment in plan.segments]
    assert len(set(ends)) == len(ends)


@few
@given(sweeps())
def test_parents_stand_before_their_children_and_end_where_these_begin(sweep: Sweep) -> None:
    plan = planned(sweep)
    for k, segment in enumerate(plan.segments):
        assert segment.stop > segment.start
        if segment.parent is None:
            assert segment.start == 0
        else:
            assert segment.parent < k
            assert plan.segments[segment.parent].end_id == segment.start_id
            assert set(segment.runs) <= set(plan.segments[segment.parent].runs)


@few
@given(sweeps(), st.randoms(use_true_random=False))
def test_the_order_of_arms_axes_and_values_changes_no_segment(sweep: Sweep, chance: Any) -> None:
    def shuffled(items: Any) -> list[Any]:
        return chance.sample(list(items), len(list(items)))

    arms = {
        name: Grid(grid.base, {path: tuple(shuffled(v)) for path, v in shuffled(grid.axes.items())})
        for name, grid in shuffled(sweep.arms.items())
    }

    def segments(one: Sweep) -> set[tuple[Any, ...]]:
        return {
            (s.start_id, s.end_id, s.start, s.stop, tuple(s.stops)) for s in planned(one).segments
        }

    assert segments(dataclasses.replace(sweep, arms=arms)) == segments(sweep)


@few
@given(seeds, ratios, ratios, st.integers(3, 6), st.integers(0, 6), seeds)
def test_more_ratios_seeds_or_a_longer_branch_train_only_what_is_new(
    old_seeds: list[int],
    old: list[float],
    new: list[float],
    branch: int,
    longer: int,
    new_seeds: list[int],
) -> None:
    before = planned(small_sweep(old_seeds, old, branch))
    more = dict.fromkeys([*old, *new])
    after = planned(small_sweep(dict.fromkeys([*old_seeds, *new_seeds]), more, branch + longer))
    work = remaining(after, index_after(before)).work
    trained = sum(piece.stop - piece.start for piece in work)
    assert trained == len(states(after) - states(before))


@few
@given(sweeps(), sweeps())
def test_no_piece_of_work_trains_past_a_stored_state_that_it_could_start_from(
    old: Sweep, new: Sweep
) -> None:
    before, after = planned(old), planned(new)
    index = index_after(before)
    for piece in remaining(after, index).work:
        path = after.segments[piece.segment].path
        first = min(piece.evaluate, default=piece.stop)
        skipped = [path.state_id(t) for t in range(piece.start + 1, min(first, piece.stop))]
        assert not set(skipped) & set(index.states)
        if piece.start > 0 and piece.after is None:
            assert path.state_id(piece.start) in index.states


def test_the_end_of_a_phase_is_a_cut_so_that_a_later_branch_finds_it_stored() -> None:
    plan = planned(small_sweep(ratios=(0.5,)))
    assert [(one.start, one.stop) for one in plan.segments] == [(0, TRUNK), (TRUNK, TRUNK + BRANCH)]


def test_cool_downs_branch_off_one_constant_rate_trunk() -> None:
    # hold to each horizon, then one step of decay: WSD, read at 4, 6 and 8 steps of the branch
    sweep = small_sweep(
        ratios=(0.5,),
        branch=9,
        cpt__tokens=tuple(steps * STEP for steps in (5, 7, 9)),
        cpt__schedule=((warm(STEP, PEAK / 2), hold(), decay(STEP, 0.0)),),
        horizons=(4,),
    )
    plan = planned(sweep)
    assert plan.summary(2)["tokens_shared"] == (TRUNK + 8 + 3) * STEP
    assert plan.summary(2)["tokens_naive"] == (3 * TRUNK + 5 + 7 + 9) * STEP


def test_the_summary_counts_runs_that_are_one_run_once() -> None:
    sweep = small_sweep(seeds=(0, 1))
    twice = dataclasses.replace(sweep, arms={**sweep.arms, "copy": sweep.arms["only"]})
    one, two = planned(sweep).summary(2), planned(twice).summary(2)
    assert (one.pop("runs"), two.pop("runs")) == (4, 8)
    assert one == two
    assert set(one) >= {"segments", "tokens_naive", "tokens_shared", "flops_naive", "groups"}
    assert one["flops_shared"] * one["tokens_naive"] == one["flops_naive"] * one["tokens_shared"]


def test_sizes_are_groups_the_smallest_first() -> None:
    plan = planned(small_sweep(model__width=(16, 8), batch=(4, 2), horizons=(2,)))
    groups = plan.summary(2)["groups"]
    assert [(one["width"], one["batch"]) for one in groups] == [(8, 4), (8, 2), (16, 4), (16, 2)]
    assert sum(one["tokens"] for one in groups) == plan.summary(2)["tokens_shared"]


def test_more_than_four_epochs_are_refused_and_four_are_not() -> None:
    plan = planned(small_sweep(ratios=(1.0,)))
    windows = plan.corpora[DOMAIN].train_windows(16)
    read = BRANCH * 4  # windows of domain text

    def with_text(count: int) -> Plan:
        class Short:
            digest, train_tokens = plan.corpora[DOMAIN].digest, 16 * count

            def train_windows(self, context: int) -> int:
                return count

        return dataclasses.replace(plan, corpora={**plan.corpora, DOMAIN: Short()})

    assert with_text(windows).most_epochs()[DOMAIN] == read / windows
    with_text(read // 4).refuse_repeats()
    with pytest.raises(Refused, match=rf"'{DOMAIN}' has .* would be read 4\.8 times \(at most 4\)"):
        with_text(5).refuse_repeats()


def test_a_vocabulary_too_small_for_a_corpus_is_refused() -> None:
    with pytest.raises(Refused, match=r"model\.vocabulary = 64: corpus '.*' needs 256"):
        planned(small_sweep(model__vocabulary=(64,)))


def test_a_corpus_shorter_than_a_window_is_refused() -> None:
    model = dataclasses.replace(small_run().model, context=2**24)
    phase = Phase("all", 2**25, (Share(DOMAIN, 1.0),), (hold(),))
    run = RunSpec(model, OptimizerSpec(), (phase,), seed=0, batch=1)
    sweep = Sweep("s", "t", {"a": Grid(run, {})}, Evaluations((DOMAIN,), 1, "all", ()))
    with pytest.raises(Refused, match="less than one window"):
        planned(sweep)


def test_a_path_that_begins_with_a_whole_run_shares_all_of_it() -> None:
    short, long = small_run(branch=4), small_run(branch=8)
    digests = {GENERAL: "g" * 32, DOMAIN: "d" * 32}
    assert Path(short, digests).state_id(TRUNK + 4) == Path(long, digests).state_id(TRUNK + 4)
