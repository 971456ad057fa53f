"""Logs as trackers write them become a row a run and step; what is odd in them is said."""

import json
import math
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fits import Refused, read_table
from fits.logs.log import Log
from fits.logs.tensorboard import read_events
from fits.logs.wandb import read_run
from tests.fits.logs.writing import (
    event,
    event_file,
    hparams,
    message,
    scalar,
    tensor_scalar,
    text,
    tf_record,
    wandb_file,
)


def read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = read_table(path)
    said = [str(one.message) for one in caught]
    assert not any("\n" in line for line in said)
    return frame, said


def losses(frame: pd.DataFrame, column: str) -> dict[tuple[str, int], float]:
    return {
        (row["run"], row["step"]): row[column]
        for row in frame.to_dict("records")
        if not math.isnan(row[column])
    }


# TensorBoard ---------------------------------------------------------------------------------


def test_a_folder_of_event_files_is_a_row_a_run_and_step(tmp_path: Path) -> None:
    event_file(tmp_path / "small", [event(1, scalar("val/loss", 3.5), scalar("lr", 0.25))])
    event_file(
        tmp_path / "deep" / "large", [event(n, tensor_scalar("val/loss", 3.0)) for n in (1, 2)]
    )
    frame, said = read(tmp_path)
    assert list(frame.columns) == ["run", "step", "val/loss", "lr"]
    assert losses(frame, "val/loss") == {
        ("deep/large", 1): 3.0,
        ("deep/large", 2): 3.0,
        ("small", 1): 3.5,
    }
    assert losses(frame, "lr") == {("small", 1): 0.25}
    assert said == []


def test_steps_logged_again_after_a_restart_count_once_and_that_is_said(tmp_path: Path) -> None:
    event_file(tmp_path / "a", [event(n, scalar("loss", 5.0 - n)) for n in range(4)], time=1)
    event_file(tmp_path / "a", [event(n, scalar("loss", 4.5 - n)) for n in (2, 3, 4)], time=2)
    frame, said = read(tmp_path)
    assert losses(frame, "loss") == {
        ("a", 0): 5.0, ("a", 1): 4.0, ("a", 2): 2.5, ("a", 3): 1.5, ("a", 4): 0.5,
    }  # fmt: skip
    assert said == [
        "2 values were logged twice for one step, as after a restart: the last counts (runs a)"
    ]


def test_equal_values_logged_twice_are_not_worth_a_word(tmp_path: Path) -> None:
    for time in (1, 2):
        event_file(tmp_path / "a", [event(1, scalar("loss", 5.0))], time)
    assert read(tmp_path)[1] == []


def test_hyperparameters_become_columns_of_the_run_above(tmp_path: Path) -> None:
    event_file(tmp_path / "a", [event(1, scalar("loss", 5.0)), event(2, scalar("loss", 4.0))])
    told = {"n_params": 7e7, "optimizer": "adamw", "tied": True, "loss": 3.0}
    event_file(tmp_path / "a" / "123.4", [event(0, hparams(told), scalar("hp/final", 4.0))])
    frame, said = read(tmp_path)
    assert frame["run"].tolist() == ["a", "a"]
    assert frame["n_params"].tolist() == [7e7, 7e7]
    assert frame["optimizer"].tolist() == ["adamw", "adamw"]
    assert frame["tied"].tolist() == [True, True]
    assert frame["config/loss"].tolist() == [3.0, 3.0]  # the logged loss keeps its name
    assert frame["loss"].tolist() == [5.0, 4.0]
    assert said == ["hyperparameters are taken into the run above them: a/123.4"]


def test_pictures_texts_and_histograms_are_passed_over(tmp_path: Path) -> None:
    picture = text(1, "image") + message(4, b"\x08\x01")
    words = text(1, "text") + message(8, b"\x08\x07" + message(8, b"hello"))
    several = text(1, "pair") + message(8, b"\x08\x01" + message(5, struct.pack("<2f", 1, 2)))
    event_file(tmp_path / "a", [event(3, picture, words, several, scalar("loss", 2.0))])
    frame, _ = read(tmp_path)
    assert list(frame.columns) == ["run", "step", "loss"]
    with pytest.raises(Refused, match="no numbers were logged there"):
        read_table(event_file(tmp_path / "b", [event(3, picture)]))


