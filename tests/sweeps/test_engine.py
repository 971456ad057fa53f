"""Training locally: only what is missing, and the same bits however it was cut or shared."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import sweeps.run
from lab.errors import Failed
from lab.spec import hold, warm
from lab.store import Store
from lab.train import Trainer
from sweeps.progress import Display
from sweeps.remaining import Work
from sweeps.results import step_table
from sweeps.run import Outcome, run_sweep
from sweeps.sweep import Sweep
from tests.sweeps.small import (
    BRANCH,
    GENERAL,
    PEAK,
    STACK,
    STEP,
    TRUNK,
    csv,
    small_sweep,
    trained,
    use_engine,
)


def fresh_table(tmp_path: Path, sweep: Sweep) -> str:
    return csv(trained(tmp_path / "fresh", sweep))


# Only what is missing ------------------------------------------------------------------------


def test_a_sweep_trains_each_segment_once_and_nothing_when_asked_again(
    tmp_path: Path, whole: Outcome
) -> None:
    first = trained(tmp_path, small_sweep())
    again = trained(tmp_path, small_sweep())
    assert first.trained_tokens == (TRUNK + 2 * BRANCH) * STEP
    assert again.trained_tokens == 0
    pd.testing.assert_frame_equal(first.results, again.results, check_exact=True)
    assert csv(first) == csv(whole)


def test_another_ratio_trains_one_branch_off_the_stored_trunk(tmp_path: Path) -> None:
    trained(tmp_path, small_sweep(ratios=(0.5,)))
    wider = small_sweep(ratios=(0.5, 0.25))
    more = trained(tmp_path, wider)
    assert more.trained_tokens == BRANCH * STEP
    assert csv(more) == fresh_table(tmp_path, wider)


def test_another_seed_trains_its_trunk_and_branches(tmp_path: Path) -> None:
    trained(tmp_path, small_sweep(seeds=(0,)))
    wider = small_sweep(seeds=(1, 0))
    more = trained(tmp_path, wider)
    assert more.trained_tokens == (TRUNK + 2 * BRANCH) * STEP
    assert csv(more) == fresh_table(tmp_path, wider)


def test_a_longer_horizon_goes_on_from_the_stored_ends(tmp_path: Path) -> None:
    trained(tmp_path, small_sweep(branch=BRANCH, horizons=(3, BRANCH)))
    longer = small_sweep(branch=BRANCH + 3, horizons=(3, BRANCH, BRANCH + 3))
    more = trained(tmp_path, longer)
    assert more.trained_tokens == 2 * 3 * STEP
    assert csv(more) == fresh_table(tmp_path, longer)


def test_a_second_corpus_is_evaluated_at_every_stop_on_the_same_states(tmp_path: Path) -> None:
    sweep = small_sweep(ratios=(0.5,))
    trained(tmp_path, sweep)
    evaluate = dataclasses.replace(
        sweep.evaluate, corpora=(*sweep.evaluate.corpora, "synthetic-words+synthetic-markov")
    )
    other = dataclasses.replace(sweep, evaluate=evaluate)
    assert csv(trained(tmp_path, other)) == fresh_table(tmp_path, other)


def test_resetting_the_optimizer_changes_the_branch_and_not_the_trunk(
    tmp_path: Path, whole: Outcome
) -> None:
    table = trained(tmp_path, small_sweep(cpt__reset_optimizer=(True,))).results
    keys = ["cpt_ratio", "phase", "step", "corpus"]
    both = table.merge(whole.results, on=keys, suffixes=("", "_kept"), validate="1:1")
    same = both["loss_nats"] == both["loss_nats_kept"]
    late = both["step_in_phase"] > 1
    assert same[both["phase"] == "pretrain"].all()
    assert not same[(both["phase"] == "cpt") & late].any()


def test_literal_replay_shares_the_trunk_and_goes_on_from_every_step(tmp_path: Path) -> None:
    def asked(steps: int) -> Sweep:
        return small_sweep(ratios=(0.5,), branch=steps, cpt__reread=((), (GENERAL,)))

    first = trained(tmp_path / "grown", asked(2))
    assert first.trained_tokens == (TRUNK + 2 * 2) * STEP
    for steps in range(3, BRANCH + 1):  # a branch of one step more goes on from the stored end
        grown = trained(tmp_path / "grown", asked(steps))
        assert grown.trained_tokens == 2 * STEP
    whole = trained(tmp_path / "whole", asked(BRANCH))
    keys = ["cpt_reread", "step", "corpus"]
    both = grown.results.merge(whole.results, on=keys, suffixes=("", "_whole"), validate="1:1")
    ends = both[both["step"] == TRUNK + BRANCH]
    assert len(ends) == 4
    assert (ends["loss_nats"] == ends["loss_nats_whole"]).all()
    replayed = ends.set_index(["cpt_reread", "corpus"])
    unseen, literal = (replayed.loc[name] for name in ("[]", f'["{GENERAL}"]'))
    assert (unseen["loss_nats"] != literal["loss_nats"]).all()
    assert (unseen["epochs"] == literal["epochs"]).all()  # windows read, seen before or not


def test_shapes_are_trained_one_after_another_with_the_bits_of_each_alone(tmp_path: Path) -> None:
    mixed = trained(tmp_path / "mixed", small_sweep(model__width=(8, 16), batch=(4, 2))).results
    alone = trained(tmp_path / "alone", small_sweep(model__width=(16,), batch=(2,))).results
    part = mixed[(mixed["model_width"] == 16) & (mixed["batch"] == 2)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, alone, check_exact=True)


def test_the_shape_with_the_longest_way_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    class Noting(Display):
        def started(self, work: Work) -> None:
            begun.append(self.tally.plan.segments[work.segment].shape.model.width)
            super().started(work)

    monkeypatch.setattr(sweeps.run, "Display", Noting)
    trained(tmp_path, small_sweep(ratios=(0.5,), model__width=(8, 32, 16)))
    assert begun == [32, 32, 16, 16, 8, 8]


# The same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_steps", [1, 3])
@pytest.mark.parametrize("commit_seconds", [0.0, 300.0])
def test_chunk_and_commit_lengths_leave_the_table_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Outcome,
    chunk_steps: int,
    commit_seconds: float,
) -> None:
    use_engine(monkeypatch, chunk_steps=chunk_steps, commit_seconds=commit_seconds)
    outcome = trained(tmp_path, small_sweep())
    pd.testing.assert_frame_equal(outcome.results, whole.results, check_exact=True)
    assert csv(outcome) == csv(whole)


def test_of_states_committed_on_the_way_those_at_stops_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(monkeypatch, chunk_steps=1, commit_seconds=0.0)
    outcome = trained(tmp_path, small_sweep())
    logs = outcome.index.step_logs
    assert len(logs) == TRUNK + 2 * BRANCH
    for record, folder in logs:
        steps = [row.step for row in Store(tmp_path).read_steps(folder)]
        assert steps == list(range(record.start_step, record.end_step))
    stops = {state for one in outcome.plan.segments for state in one.stop_ids.values()}
    (initial,) = {one.start_id for one in outcome.plan.segments if one.start == 0}
    assert set(outcome.index.states) == stops - {initial}
    assert len(outcome.index.held) == len(list(tmp_path.glob("segments/*/attempt-*/state")))


@pytest.mark.parametrize("keep_bytes", [1, 2**28])
def test_states_at_stops_are_kept_whenever_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Outcome, keep_bytes: int
) -> None:
    use_engine(monkeypatch, keep_bytes=keep_bytes)
    outcome = trained(tmp_path, small_sweep())
    assert set(outcome.index.states) == set(whole.index.states)
    commits = len(outcome.index.step_logs)
    assert commits == (3 if keep_bytes > 1 else len(outcome.index.states))
    assert csv(outcome) == csv(whole)


def test_another_stack_agrees_to_rounding_and_says_so_in_the_provenance(
    tmp_path: Path, whole: Outcome
) -> None:
    one = run_sweep(small_sweep(), tmp_path, stack=1, quiet=True)
    np.testing.assert_allclose(
        one.results["loss_nats"], whole.results["loss_nats"], rtol=0, atol=1e-5
    )
    assert [p["stack"] for p in (*one.index.provenance, *whole.index.provenance)] == [1, STACK]


# Divergence ----------------------------------------------------------------------------------


def of_sound(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame[frame[column] < 1].reset_index(drop=True)


def test_a_diverged_branch_is_marked_and_the_others_keep_their_bits(tmp_path: Path) -> None:
    asked = small_sweep(cpt__peak_lr=(1e30, PEAK / 2))
    outcome = trained(tmp_path / "ill", asked)
    alone = trained(tmp_path / "well", small_sweep(cpt__peak_lr=(PEAK / 2,))).results
    status = outcome.results.groupby("cpt_peak_lr")["status"].unique()
    assert [list(one) for one in status] == [["done"], ["diverged"]]
    sound = of_sound(outcome.results, "cpt_peak_lr")
    pd.testing.assert_frame_equal(sound, alone, check_exact=True)
    assert np.isfinite(outcome.results["loss_nats"]).all()
    assert trained(tmp_path / "ill", asked).trained_tokens == 0


@pytest.mark.parametrize("chunk_steps", [1, 64])
def test_divergence_is_marked_at_the_first_loss_and_nothing_behind_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_steps: int
) -> None:
    # The rate explodes in the step behind the stop at 4, and the next stop is the end, at 8.
    explodes = (warm(STEP, PEAK / 2), hold(3 * STEP), warm(4 * STEP, 1e30))
    use_engine(monkeypatch, chunk_steps=chunk_steps, commit_seconds=0.0)
    sweep = small_sweep(ratios=(0.5,), branch=8, cpt__schedule=(explodes,))
    outcome = trained(tmp_path, sweep)
    assert set(outcome.index.diverged.values()) == {TRUNK + 5}
    assert outcome.results["step"].max() == TRUNK + 4
    log = step_table(outcome.plan, outcome.index, Store(tmp_path))
    assert log["step"].tolist() == list(range(TRUNK + 5))


def test_branches_of_a_diverged_trunk_are_never_trained(tmp_path: Path) -> None:
    asked = small_sweep(pretrain__peak_lr=(1e30, PEAK))
    outcome = trained(tmp_path / "ill", asked)
    alone = trained(tmp_path / "well", small_sweep(pretrain__peak_lr=(PEAK,))).results
    ill = outcome.results[outcome.results["pretrain_peak_lr"] > 1]
    assert set(ill["status"]) == {"diverged parent"}
    assert set(ill["phase"]) == {"pretrain"}
    sound = of_sound(outcome.results, "pretrain_peak_lr")
    pd.testing.assert_frame_equal(sound, alone, check_exact=True)
    again = trained(tmp_path / "ill", asked)
    assert again.trained_tokens == 0
    assert csv(again) == csv(outcome)


def test_out_of_memory_names_the_setting_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", small_sweep())

    def full(*told: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", full)
        with pytest.raises(Failed, match=r"^out of memory .* 2 lanes at width 8: .*--stack"):
            trained(tmp_path / "again", small_sweep())
    assert csv(trained(tmp_path / "again", small_sweep())) == csv(whole)
