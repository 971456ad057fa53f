"""Tables in and out, and conditions: parsed, never evaluated."""

import contextlib
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fits import Refused, read_table, write_table
from fits.table import drop_shared_rows, rows_where

FRAME = pd.DataFrame(
    {
        "R": [0.125, 1 / 3, 0.5, np.nan],
        "n": [1, 2, 3, 4],
        "run": ["a and b", "x", "don't", "x y"],
        "held_out": [True, False, False, True],
        "a.b": [0, 1, 0, 1],
    }
)


def chosen(condition: str, frame: pd.DataFrame = FRAME) -> list[int]:
    return [int(n) for n in np.flatnonzero(rows_where(frame, condition).to_numpy(bool))]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("R == 1/3", [1]),
        ("R != 1/3", [0, 2, 3]),
        ("R<=1/3", [0, 1]),
        ("n >= 2 and n < 4", [1, 2]),
        ("n > 1e0 and R > .4", [2]),
        ("run == x", [1]),
        ("run == 'x y'", [3]),
        ('run == "x y"', [3]),
        ("run == x y", [3]),
        ("run == don't and n == 3", [2]),
        ("run == 'a and b'", [0]),
        ("run == 'a and b' and n == 2", []),
        ("held_out == true", [0, 3]),
        ("held_out == False and run == x", [1]),
        ("a.b == 1", [1, 3]),
        ("  n == 1  ", [0]),
    ],
)
def test_a_condition_chooses_rows(condition: str, rows: list[int]) -> None:
    assert chosen(condition) == rows


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('x') == 1",
        "n == __import__('os').system('x')",
        "n == 1 or n == 2",
        "n == 2-1",
        "(n == 1)",
        "n",
        "n = 1",
        "n ==",
        "",
        "n == 1 and",
        "and n == 1",
        "n == one",
        "n == 1/0",
        "n == 1/2/3",
        "held_out == 2",
        "run.str.len() == 1",
        "@n == 1",
    ],
)
def test_anything_else_is_refused_in_one_line(condition: str) -> None:
    with pytest.raises(Refused) as no:
        rows_where(FRAME, condition)
    assert "\n" not in str(no.value)


def test_an_unknown_column_is_refused_with_those_there() -> None:
    with pytest.raises(Refused, match=r"no column 'm'; it has R, n, run, held_out, a\.b"):
        rows_where(FRAME, "n == 1 and m == 2")


def test_columns_that_may_lack_values_compare_as_plain_ones() -> None:
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "mixed": pd.Series([1, "x", None], dtype=object),
        }
    )
    assert chosen("i > 1", frame) == [2]
    assert chosen("i != 1", frame) == [1, 2]
    assert chosen("b == true", frame) == [0]
    with pytest.raises(Refused, match="without an order"):
        rows_where(frame, "mixed < 3")


SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
terms = st.tuples(
    st.sampled_from(["R", "n"]),
    st.sampled_from(sorted(SIGNS)),
    st.floats(-5, 5) | st.sampled_from([0.125, 1.0, 3.0]),
    st.sampled_from(["", " ", "   "]),
)


@given(st.lists(terms, min_size=1, max_size=4))
@settings(deadline=None, database=None, max_examples=80)
def test_conditions_mean_what_python_says_they_mean(asked: list[tuple[Any, ...]]) -> None:
    text = " and ".join(f"{name}{gap}{sign}{gap}{value!r}" for name, sign, value, gap in asked)
    expected = [
        all(SIGNS[sign](row[name], value) for name, sign, value, _ in asked)
        for _, row in FRAME.iterrows()
    ]
    assert rows_where(FRAME, text).tolist() == expected


@given(st.text(max_size=40))
@settings(deadline=None, database=None, max_examples=150)
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        assert len(rows_where(FRAME, text)) == len(FRAME)


