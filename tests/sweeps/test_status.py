"""`lab status`: what is committed and what processes say, summed; it only reads."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.store import Index
from sweeps.notes import Found, Note, Owner, Reached, Spent, read_notes
from sweeps.plan import Plan
from sweeps.run import Outcome
from sweeps.speed import Peak, Speed
from sweeps.status import Status, status_of
from sweeps.tally import shape_name
from tests.sweeps.small import (
    BRANCH,
    ROOT,
    STEP,
    TRUNK,
    Stopped,
    index_after,
    planned,
    small_sweep,
    stop_after,
    study_file,
    trained,
)

Json = Callable[..., Any]
TOKENS = (TRUNK + 2 * BRANCH) * STEP
CORES = Peak(1e6, "a matrix product here", True)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A trunk and two branches of one shape, at two widths."""
    return planned(small_sweep(model__mlp_width=(16, 32)))


def of(plan: Plan, index: Index, notes: list[Found], speed: Speed | None = None) -> Status:
    return status_of(plan, index, notes, speed)


def named(plan: Plan, number: int) -> tuple[str, str]:
    """The name of a segment's shape, and of its end."""
    return shape_name(plan.segments[number].shape), plan.segments[number].end_id


def note_of(
    plan: Plan,
    number: int,
    step: int,
    pid: int,
    host: str = "here",
    alive: bool | None = True,
    peak: Peak | None = CORES,
) -> Found:
    """A process that is at `step` of a segment, and has trained 100 tokens in 2 s."""
    shape, end = named(plan, number)
    note = Note(False, peak, (Spent(shape, 100, 2.0),), (Reached(end, step, True),))
    return Found(Owner(host, "", pid, ""), note, alive)


def tree_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of everything in a folder."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        told = path.lstat()
        found[str(path)] = told.st_size, told.st_mtime_ns
    return found


# What is counted -----------------------------------------------------------------------------


def test_what_is_committed_is_done_and_the_rest_waits(plan: Plan) -> None:
    one = of(plan, Index(), [])
    assert [(g.done, g.waiting, g.tokens_done, g.tokens_left) for g in one.groups] == [
        (0, 3, 0, TOKENS),
        (0, 3, 0, TOKENS),
    ]
    one = of(plan, index_after(plan), [])
    assert [(g.done, g.waiting, g.tokens_done, g.tokens_left) for g in one.groups] == [
        (3, 0, TOKENS, 0),
        (3, 0, TOKENS, 0),
    ]
    assert one.total("segments") == 6
    assert all(g.seconds_left == 0.0 for g in one.groups)


def test_several_processes_are_summed(plan: Plan) -> None:
    notes = [note_of(plan, 0, 3, 11), note_of(plan, 0, 2, 12), note_of(plan, 3, 1, 13)]
    one = of(plan, Index(), notes)
    first, second = one.groups
    assert (one.processes, one.elsewhere) == (3, 0)
    assert (first.running, first.waiting, second.running) == (1, 2, 1)  # two are at one segment
    assert first.tokens_done == 3 * STEP  # of whom the foremost counts
    assert (first.tokens_spent, first.seconds_spent) == (200, 4.0)
    assert first.tokens_per_second == 100.0
    assert first.fraction_of_peak == 100 * first.flops_per_token / 1e6  # cores count once
    assert first.seconds_left == (TOKENS - 3 * STEP) / 100
    assert one.peaks == [CORES.of]


def test_devices_of_ones_own_add_up_and_an_unknown_one_leaves_no_share(plan: Plan) -> None:
    card = Peak(1e6, "1 x A100, dense bf16", False)
    notes = [note_of(plan, 0, 3, pid, peak=card) for pid in (11, 12)]
    assert of(plan, Index(), notes).groups[0].peak == 2e6
    notes.append(note_of(plan, 0, 3, 13, peak=Peak(None, "peak of X not known", False)))
    one = of(plan, Index(), notes)
    assert one.groups[0].fraction_of_peak is None
    assert one.remarks()[1:] == [
        "share of peak: 1 x A100, dense bf16",
        "share of peak: peak of X not known",
    ]


@pytest.mark.parametrize("alive", [False, None])
def test_who_is_dead_or_elsewhere_has_spent_but_does_not_run(
    plan: Plan, alive: bool | None
) -> None:
    one = of(plan, Index(), [note_of(plan, 0, 3, 11, alive=alive)])
    first = one.groups[0]
    assert (first.running, first.waiting, first.tokens_done) == (0, 3, 0)
    assert (first.tokens_spent, first.seconds_spent) == (100, 2.0)
    assert first.tokens_per_second is None
    assert (one.processes, one.elsewhere) == (0, int(alive is None))