def test_a_file_that_is_still_written_or_damaged_is_read_up_to_there(tmp_path: Path) -> None:
    path = event_file(tmp_path / "a", [event(n, scalar("loss", 5.0 - n)) for n in range(4)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    frame, said = read(tmp_path)
    assert frame["step"].tolist() == [0, 1, 2]
    (line,) = said
    assert line.endswith("the rest is not read")
    assert "it ends within a record" in line
    assert path.name in line
    flipped = bytearray(whole)
    flipped[whole.index(struct.pack("<f", 3.0))] ^= 1  # the loss of step 2
    path.write_bytes(flipped)
    frame, (line,) = read(tmp_path)
    assert frame["step"].tolist() == [0, 1]
    assert "a checksum fails" in line


def test_a_loss_that_was_lost_is_not_one_that_was_not_logged(tmp_path: Path) -> None:
    rows = [
        event(1, scalar("loss", 5.0)),
        event(2, scalar("loss", math.nan)),
        event(3, scalar("lr", 1)),
    ]
    event_file(tmp_path / "a", rows)
    frame, said = read(tmp_path)
    assert frame["loss"].iloc[1] == math.inf
    assert math.isnan(frame["loss"].iloc[2])
    assert said == ["not a number, read as infinite: loss of run a at step 2"]


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None, database=None, max_examples=150)
def test_any_bytes_are_read_or_said_to_be_wrong(content: bytes, framed: bool) -> None:
    log = Log("a")
    read_events(tf_record(content) if framed else content, log)
    read_run((b":W&B\xe1\xbe\x00" if framed else b"") + content, log)


# Weights & Biases ----------------------------------------------------------------------------


def test_wandb_files_give_runs_by_their_names_with_config(tmp_path: Path) -> None:
    rows = {n: {"train/loss": 3.0 - n, "text": "x", "_runtime": 1.0} for n in range(3)}
    config: dict[str, object] = {"n_params": 100, "opt": {"lr": 0.1}, "_wandb": {"v": 1}}
    wandb_file(tmp_path / "offline-run-1", "id1", "wide", config, rows)
    wandb_file(tmp_path / "offline-run-2", "id2", "wide", config, {5: {"train/loss": "NaN"}})
    frame, said = read(tmp_path)
    assert list(frame.columns) == ["run", "step", "n_params", "opt/lr", "train/loss"]
    assert losses(frame, "train/loss") == {
        ("wide (id1)", 0): 3.0,
        ("wide (id1)", 1): 2.0,
        ("wide (id1)", 2): 1.0,
        ("wide (id2)", 5): math.inf,
    }
    assert frame["opt/lr"].tolist() == [0.1] * 4
    assert said == ["not a number, read as infinite: train/loss of run wide (id2) at step 5"]


def test_a_resumed_run_of_wandb_is_one_run(tmp_path: Path) -> None:
    for k, steps in enumerate([(0, 1, 2), (2, 3)]):
        rows = {n: {"loss": 10.0 * k + n} for n in steps}
        wandb_file(tmp_path / f"run-{k}", "id1", "a", {}, rows)
    frame, said = read(tmp_path)
    assert losses(frame, "loss") == {("a", 0): 0.0, ("a", 1): 1.0, ("a", 2): 12.0, ("a", 3): 13.0}
    assert "1 values were logged twice" in said[0]


def test_records_that_go_over_the_ends_of_blocks_are_read(tmp_path: Path) -> None:
    long = {f"metric/{k:04d}": k / 7 for k in range(1500)}
    path = wandb_file(tmp_path, "id1", "a", {}, dict.fromkeys(range(3), long))
    assert path.stat().st_size > 100_000
    frame, said = read(path)
    assert said == []
    assert frame["step"].tolist() == [0, 1, 2]
    assert frame.loc[2, "metric/1499"] == 1499 / 7


def test_a_cut_wandb_file_is_read_up_to_there(tmp_path: Path) -> None:
    path = wandb_file(tmp_path, "id1", "a", {}, {n: {"loss": 1.0 * n} for n in range(3)})
    path.write_bytes(path.read_bytes()[:-3])
    frame, (line,) = read(path)
    assert frame["step"].tolist() == [0, 1]
    assert "it ends within a record" in line
    path.write_bytes(b"something else")
    with pytest.raises(Refused, match="it does not begin as W&B's files do"):
        read_table(path)


CHART = """"Step","small - val/loss","small - val/loss__MIN","small - val/loss__MAX",\
"a - b - val/loss","a - b - val/loss__MIN","a - b - val/loss__MAX","small - _step"
0,5.5,5.5,5.5,,,,0
10,4.5,4.4,4.6,5.25,5.25,5.25,10
"""


def test_a_charts_table_from_the_page_becomes_a_row_a_run_and_step(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    path.write_text(CHART)
    frame, said = read(path)
    assert list(frame.columns) == ["run", "step", "val/loss"]
    assert losses(frame, "val/loss") == {("small", 0): 5.5, ("small", 10): 4.5, ("a - b", 10): 5.25}
    assert said[0] == "a chart's table from W&B: 2 runs, now a row a run and step"
    assert said[1].startswith("1 of its values are W&B's means of several steps")


def test_a_history_or_runs_table_from_wandb_is_a_table_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("_step,train/loss,_runtime\n0,3.0,1\n1,NaN,2\n2,Infinity,3\n")
    frame, said = read(path)
    assert said == []
    assert frame["train/loss"].tolist()[0] == 3.0
    assert np.isinf(frame["train/loss"].tolist()[2])


# JSON ----------------------------------------------------------------------------------------


def test_json_lines_are_rows_and_objects_in_them_are_flattened(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 5.0, "eval": {"loss": 5.5}, "note": "x", "done": True},
        {"step": 2, "loss": "NaN", "big": 10**400},
        {"step": 2, "lr": "-Infinity"},
    ]
    (tmp_path / "run1").mkdir()
    path = tmp_path / "run1" / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n\n")
    frame, said = read(tmp_path)
    assert list(frame.columns) == ["run", "step", "loss", "eval/loss", "big", "lr"]
    assert frame["run"].tolist() == ["run1", "run1"]
    assert frame["loss"].tolist() == [5.0, math.inf]
    assert frame["big"].iloc[1] == math.inf
    assert frame["lr"].iloc[1] == -math.inf
    assert "1 lines are no JSON objects, the first is line 4" in said[0]
    (tmp_path / "run1" / "second.jsonl").write_text('{"_step": 7, "loss": 1}\n')
    assert set(read(tmp_path)[0]["run"]) == {"run1/metrics", "run1/second"}
    assert set(read(path)[0]["run"]) == {"metrics"}


def test_lines_may_name_their_run(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    rows = [{"run": run, "step": step, "loss": step + 1.5} for run in "ab" for step in (1, 2)]
    path.write_text("\n".join(map(json.dumps, rows)))
    frame, said = read(path)
    assert losses(frame, "loss") == {("a", 1): 2.5, ("a", 2): 3.5, ("b", 1): 2.5, ("b", 2): 3.5}
    assert said == []


def test_a_log_without_a_folder_of_its_own_is_called_by_the_one_it_lies_in(tmp_path: Path) -> None:
    path = event_file(tmp_path / "mine", [event(1, scalar("loss", 2.0))])
    for source in (path, tmp_path / "mine"):
        assert read(source)[0]["run"].tolist() == ["mine"]


def test_lines_without_a_step_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"loss": 3}\n{"loss": 2}\n')
    assert read(path)[0]["step"].tolist() == [0, 1]


def test_a_trainers_state_is_read_and_its_checkpoints_are_one_run(tmp_path: Path) -> None:
    history = [
        {"step": 10, "loss": 4.0, "learning_rate": 1e-3, "epoch": 0.1},
        {"step": 10, "eval_loss": 4.1, "epoch": 0.1},
        {"step": 20, "loss": 3.0, "epoch": 0.2},
    ]
    for k, name in enumerate(["checkpoint-9", "checkpoint-10", "."]):
        folder = tmp_path / "run" / name
        folder.mkdir(parents=True, exist_ok=True)
        state = {"log_history": history[: k + 1], "global_step": 20}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    frame, said = read(tmp_path)
    assert said == []
    assert frame["run"].tolist() == ["run", "run"]
    assert losses(frame, "eval_loss") == {("run", 10): 4.1}
    assert losses(frame, "loss") == {("run", 10): 4.0, ("run", 20): 3.0}
    (tmp_path / "run" / "trainer_state.json").write_text("[]")
    assert "it has no log_history" in read(tmp_path)[1][0]


# Refused --------------------------------------------------------------------------------------


def test_a_folder_without_logs_says_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Refused, match="holds no logs that can be read") as no:
        read_table(tmp_path)
    assert "tfevents" in str(no.value)
    (tmp_path / "losses.csv").write_text("a\n1\n")
    with pytest.raises(Refused, match=r"name the table itself: .*losses\.csv"):
        read_table(tmp_path)


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    event_file(tmp_path / "logs" / "a", [event(1, scalar("loss", 2.0))])
    (tmp_path / "logs" / "loop").symlink_to(tmp_path / "logs", target_is_directory=True)
    assert set(read(tmp_path / "logs")[0]["run"]) == {"a"}