@given(st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=20))
@settings(deadline=None, database=None, max_examples=80)
def test_a_quoted_text_is_compared_as_it_stands(text: str) -> None:
    frame = pd.DataFrame({"run": [text, text + "!"]})
    assert rows_where(frame, f"run == '{text}'").tolist() == [True, False]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_written_table_is_read_back_exactly(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {
            "loss_nats": [0.1 + 0.2, 1 / 3, 1e-300],
            "n_params": [2**53 + 1, 1, 2],
            "run": ["a,b", 'say "x"', "é"],
            "held_out": [True, False, True],
        }
    )
    path = tmp_path / "deep" / f"table{ending}"
    write_table(frame, path)
    pd.testing.assert_frame_equal(read_table(path), frame)
    before = path.read_bytes()
    write_table(frame, path)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def refused(path: Path) -> str:
    with pytest.raises(Refused) as no:
        read_table(path)
    text = str(no.value)
    assert path.name in text
    assert "\n" not in text
    return text


def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    contents = {
        "truncated.parquet": whole[:-20],
        "half.parquet": whole[: len(whole) // 2],
        "empty.parquet": b"",
        "text.parquet": b"R,n\n1,2\n",
        "empty.csv": b"",
        "ragged.csv": b"a,b\n1,2\n1,2,3\n",
        "binary.csv": b"\xff\xfe\x00\x01\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert "cannot read" in refused(tmp_path / name)


def test_a_missing_file_a_folder_an_ending_and_a_bare_header_are_refused(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        assert "no such file" in refused(tmp_path / f"none{ending}")
    (tmp_path / "folder.csv").mkdir()
    assert "directory" in refused(tmp_path / "folder.csv")
    assert "ends in .csv or .parquet" in refused(tmp_path / "table.xlsx")
    (tmp_path / "header.csv").write_text("a,b\n")
    assert "has no rows" in refused(tmp_path / "header.csv")
    with pytest.raises(Refused, match=r"ends in \.csv or \.parquet"):
        write_table(FRAME, tmp_path / "table.pkl")
    assert not (tmp_path / "table.pkl").exists()


def test_shared_states_are_told_by_segment_step_and_corpus() -> None:
    frame = pd.DataFrame(
        {
            "run": ["a", "a", "b", "b", "b"],
            "segment": ["t", "t", "t", "t", "u"],
            "step": [1, 2, 1, 2, 2],
            "corpus": ["code", "code", "code", "prose", "code"],
        }
    )
    kept, shared = drop_shared_rows(frame)
    assert shared == 1
    assert kept.index.tolist() == [0, 1, 3, 4]
    assert drop_shared_rows(frame.drop(columns="segment"))[1] == 0


def test_columns_of_any_name_stand_in_conditions() -> None:
    frame = pd.DataFrame({"val/loss": [1.0, 2.0], "train loss": [3, 4], "n-embd": [5, 6]})
    assert chosen("val/loss > 1.5", frame) == [1]
    assert chosen("train loss == 3 and n-embd == 5", frame) == [0]
    with pytest.raises(Refused, match=r"no column 'val/los'; .*; did you mean 'val/loss'\?"):
        rows_where(frame, "val/los > 1")


def test_a_refusal_of_a_wide_table_names_some_of_its_columns() -> None:
    frame = pd.DataFrame([range(100)], columns=[f"metric_{k}" for k in range(100)])
    with pytest.raises(Refused, match=r"metric_39 and 60 more; did you mean 'metric_77'\?") as no:
        rows_where(frame, "metric77 > 1")
    assert "metric_40" not in str(no.value)


def test_a_comma_at_the_end_of_rows_moves_no_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n_params,loss_nats\n1,2,\n3,4,\n")
    frame = read_table(tmp_path / "a.csv")
    assert frame.to_dict("list") == {"n_params": [1, 3], "loss_nats": [2, 4]}


@pytest.mark.parametrize(
    "rows", ["1,2,3\n4,5,6\n", "a,2,3\nb,5,6\n", "1,2,\n4,5,6\n", "1,2\n4,5,6\n"]
)
def test_more_values_than_columns_are_refused(rows: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n_params,loss_nats\n" + rows)
    with pytest.raises(Refused, match=r"cannot read .*a\.csv"):
        read_table(tmp_path / "a.csv")
