"""The tree of a plan as a figure: every segment once, in the row of the runs that need it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.tree import tree_figure
from tests.sweeps.small import planned, small_sweep


def test_every_segment_is_drawn_once_between_the_tokens_it_trains() -> None:
    plan = planned(small_sweep())
    table = tree_figure(plan).data
    assert len(table) == len(plan.segments)
    for row, segment in zip(table.to_dict("records"), plan.segments, strict=True):
        a_step = segment.path.run.tokens_per_step
        assert (row["first_token"], row["last_token"]) == (
            segment.start * a_step,
            segment.stop * a_step,
        )
        assert row["runs"] == len(segment.runs)


def test_a_shared_stretch_stands_between_the_rows_of_its_runs() -> None:
    plan = planned(small_sweep())
    table = tree_figure(plan).data
    shared = table[table["runs"] > 1]
    assert len(shared) > 0
    for number, row in shared.iterrows():
        children = [k for k, one in enumerate(plan.segments) if one.parent == number]
        rows = table.loc[children, "row"]
        assert rows.min() < row["row"] < rows.max()
        assert (table.loc[children, "parent_row"] == row["row"]).all()
    ends = [run.segments[-1] for run in plan.runs]
    assert sorted(table.loc[ends, "row"]) == list(range(len(plan.runs)))


def test_plan_writes_it(told_json: Callable[..., Any], tmp_path: Path) -> None:
    value = told_json("plan", "cmr", "--scale", "smoke", "--to", "tree.svg")
    assert value["to"] == "tree.svg"
    assert (tmp_path / "tree.svg").read_text().startswith("<?xml")
