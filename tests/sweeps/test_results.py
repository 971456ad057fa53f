"""The tidy table: what its columns say, in an order that nothing disturbs."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from fits.table import write_table
from lab import flops
from lab.spec import hold, warm
from lab.store import Index, Store
from sweeps.grid import Grid
from sweeps.results import axis_columns, step_table, table
from sweeps.run import Outcome
from sweeps.sweep import sweep_from_json
from tests.sweeps.small import (
    BRANCH,
    DOMAIN,
    GENERAL,
    MODEL,
    PEAK,
    STEP,
    TRUNK,
    cooled,
    index_after,
    planned,
    small_run,
    small_sweep,
    trained,
    use_engine,
)

COLUMNS = [
    "schema_version", "arm", "run", "seed", "cpt_ratio", "n_params", "n_params_non_embedding",
    "trunk", "status", "segment", "phase", "step", "step_in_phase", "tokens", "tokens_in_phase",
    "lr", "train_flops", "corpus", "share_in_phase", "epochs", "loss_nats", "bits_per_byte",
    "accuracy",
]  # fmt: skip
SWEEP = small_sweep(seeds=(1, 0), ratios=(1.0, 0.0, 0.25))
PLAN = planned(SWEEP)
TABLE = table(PLAN, index_after(PLAN))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Store]:
    """A trained sweep, and the store that it is in; committed at every step on the way."""
    out = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        return trained(out, small_sweep()), Store(out)


def test_the_columns_are_these_and_none_holds_a_time_of_day() -> None:
    assert list(TABLE.columns) == COLUMNS


def test_rows_stand_in_the_order_of_the_grid_then_of_steps_then_of_corpora() -> None:
    stops = [0, 1, 2, TRUNK, TRUNK + 1, TRUNK + 2, TRUNK + 4, TRUNK + BRANCH]
    expected = [
        (seed, ratio, step, corpus)
        for seed in (1, 0)
        for ratio in (1.0, 0.0, 0.25)
        for step in stops
        for corpus in (GENERAL, DOMAIN)
    ]
    got = TABLE[["seed", "cpt_ratio", "step", "corpus"]].itertuples(index=False, name=None)
    assert list(got) == expected


def test_the_order_in_which_things_were_committed_changes_no_row() -> None:
    index = index_after(PLAN)
    backwards = Index(
        states=dict(reversed(index.states.items())),
        state_steps=index.state_steps,
        evaluations=dict(reversed(index.evaluations.items())),
    )
    pd.testing.assert_frame_equal(table(PLAN, backwards), TABLE, check_exact=True)


def test_rows_of_a_shared_state_carry_the_same_segment() -> None:
    trunk = TABLE[(TABLE["phase"] == "pretrain") & (TABLE["seed"] == 1)]
    assert trunk["segment"].nunique() == 1
    assert trunk["run"].nunique() == 3
    assert (trunk["segment"] == trunk["trunk"]).all()
    once = TABLE.drop_duplicates(["segment", "step", "corpus"])
    assert len(once) == 2 * (4 + 3 * 4) * 2


def test_a_branch_begins_with_its_parents_end() -> None:
    last = TABLE[TABLE["step"] == TRUNK]
    assert set(last["phase"]) == {"pretrain"}
    assert set(last["step_in_phase"]) == {TRUNK}
    assert TABLE[TABLE["phase"] == "cpt"]["step_in_phase"].min() == 1


def test_shares_and_epochs_are_those_that_were_read() -> None:
    ends = TABLE[(TABLE["seed"] == 0) & (TABLE["step"] == TRUNK + BRANCH)]
    windows = {name: PLAN.corpora[name].train_windows(16) for name in (GENERAL, DOMAIN)}
    for ratio in (0.0, 0.25, 1.0):
        rows = ends[ends["cpt_ratio"] == ratio].set_index("corpus")
        domain = ratio * BRANCH * 4
        general = (TRUNK + BRANCH) * 4 - domain
        assert rows.loc[DOMAIN, "share_in_phase"] == ratio
        assert rows.loc[GENERAL, "share_in_phase"] == 1 - ratio
        assert rows.loc[DOMAIN, "epochs"] == domain / windows[DOMAIN]
        assert rows.loc[GENERAL, "epochs"] == general / windows[GENERAL]


def test_tokens_flops_and_rates_are_those_up_to_the_row() -> None:
    assert (TABLE["tokens"] == TABLE["step"] * STEP).all()
    assert (TABLE["tokens_in_phase"] == TABLE["step_in_phase"] * STEP).all()
    per_token = flops.train_flops_per_token(MODEL)
    assert (TABLE["train_flops"] == TABLE["tokens"] * per_token).all()
    assert set(TABLE["n_params"]) == {4760}
    rates = TABLE.groupby("step")["lr"].unique().map(list).to_dict()
    assert rates[0] == [0.0]
    assert rates[1] == pytest.approx([PEAK])
    assert rates[TRUNK] == pytest.approx([PEAK / 10])
    assert rates[TRUNK + BRANCH] == pytest.approx([PEAK / 2])


def test_a_sweep_half_done_says_so_and_lists_what_there_is() -> None:
    index = index_after(PLAN)
    missing = PLAN.segments[PLAN.runs[0].segments[1]].stop_ids[TRUNK + BRANCH]
    index.evaluations = {k: row for k, row in index.evaluations.items() if k[0] != missing}
    part = table(PLAN, index)
    run = PLAN.runs[0].path.state_id(TRUNK + BRANCH)[:12]
    assert set(part[part["run"] == run]["status"]) == {"incomplete"}
    assert set(part[part["run"] != run]["status"]) == {"done"}
    assert len(part) == len(TABLE) - 2


def test_nothing_trained_is_an_empty_table_with_its_columns() -> None:
    empty = table(PLAN, Index())
    assert len(empty) == 0
    assert "loss_nats" in empty.columns


def test_structured_axes_give_the_same_columns_when_the_sweep_is_read_back() -> None:
    schedules = ((warm(STEP, PEAK), hold()), cooled())
    sweep = small_sweep(model=(MODEL,), cpt__schedule=schedules)
    again = sweep_from_json(sweep.to_json())
    for (before, _), (after, _) in zip(
        sweep.arms["only"].points(), again.arms["only"].points(), strict=True
    ):
        columns = axis_columns(before)
        assert list(columns.items()) == list(axis_columns(after).items())
        assert columns["model_width"] == 8
        assert columns["cpt_schedule"].startswith('[{"shape":"warm","to_lr":0.01')


def test_a_swept_phase_is_one_text_a_field() -> None:
    phases = tuple(dataclasses.replace(small_run().phases[0], tokens=k * STEP) for k in (4, 5))
    sweep = small_sweep(phases__0=phases)
    columns = axis_columns(next(values for values, _ in sweep.arms["only"].points()))
    assert columns["phases_0_tokens"] == 4 * STEP
    assert columns["phases_0_mixture"].startswith('[{"corpus":')
    assert not any(isinstance(one, list | dict) for one in columns.values())


def test_arms_with_other_axes_share_a_table() -> None:
    decays = Grid(small_run(), {"optimizer.weight_decay": (0.0, 0.2)})
    both = dataclasses.replace(SWEEP, arms={**SWEEP.arms, "decay": decays})
    plan = planned(both)
    rows = table(plan, index_after(plan)).groupby("arm")[["seed", "optimizer_weight_decay"]]
    assert rows.nunique().loc["only"].tolist() == [2, 0]
    assert rows.nunique().loc["decay"].tolist() == [0, 2]


# Per-step log --------------------------------------------------------------------------------


def test_the_step_log_holds_every_step_of_every_segment_once(real: tuple[Outcome, Store]) -> None:
    outcome, store = real
    log = step_table(outcome.plan, outcome.index, store)
    expected = [
        (segment.end_id[:12], step)
        for segment in outcome.plan.segments
        for step in range(segment.start, segment.stop)
    ]
    assert list(zip(log["segment"], log["step"], strict=True)) == expected
    assert (log["tokens"] == (log["step"] + 1) * STEP).all()
    for segment in outcome.plan.segments:
        mine = log[log["segment"] == segment.end_id[:12]]
        assert mine["lr"].tolist() == segment.path.lr[segment.start : segment.stop].tolist()
    assert ((log["loss_nats"] > 0) & (log["grad_norm"] > 0)).all()


def test_the_step_log_follows_the_cuts_of_the_plan_that_asks(real: tuple[Outcome, Store]) -> None:
    outcome, store = real
    shorter = planned(small_sweep(branch=BRANCH - 2))
    log = step_table(shorter, outcome.index, store)
    assert len(log) == TRUNK + 2 * (BRANCH - 2)


# Files ---------------------------------------------------------------------------------------


def test_a_table_is_read_back_as_it_was_written(
    tmp_path: Path, real: tuple[Outcome, Store]
) -> None:
    frame = real[0].results
    for name in ("t.csv", "below/t.parquet"):
        write_table(frame, tmp_path / name)
    text = pd.read_csv(tmp_path / "t.csv", dtype=str)
    assert list(text.columns) == list(frame.columns)
    for name in frame.columns:
        assert text[name].map(type(frame[name][0])).tolist() == frame[name].tolist()
    columns = pd.read_parquet(tmp_path / "below/t.parquet")
    pd.testing.assert_frame_equal(columns, frame, check_exact=True)
