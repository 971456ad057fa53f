"""Averages in a sweep: evaluated off the states that are kept, rows of their own, no training."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab import mesh
from lab.averages import average
from lab.checkpoint import flatten
from lab.errors import Refused
from lab.store import Store
from lab.train import Trainer
from sweeps.averaging import averages_of, left_to_average
from sweeps.folder import Folder
from sweeps.gather import merge
from sweeps.kept import collect, unneeded
from sweeps.run import Outcome
from sweeps.sweep import Evaluations, Sweep, sweep_from_json
from tests.lab.test_golden import reference_loss
from tests.sweeps.small import (
    BRANCH,
    MODEL,
    PEAK,
    STACK,
    STEP,
    TRUNK,
    csv,
    files_below,
    small_sweep,
    trained,
)

NAMES = ("sma:3", "ema:3:0.2")


def asking(sweep: Sweep, *names: str, apart: int = STEP) -> Sweep:
    evaluate = dataclasses.replace(sweep.evaluate, averages=names, average_tokens=apart)
    return dataclasses.replace(sweep, evaluate=evaluate)


ASKED = asking(small_sweep(), *NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("averaged")


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    return trained(folder, ASKED)


# The numbers ---------------------------------------------------------------------------------


def test_rows_of_averages_stand_behind_their_states(outcome: Outcome) -> None:
    table = outcome.results
    assert set(table["status"]) == {"done"}
    rows = table[table["average"] != ""]
    assert len(rows) == 2 * 2 * 2  # runs, averages, corpora
    assert set(rows["average"]) == set(NAMES)
    assert set(rows["step_in_phase"]) == {BRANCH}
    states = table[(table["average"] == "") & (table["step_in_phase"] == BRANCH)]
    places = ["run", "corpus", "step", "tokens", "lr", "epochs", "segment", "share_in_phase"]
    both = rows.merge(states, on=places, suffixes=("", "_state"), validate="m:1")
    assert len(both) == len(rows)
    assert (both["loss_nats"] != both["loss_nats_state"]).all()


def test_an_average_is_that_of_the_stored_states(folder: Path, outcome: Outcome) -> None:
    store, index = Store(folder), outcome.index
    mesh.start(STACK)
    like = Trainer(outcome.plan.segments[0].shape, mesh.lanes(STACK), 1).abstract()
    run = outcome.plan.runs[1]
    for one in averages_of(run.path, ASKED.evaluate):
        assert one.steps == tuple(TRUNK + BRANCH - k for k in (2, 1, 0))
        members = [
            flatten(store.restore(index.states[run.path.state_id(step)], like)["params"])
            for step in one.steps
        ]
        params = {
            name: sum(
                w * m[name].astype(np.float64)
                for w, m in zip(average(one.written).weights, members, strict=True)
            )
            for name in members[0]
        }
        for each in outcome.plan.sets_for(run.path.run):
            row = index.evaluations[one.state_id, each.set_id]
            wanted = reference_loss(params, MODEL, each.tokens())
            assert row.loss_nats == pytest.approx(wanted, rel=1e-6)
            assert row.step == TRUNK + BRANCH


def test_asking_for_averages_leaves_the_other_rows_as_they_are(
    outcome: Outcome, whole: Outcome
) -> None:
    table = outcome.results
    shared = table["average"] == ""
    shared &= (table["phase"] == "pretrain") | table["step_in_phase"].isin([1, 2, 4, BRANCH])
    plain = table[shared].drop(columns="average").reset_index(drop=True)
    pd.testing.assert_frame_equal(plain, whole.results, check_exact=True)
    assert "average" not in whole.results


# What is missing, and no more ----------------------------------------------------------------


def test_averages_are_found_again_and_train_nothing(folder: Path, outcome: Outcome) -> None:
    before = files_below(folder / "segments")
    again = trained(folder, ASKED)
    assert again.trained_tokens == 0
    assert csv(again) == csv(outcome)
    assert files_below(folder / "segments") == before


def test_an_average_that_is_asked_for_later_is_taken_off_what_is_there(tmp_path: Path) -> None:
    trained(tmp_path, asking(small_sweep(), "sma:3"))
    more = trained(tmp_path, ASKED)
    assert more.trained_tokens == 0
    assert csv(more) == csv(trained(tmp_path / "fresh", ASKED))


def test_states_between_the_old_stops_are_made_for_an_average(
    tmp_path: Path, outcome: Outcome
) -> None:
    trained(tmp_path, small_sweep())
    more = trained(tmp_path, ASKED)
    assert more.trained_tokens == 2 * STEP  # step 5 of each branch, off step 4
    assert csv(more) == csv(outcome)


def test_states_are_needed_until_they_are_averaged(tmp_path: Path, outcome: Outcome) -> None:
    first = trained(tmp_path, asking(small_sweep(), "sma:3"))
    folder = Folder(tmp_path)

    def states_to_collect(plan_of: Outcome) -> int:
        found = unneeded(plan_of.plan, folder.store.load(set_aside=False), folder)
        return sum(one.kind.startswith("states") for one in found)

    held = len(first.index.held)
    assert states_to_collect(first) == held
    assert states_to_collect(outcome) == held - 2 * 3  # those of the other average
    # collected all the same, they are trained again, and the average is the same
    collect(folder, unneeded(first.plan, folder.store.load(set_aside=False), folder))
    more = trained(tmp_path, ASKED)
    assert more.trained_tokens == (TRUNK + 2 * BRANCH) * STEP
    assert csv(more) == csv(outcome)


def test_a_damaged_state_is_made_again_before_it_is_averaged(
    tmp_path: Path, outcome: Outcome
) -> None:
    first = trained(tmp_path, asking(small_sweep(), "sma:3"))
    run = first.plan.runs[0].path
    place = first.index.states[run.state_id(TRUNK + 5)]
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    said: list[str] = []
    more = trained(tmp_path, ASKED, said.append)
    assert any("damaged" in line for line in said)
    assert csv(more) == csv(outcome)


def test_another_corpus_is_evaluated_on_averages_too(tmp_path: Path, outcome: Outcome) -> None:
    asked = dataclasses.replace(
        ASKED, evaluate=dataclasses.replace(ASKED.evaluate, corpora=("synthetic-words",))
    )
    trained(tmp_path, asked)
    more = trained(tmp_path, ASKED)
    assert more.trained_tokens == 0
    pd.testing.assert_frame_equal(more.results, outcome.results)


def test_merging_brings_averages_along(tmp_path: Path, folder: Path, outcome: Outcome) -> None:
    merge(Folder(tmp_path / "all"), Folder(folder))
    merged = trained(tmp_path / "all", ASKED)
    assert merged.trained_tokens == 0
    assert csv(merged) == csv(outcome)


def test_a_diverged_run_is_averaged_nowhere_and_the_others_are(tmp_path: Path) -> None:
    asked = asking(small_sweep(ratios=(0.5,), cpt__peak_lr=(1e30, PEAK / 2)), "sma:2")
    found = trained(tmp_path, asked)
    rows = found.results[found.results["average"] != ""]
    assert set(rows["cpt_peak_lr"]) == {PEAK / 2}
    assert set(found.results["status"]) == {"done", "diverged"}
    assert left_to_average(found.plan, found.index) == []
    assert trained(tmp_path, asked).trained_tokens == 0


def test_stopped_before_it_is_averaged_a_run_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.run.evaluate_averages", lambda *_: 0)
        cut = trained(tmp_path, ASKED)
    assert set(cut.results["status"]) == {"incomplete"}
    assert set(cut.results["average"]) == {""}
    assert csv(trained(tmp_path, ASKED)) == csv(outcome)


# Asked wrongly -------------------------------------------------------------------------------


def evaluations(*names: str, apart: int = STEP) -> Evaluations:
    return dataclasses.replace(ASKED.evaluate, averages=names, average_tokens=apart)


def test_what_cannot_be_averaged_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="name one twice"):
        evaluations("sma:3", "sma:3")
    with pytest.raises(Refused, match="name one twice"):
        evaluations("ema:3:0.2", "ema:3:.2")
    with pytest.raises(Refused, match="average 'mean:3': must be"):
        evaluations("mean:3")
    with pytest.raises(Refused, match="average_tokens = 0: must say"):
        evaluations("sma:3", apart=0)
    with pytest.raises(Refused, match="average_tokens = 64: must say"):
        evaluations()
    with pytest.raises(Refused, match="average_tokens = 65: must be whole steps"):
        trained(tmp_path, asking(small_sweep(), "sma:3", apart=STEP + 1))
    with pytest.raises(Refused, match=r"do not lie within phase 'cpt' of 384 tokens"):
        trained(tmp_path, asking(small_sweep(), f"sma:{BRANCH + 1}"))
    assert os.listdir(tmp_path) == []


def test_a_sweep_is_read_back_with_its_averages() -> None:
    assert sweep_from_json(ASKED.to_json()) == ASKED
    text = small_sweep().to_json().replace('"average_tokens":0,"averages":[],', "")
    assert "average" not in text
    assert sweep_from_json(text) == small_sweep()  # as it was written before there were any
