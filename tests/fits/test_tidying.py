"""One table of losses from logs: joined by run, computed, the last rows kept; silence nowhere."""

import math

import numpy as np
import pandas as pd
import pytest

import fits
from fits import Refused
from fits.tidying import tidy

LOGS = pd.DataFrame(
    {
        "run": ["a", "a", "a", "b", "b", "c"],
        "step": [10, 20, 30, 10, 20, 10],
        "val/loss": [3.0, 2.5, np.nan, 3.5, math.inf, np.nan],
        "lr": [0.1, 0.2, 0.3, 0.1, 0.2, 0.1],
    }
)
RUNS = pd.DataFrame({"Name": ["a", "b", "z"], "n_params": [1e6, 2e6, 3e6]})


def test_settings_of_runs_join_their_rows() -> None:
    table, said = tidy(LOGS, join=RUNS)
    assert table["run"].tolist() == ["a", "a", "a", "b", "b"]
    assert table["n_params"].tolist() == [1e6, 1e6, 1e6, 2e6, 2e6]
    assert said == ["1 rows left out, of runs that the joined table lacks: c"]


def test_values_of_steps_join_by_step_too() -> None:
    other = pd.DataFrame({"run": ["a", "a", "b"], "step": [10, 30, 20], "acc": [0.1, 0.3, 0.2]})
    table, said = tidy(LOGS, join=other)
    assert table["acc"].tolist() == [0.1, 0.3, 0.2]
    assert said == [
        "1 rows left out, of runs that the joined table lacks: c",
        "2 rows left out, of steps that the joined table lacks",
    ]


def test_runs_called_by_numbers_join_whether_they_are_read_as_such_or_not() -> None:
    logs = LOGS.assign(run=["1"] * 6)
    table, said = tidy(logs, join=pd.DataFrame({"run": [1], "n_params": [5.0]}))
    assert table["n_params"].tolist() == [5.0] * 6
    assert said == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (RUNS.assign(Name=["a", "a", "z"]), "names run 'a' twice"),
        (RUNS.rename(columns={"n_params": "lr"}), "both tables have a column 'lr'"),
        (RUNS.assign(Name=["x", "y", "z"]), "no run of the table is in the joined one: a, b, c"),
        (RUNS.rename(columns={"Name": "model"}), "has no column that names runs"),
    ],
)
def test_what_cannot_be_joined_is_refused(other: pd.DataFrame, said: str) -> None:
    with pytest.raises(Refused, match=said) as no:
        tidy(LOGS, join=other)
    assert "\n" not in str(no.value)


def test_the_last_row_of_each_run_is_the_last_with_the_columns_asked_for() -> None:
    columns = {"n_tokens": "step*512", "loss_nats": "val/loss"}
    table, said = tidy(LOGS, columns=columns, last="run")
    assert table["run"].tolist() == ["a", "b"]
    assert table["step"].tolist() == [20, 20]
    assert table["n_tokens"].tolist() == [20 * 512, 20 * 512]
    assert table["loss_nats"].tolist() == [2.5, math.inf]  # b was lost; its 3.5 is not its end
    assert said == [
        "4 rows left out that are not the last of a run (by step)",
        "left out for want of n_tokens, loss_nats: run c",
        "ends with a value that is not finite: run b",
    ]
    with pytest.raises(Refused, match="not a finite number"):
        fits.fit("kaplan", table.assign(n_params=1e6))


def test_the_last_row_is_by_step_and_not_by_place() -> None:
    table, _ = tidy(LOGS.iloc[::-1], columns={"y": "val/loss"}, last="run")
    assert sorted(zip(table["run"], table["step"], strict=True)) == [("a", 20), ("b", 20)]
    table, said = tidy(LOGS.drop(columns="step"), last="run")
    assert table["lr"].tolist() == [0.3, 0.2, 0.1]
    assert said == ["3 rows left out that are not the last of a run (in the table's order)"]


def test_an_unknown_column_is_refused() -> None:
    for told in ({"columns": {"x": "val/los"}}, {"last": "rnu"}):
        with pytest.raises(Refused, match="did you mean"):
            tidy(LOGS, **told)  # type: ignore[arg-type]
