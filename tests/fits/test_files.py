"""A file is written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import fits.files
from fits.errors import Failed, Refused
from fits.files import write_whole
from fits.table import write_table

TABLE = pd.DataFrame({"n_params": [1.0, 2.0]})


def test_what_cannot_be_written_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.json"
    write_whole(file, b"old")

    def full(*paths: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.files.os, "replace", full)
    with pytest.raises(Failed, match=r"sweep\.json: disk full$"):
        write_whole(file, b"new")
    assert os.listdir(tmp_path) == ["sweep.json"]
    assert file.read_bytes() == b"old"


def test_a_table_of_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a table ends in \.csv or \.parquet"):
        write_table(TABLE, tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_a_failure_and_stays(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(Failed, match=r"cannot write .*t\.csv"):
        write_table(TABLE, tmp_path / "t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