def test_a_note_behind_the_store_takes_nothing_back(plan: Plan) -> None:
    """A process says its last before its commit; a segment that is committed is done."""
    one = of(plan, index_after(plan), [note_of(plan, 0, 2, 11)])
    assert (one.groups[0].done, one.groups[0].running) == (3, 0)
    assert one.groups[0].tokens_done == TOKENS


def test_a_note_of_a_segment_that_is_not_in_the_plan_is_passed_over(plan: Plan) -> None:
    strange = note_of(plan, 0, 2, 11)
    note = dataclasses.replace(strange.note, reached=(Reached("elsewhere", 9, True),))
    one = of(plan, Index(), [dataclasses.replace(strange, note=note)])
    assert (one.processes, one.total("running")) == (1, 0)


def test_a_group_that_has_not_begun_goes_by_the_measured_speed(plan: Plan) -> None:
    one = of(plan, Index(), [note_of(plan, 0, 2, 11)], Speed("test", {1: 1e5}))
    first, second = one.groups
    assert first.seconds_left == (TOKENS - 2 * STEP) / 50
    assert second.seconds_left == second.seconds_planned == TOKENS * second.flops_per_token / 1e5


# Of folders ----------------------------------------------------------------------------------


def test_a_finished_folder_as_json(told_json: Json, whole: Outcome, smoke: Path) -> None:
    value = told_json("status", smoke)
    assert {"done", "running", "waiting", "failed", "diverged"} <= set(value)
    groups = value["groups"]
    assert [one["segments"] for one in groups] == [16, 8]
    for key in ("done", "running", "waiting", "diverged", "segments"):
        assert value[key] == sum(one[key] for one in groups)
    for one in groups:
        assert one["flops_spent"] == one["flops_done"] == one["flops"]
        assert one["hours_spent"] > 0
        assert (one["tokens_per_second"], one["fraction_of_peak"]) == (None, None)
    assert (value["seconds_left"], value["processes"]) == (0.0, 0)
    planned_ = told_json("plan", "cmr", "--scale", "smoke")["groups"]
    assert [one["tokens"] for one in groups] == [one["tokens"] for one in planned_]


def test_what_a_stopped_run_lost_is_a_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = small_sweep()
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # in the middle: what no commit holds is lost
        with pytest.raises(Stopped):
            trained(tmp_path, sweep)
    outcome = trained(tmp_path, sweep)
    notes = read_notes(tmp_path)
    assert [one.note.ended for one in notes] == [True, True]
    (group,) = of(outcome.plan, outcome.index, notes).groups
    assert group.tokens_done == TOKENS
    assert group.tokens_spent > TOKENS


def test_damaged_and_diverged_segments_are_counted_in_their_group(
    told_json: Json, tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    told_json("run", study, "--out", "out", "--stack", "2", "--axis", "cpt.peak_lr=1/200,1e30")
    value = told_json("status", "out")
    (group,) = value["groups"]
    assert (group["done"], group["diverged"], group["failed"]) == (3, 2, 0)
    assert group["tokens_done"] < group["tokens"]
    whole_ends = sorted(Path("out/segments").glob("*/attempt-*/state"))  # none of a diverged one
    (whole_ends[0].parent / "steps.jsonl").write_text("spoilt")
    value = told_json("status", "out")
    assert value["failed"] == value["groups"][0]["failed"] == 1
    assert value["groups"][0]["done"] < 3


@contextmanager
def training(tmp_path: Path, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that trains the user's study for longer than the test takes."""
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    told += ["--set", "branch=200000", "--set", f"seeds={seed}"]
    with subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *map(str, told)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_until_it_trains(child: subprocess.Popen[bytes], out: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert child.poll() is None
        notes = [one.note for one in read_notes(out)]
        if any(one.spent and one.spent[0].tokens > 20 * STEP for one in notes):
            return
        time.sleep(0.1)
    raise AssertionError("it does not train")


def test_a_run_under_way_is_only_read_and_one_that_was_killed_is_not_running(
    told_json: Json, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with training(tmp_path, 0) as child:
        wait_until_it_trains(child, out)
        os.kill(child.pid, signal.SIGSTOP)  # alive, and changes nothing while we look
        before = tree_of(out)
        value = told_json("status", "out")
        assert tree_of(out) == before
        (group,) = value["groups"]
        assert (value["processes"], group["running"], group["done"]) == (1, 2, 1)
        assert group["tokens_done"] > (TRUNK + 20) * STEP
        assert group["tokens_per_second"] > 0
        assert group["seconds_left"] > 0
        child.kill()
    value = told_json("status", "out")
    assert (value["processes"], value["running"], value["waiting"]) == (0, 0, 2)
    (after,) = value["groups"]
    assert after["tokens_per_second"] is None
    assert after["flops_spent"] == group["flops_spent"]  # lost, but paid for
