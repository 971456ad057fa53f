"""What is collected is what nobody needs: the sweep goes on as if it were there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.store import Store
from sweeps.folder import Folder
from sweeps.kept import LOSING, PARTIAL, STATE, collect, disk_size, to_keep, unneeded
from sweeps.plan import Plan
from sweeps.remaining import remaining
from sweeps.run import Outcome
from tests.sweeps.small import (
    BRANCH,
    STEP,
    TRUNK,
    Stopped,
    csv,
    files_below,
    planned,
    small_sweep,
    stop_after,
    study_file,
    trained,
    use_engine,
)

Lab = Callable[..., tuple[int, str, str]]


def collected(path: Path, plan: Plan) -> dict[str, int]:
    """Collect what a plan does not need; how many of each kind."""
    folder = Folder(path)
    found = unneeded(plan, folder.store.load(set_aside=False), folder)
    before = sum(len(content) for content in files_below(path).values())
    collect(folder, found)
    gone = before - sum(len(content) for content in files_below(path).values())
    assert gone == sum(one.bytes for one in found)
    kinds = [one.kind for one in found]
    return {kind: kinds.count(kind) for kind in (LOSING, PARTIAL, STATE)}


def test_the_plan_knows_what_will_be_kept(whole: Outcome) -> None:
    states, size = to_keep(whole.plan)
    assert states == len(whole.index.states) == len(whole.index.held)
    stored = sum(one.bytes for one in whole.index.held)
    # a state of this model is small, and the files around its numbers are not
    assert size < stored < size + states * 30_000


def test_a_finished_sweep_needs_no_states_and_keeps_every_number(
    tmp_path: Path, whole: Outcome
) -> None:
    outcome = trained(tmp_path, small_sweep())
    assert collected(tmp_path, outcome.plan) == {
        LOSING: 0,
        PARTIAL: 0,
        STATE: len(whole.index.states),
    }
    again = trained(tmp_path, small_sweep())
    assert (again.trained_tokens, again.index.broken) == (0, [])
    assert csv(again) == csv(whole)
    assert collected(tmp_path, outcome.plan) == {LOSING: 0, PARTIAL: 0, STATE: 0}


def test_a_collected_sweep_still_grows(tmp_path: Path) -> None:
    outcome = trained(tmp_path, small_sweep(ratios=(0.0,)))
    collected(tmp_path, outcome.plan)
    more = trained(tmp_path, small_sweep())
    assert more.trained_tokens == (TRUNK + BRANCH) * STEP  # the trunk again, for one branch more
    assert csv(more) == csv(trained(tmp_path / "fresh", small_sweep()))
    assert not any("damaged" in line for line in more.index.broken)


def test_a_branch_still_to_be_trained_keeps_its_trunk(tmp_path: Path) -> None:
    trained(tmp_path, small_sweep(ratios=(0.0,)))
    plan = planned(small_sweep())
    trunk = plan.segments[0].end_id
    collected(tmp_path, plan)
    assert list(Store(tmp_path).load().states) == [trunk]
    assert trained(tmp_path, small_sweep()).trained_tokens == BRANCH * STEP


@pytest.mark.parametrize("steps", [2, 5, 9, 12])
def test_collecting_takes_nothing_from_a_sweep_that_was_stopped(
    tmp_path: Path, whole: Outcome, steps: int
) -> None:
    plan = planned(small_sweep())
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            trained(tmp_path, small_sweep())
    left = remaining(plan, Store(tmp_path).load()).work
    collected(tmp_path, plan)
    assert remaining(plan, Store(tmp_path).load(verify_states=True)).work == left
    after = trained(tmp_path, small_sweep())
    assert after.trained_tokens == sum(one.stop - one.start for one in left) * STEP
    assert csv(after) == csv(whole)


def test_what_a_killed_process_left_is_listed(tmp_path: Path) -> None:
    outcome = trained(tmp_path, small_sweep())
    winner = outcome.index.states[outcome.plan.segments[1].end_id]
    shutil.copytree(winner, winner.with_name("attempt-killed"))
    shutil.copytree(winner, winner.parent.with_name("f" * 32 + ".00000000") / "attempt-killed")
    for name in (".sweep.json.0123abcd.partial", "tables/.ends.csv.0123abcd.partial"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    found = collected(tmp_path, outcome.plan)
    assert (found[LOSING], found[PARTIAL]) == (2, 2)
    assert winner.exists()


def test_states_held_twice_are_needed_once(tmp_path: Path) -> None:
    trained(tmp_path, small_sweep(ratios=(0.0,)))
    plan = planned(small_sweep())
    store = Store(tmp_path)
    index = store.load()
    held = index.states[plan.segments[0].end_id]
    other = store.folder / f"{held.parent.name[:32]}.11111111"
    shutil.copytree(held.parent, other)
    collected(tmp_path, plan)
    assert [one.state for one in store.load(verify_states=True).held] == [plan.segments[0].end_id]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (37.2e9, "37.2 GB"),
                       (15.3e12, "15.3 TB"), (4e15, "4,000.0 TB")],
)  # fmt: skip
def test_sizes_as_people_read_them(size: float, text: str) -> None:
    assert disk_size(int(size)) == text


# The command ---------------------------------------------------------------------------------


@pytest.fixture
def out(lab_command: Lab, tmp_path: Path) -> Path:
    """The folder of a study of one's own, in the current folder."""
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    assert lab_command(*told)[0] == 0
    return Path("out")


def test_gc_lists_and_touches_nothing_unless_told_so(lab_command: Lab, out: Path) -> None:
    before = files_below(out)
    code, said, err = lab_command("gc", out)
    assert (code, err) == (0, "")
    assert "11 states that no unfinished branch starts from" in said
    assert "--delete removes them" in said
    assert files_below(out) == before
    code, said, _ = lab_command("gc", out, "--delete")
    assert code == 0
    assert said.endswith("removed\n")
    assert lab_command("gc", out)[1] == "nothing could go\n"
    assert (out / "results.csv").read_bytes() == before["results.csv"]


def test_gc_as_json_names_every_path(told_json: Callable[..., Any], out: Path) -> None:
    value = told_json("gc", out)
    assert (value["deleted"], len(value["items"])) == (False, 11)
    assert value["bytes"] == sum(one["bytes"] for one in value["items"])
    assert all(Path(one["path"]).exists() for one in value["items"])
    status = told_json("status", out)
    assert (status["states_kept"], status["disk_bytes"]) == (11, value["bytes"])
    assert told_json("gc", out, "--delete")["deleted"]
    assert told_json("status", out)["states_kept"] == 0
    assert told_json("status", out)["done"] == 3


@pytest.mark.parametrize("delete", [[], ["--delete"]])
def test_gc_leaves_a_live_run_alone(lab_command: Lab, out: Path, delete: list[str]) -> None:
    before = files_below(out)
    with Folder(out).locked():
        code, said, err = lab_command("gc", out, *delete)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert "another process is training into out" in err
    assert files_below(out) == before


def test_merge_says_what_it_brought(
    lab_command: Lab, told_json: Callable[..., Any], out: Path
) -> None:
    code, said, err = lab_command("merge", "new", out)
    assert (code, err) == (0, "")
    assert said.startswith("3 finished pieces (")
    assert told_json("status", "new")["done"] == 3
    assert told_json("merge", "new", out)["known"] == 3
    told = ["run", "mine.py", "--out", "new", "--json"]
    assert told_json(*told[:-1])["trained_tokens"] == 0
    for name in ("results.csv", "results.parquet"):
        assert (Path("new") / name).read_bytes() == (out / name).read_bytes()
