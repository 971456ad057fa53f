"""Units that look wrong are said in a line; sound ones are not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import fits
from fits.doubts import GUESSING_NATS


def made() -> pd.DataFrame:
    return fits.made_points().drop(columns="run")


def notes(table: pd.DataFrame, **told: Any) -> list[str]:
    return list(fits.fit("chinchilla", table, interval="none", **told).notes)


def doubted(table: pd.DataFrame, **told: Any) -> list[str]:
    """What is said of this table and not of a sound one."""
    return [line for line in notes(table, **told) if line not in notes(made())]


def test_a_sound_table_raises_no_doubt() -> None:
    assert notes(made()) == []
    assert notes(fits.made_points()) == []  # a row a run


@pytest.mark.parametrize(
    ("change", "columns", "said"),
    [
        ({"n_params": 1e-6}, {}, "--columns n_params=n_params*1e6"),
        ({"n_params": 1e-9}, {}, "if they are counted in millions"),
        ({"n_tokens": 1e-9}, {}, "counted in steps, or in billions?"),
        ({"loss_nats": 10.0}, {}, "of guessing among a million symbols"),
    ],
)
def test_numbers_in_another_unit_are_doubted(
    change: dict[str, float], columns: dict[str, str], said: str
) -> None:
    table = made()
    table = table.assign(**{name: table[name] * by for name, by in change.items()})
    assert any(said in line for line in doubted(table, columns=columns))


def test_shares_in_percent_are_doubted() -> None:
    shares = np.array([5.0, 10.0, 25.0, 50.0, 75.0])
    table = pd.DataFrame({"R": shares, "loss_nats": 2.0 + 0.3 * (shares / 100) ** 1.5})
    for text, doubts in (("R", 1), ("R/100", 0)):
        found = fits.fit("cmr-ratio", table, columns={"ratio_domain": text}, interval="none")
        said = [note for note in found.notes if "percent" in note]
        assert len(said) == doubts
        assert all("--columns ratio_domain=R/100" in note for note in said)


@pytest.mark.parametrize(
    "name", ["val/bits_per_byte", "eval_bpb", "perplexity", "train/ppl", "val_acc"]
)
def test_a_column_called_by_another_unit_is_doubted(name: str) -> None:
    table = made().rename(columns={"loss_nats": name})
    said = doubted(table, columns={"loss_nats": name})
    assert any("another unit" in line for line in said)


@pytest.mark.parametrize("name", ["val/loss", "bitter_loss", "account_loss", "habitat"])
def test_a_word_that_holds_a_units_letters_is_not(name: str) -> None:
    table = made().rename(columns={"loss_nats": name})
    assert doubted(table, columns={"loss_nats": name}) == []


@pytest.mark.parametrize("name", ["step", "_step", "train/global_step", "iterations"])
def test_steps_read_as_tokens_are_doubted(name: str) -> None:
    table = made().rename(columns={"n_tokens": name})
    (line,) = doubted(table, columns={"n_tokens": name})
    assert f"--columns n_tokens={name}*TOKENS_A_STEP" in line


def test_rows_of_one_run_are_not_independent_and_that_is_said() -> None:
    table = made()
    table["run"] = np.arange(len(table)) // 4
    (line,) = doubted(table)
    assert "lab table --last run" in line
    assert doubted(table, by="run") == []


def test_the_limit_is_that_of_a_million_symbols() -> None:
    assert pytest.approx(np.log(2**20)) == GUESSING_NATS
