"""The driver: what it hands over, what it does about the lost, and what it may be told."""

import dataclasses
import importlib.util
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import sweeps.engines.fleet
from lab.errors import Failed
from sweeps.budget import Limit, Spending
from sweeps.engines.fleet import JOBS, PRIVATE, TRIES, Fleet
from sweeps.engines.ray import needs
from sweeps.folder import Folder
from sweeps.plan import Plan
from sweeps.remaining import remaining
from sweeps.run import Outcome, join_sweep, run_sweep
from sweeps.sweep import Sweep
from tests.sweeps.at_once import AtOnce
from tests.sweeps.small import BRANCH, STACK, STEP, TRUNK, csv, files_below, planned, small_sweep


class Queue(AtOnce):
    """An engine that only notes what it is given, and in which order."""

    name = "queue"
    queues = True

    def submit(self, command: Sequence[str], after: Sequence[str]) -> str:
        self.commands.append([*after, command[command.index("--segments") + 1]])
        self.there.add(str(len(self.commands)))
        return str(len(self.commands))


def driven(
    out: Path,
    sweep: Sweep,
    engine: AtOnce,
    workers: int = 8,
    said: list[str] | None = None,
    steps: float | None = None,
) -> Outcome:
    """What a driver makes of a sweep; `steps`: those that its budget pays for."""
    say = (lambda line: None) if said is None else said.append
    limits = [] if steps is None else [Limit("--budget-steps", steps, "steps", lambda one: 1.0)]
    with Fleet(lambda: engine, out, workers, say, seconds=0.0) as fleet:
        limit = Spending(limits, say)
        return run_sweep(sweep, out, stack=STACK, quiet=True, fleet=fleet, limit=limit)


@pytest.fixture
def engine(tmp_path: Path) -> AtOnce:
    return AtOnce(tmp_path)


def test_the_table_is_that_of_the_local_engine(
    tmp_path: Path, whole: Outcome, engine: AtOnce
) -> None:
    said: list[str] = []
    outcome = driven(tmp_path / "out", small_sweep(), engine, said=said)
    assert csv(outcome) == csv(whole)
    assert outcome.trained_tokens == whole.trained_tokens == 16 * STEP
    assert len(engine.commands) == 2  # the trunk; both branches
    assert engine.closed == 1
    assert said[0] == "at-once: 0 of 3 segments done, 1 tasks handed over, 1 to come"


def test_averages_of_states_are_evaluated_by_a_worker_too(tmp_path: Path, engine: AtOnce) -> None:
    sweep = small_sweep()
    averages = dataclasses.replace(sweep.evaluate, averages=("sma:3",), average_tokens=STEP)
    sweep = dataclasses.replace(sweep, evaluate=averages)
    alone = run_sweep(sweep, tmp_path / "alone", stack=STACK, quiet=True)
    assert csv(driven(tmp_path / "out", sweep, engine)) == csv(alone)
    assert [command[5] for command in engine.commands] == ["--segments"] * 2 + ["--averages"]
    never = AtOnce(tmp_path, fail=lambda number: number > 2)
    with pytest.raises(Failed, match=r"averages are not evaluated, the last time: lab: no such"):
        driven(tmp_path / "never", sweep, never)
    assert len(never.commands) == 2 + TRIES + 1


def test_a_budget_hands_over_what_it_pays_for_and_the_next_one_the_rest(
    tmp_path: Path, whole: Outcome
) -> None:
    said: list[str] = []
    out, sweep = tmp_path / "out", small_sweep()
    first = driven(out, sweep, AtOnce(tmp_path), said=said, steps=TRUNK + BRANCH + 1)
    assert first.trained_tokens == (TRUNK + BRANCH) * STEP
    assert "arm only: cut 1 runs: seed=0 cpt.ratio=0.5" in said
    second = AtOnce(tmp_path)
    assert driven(out, sweep, second, said=said, steps=BRANCH).trained_tokens == BRANCH * STEP
    ((*_, ends, _),) = second.commands
    assert ends == next(one.end_id for one in first.plan.segments[::-1] if one.parent is not None)
    assert csv(driven(out, sweep, second)) == csv(whole)
    assert len(second.commands) == 1


def test_a_task_that_is_lost_costs_no_more_than_the_budget(tmp_path: Path) -> None:
    engine = AtOnce(tmp_path, fail=lambda number: number == 1)
    outcome = driven(tmp_path / "out", small_sweep(), engine, steps=TRUNK + BRANCH)
    assert outcome.trained_tokens == (TRUNK + BRANCH) * STEP
    assert len(engine.commands) == 2  # an only child goes on in the task of its parent


def test_a_sweep_that_is_whole_starts_no_engine(tmp_path: Path) -> None:
    run_sweep(small_sweep(), tmp_path / "out", stack=STACK, quiet=True)

    def never() -> AtOnce:
        raise AssertionError("asked for")

    with Fleet(never, tmp_path / "out", 1, print) as fleet:
        run_sweep(small_sweep(), tmp_path / "out", stack=STACK, quiet=True, fleet=fleet)
    assert not (tmp_path / "out" / PRIVATE).exists()


def test_an_engine_gets_a_command_line_with_names_of_segments_and_no_more(
    tmp_path: Path, engine: AtOnce
) -> None:
    outcome = driven(tmp_path / "out", small_sweep(), engine)
    ends = {one.end_id for one in outcome.plan.segments}
    named: list[str] = []
    for command in engine.commands:
        start, folder = command[:4], command[4]
        assert start == [sys.executable, "-m", "sweeps.cli", "work"]
        assert folder == str(tmp_path / "out")
        assert (command[5], command[7:]) == ("--segments", ["--quiet"])
        named += command[6].split(",")
    assert sorted(named) == sorted(ends)


def test_what_engines_write_is_for_this_user_alone(tmp_path: Path, engine: AtOnce) -> None:
    before = os.umask(0)
    try:
        driven(tmp_path / "out", small_sweep(), engine)
    finally:
        os.umask(before)
    place = tmp_path / "out" / PRIVATE
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / JOBS).stat().st_mode) == 0o600


def test_tasks_that_are_lost_are_handed_over_again(tmp_path: Path, whole: Outcome) -> None:
    said: list[str] = []
    engine = AtOnce(tmp_path, fail=lambda number: number in (1, 3))
    assert csv(driven(tmp_path / "out", small_sweep(), engine, said=said)) == csv(whole)
    assert len(engine.commands) == 4
    again = [line for line in said if "handed over again" in line]
    assert again == [
        "a task ended with 1 pieces undone, handed over again: lab: no such [1mdevice",
        "a task ended with 2 pieces undone, handed over again: lab: no such [1mdevice",
    ]


def test_a_task_that_never_gets_anywhere_ends_the_driver(tmp_path: Path) -> None:
    engine = AtOnce(tmp_path, fail=lambda number: number > 1)
    with pytest.raises(Failed) as failed:
        driven(tmp_path / "out", small_sweep(), engine)
    assert str(failed.value) == (
        f"a task ended {TRIES} times and got nowhere, the last time: lab: no such [1mdevice"
    )
    assert len(engine.commands) == 1 + TRIES
    assert engine.closed == 1


def test_a_queue_is_told_who_comes_after_whom_and_no_more_than_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    queue = Queue(tmp_path)

    def pause(seconds: float, notice: object) -> None:
        raise Enough

    monkeypatch.setattr(sweeps.engines.fleet, "_pause", pause)
    sweep = small_sweep(ratios=(0.0, 0.25, 0.5, 0.75, 1.0))
    with pytest.raises(Enough):
        driven(tmp_path / "out", sweep, queue, workers=3)
    assert [one[:-1] for one in queue.commands] == [[], ["1"], ["1"]]
    assert [one[-1].count(",") for one in queue.commands] == [0, 1, 1]
    # another driver, elsewhere: three tasks are in the queue, and one more has room
    with pytest.raises(Enough):
        driven(tmp_path / "out", sweep, queue, workers=4)
    assert [one[:-1] for one in queue.commands[3:]] == [["1"]]
    # the trunk's task is gone with nothing done: it is handed over again, its children wait on
    queue.there.remove("1")
    with pytest.raises(Enough):
        driven(tmp_path / "out", sweep, queue, workers=4)
    assert queue.commands[4:] == [[queue.commands[0][-1]]]


def test_torn_and_strange_lines_of_jobs_are_passed_over(
    tmp_path: Path, whole: Outcome, engine: AtOnce
) -> None:
    place = tmp_path / "out" / PRIVATE
    driven(tmp_path / "out", small_sweep(ratios=(0.0,)), engine)
    lines = [{"engine": "at-once"}, [], {"engine": "at-once", "id": "7", "segments": 3}]
    lines += [{"engine": "at-once", "id": "8", "segments": ["../../etc"]}]
    (place / JOBS).write_text("".join(f"{json.dumps(one)}\n" for one in lines) + '{"engine": "at-')
    engine.there.add("8")
    assert csv(driven(tmp_path / "out", small_sweep(), engine)) == csv(whole)


# A worker ------------------------------------------------------------------------------------


def untrained(out: Path, sweep: Sweep) -> Plan:
    """A folder in which nothing of a sweep is trained yet."""
    plan = planned(sweep)
    digests = {name: one.digest for name, one in plan.corpora.items()}
    with (folder := Folder(out)).locked():
        folder.write(sweep, None, digests, STACK)
    return plan


def test_a_worker_trains_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = untrained(out, small_sweep(seeds=(0, 1)))
    branch = next(one for one in plan.segments if one.parent is not None)
    above = plan.segments[branch.parent or 0]
    assert join_sweep(out, [branch.end_id], quiet=True) == (TRUNK + BRANCH) * STEP
    index = Folder(out).store.load(verify_states=True)
    assert {branch.end_id, above.end_id} <= index.states.keys()
    assert len(remaining(plan, index).done) == 2
    assert join_sweep(out, [branch.end_id], quiet=True) == 0
    assert join_sweep(out, quiet=True) == (TRUNK + 3 * BRANCH) * STEP
    assert join_sweep(out, quiet=True) == 0


def test_a_worker_leaves_unfinished_attempts_of_others_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    untrained(out, small_sweep())
    attempt = out / "segments" / f"{'0' * 32}.00000000" / "attempt-being-written"
    attempt.mkdir(parents=True)
    join_sweep(out, quiet=True)
    assert attempt.exists()


def test_a_worker_refuses_what_it_cannot_know(
    tmp_path: Path, lab_command: Callable[..., tuple[int, str, str]]
) -> None:
    untrained(tmp_path / "out", small_sweep())
    before = files_below(tmp_path)
    code, _, errors = lab_command("work", "out", "--segments", "abc,def")
    assert (code, errors) == (2, "lab: the sweep has no segment 'abc'\n")
    code, _, errors = lab_command("work", "nowhere")
    assert (code, errors) == (2, "lab: nowhere holds no sweep\n")
    assert files_below(tmp_path) == before


# What it may be told -------------------------------------------------------------------------

SMOKE = ("run", "cmr", "--scale", "smoke")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (("--engine", "slurm"), "--engine slurm needs --stack"),
        (("--engine-set", "cpus=1"), "--engine-set and --workers are for --engine ray and slurm"),
        (("--workers", "2"), "--engine-set and --workers are for --engine ray and slurm"),
        (("--engine", "slurm", "--stack", "1", "--workers", "0"), "must be at least 1"),
        (("--engine", "slurm", "--stack", "1", "--engine-set", "time"), "must read KEY=VALUE"),
        (
            ("--engine", "slurm", "--stack", "1", "--engine-set", "partition=a\nrm -rf b"),
            "must read KEY=VALUE",
        ),
        (
            ("--engine", "slurm", "--stack", "1", "--engine-set", "cpus=1"),
            "slurm can be told cluster, partition",
        ),
        (
            ("--engine", "slurm", "--stack", "1", "--engine-set", "time=soon"),
            "must be a number that is not negative",
        ),
        (
            ("--engine", "slurm", "--stack", "1", "--engine-set", "cluster=debug"),
            "must be slurm or local",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_written(
    tmp_path: Path,
    lab_command: Callable[..., tuple[int, str, str]],
    told: tuple[str, ...],
    why: str,
) -> None:
    code, out, errors = lab_command(*SMOKE, *told)
    assert (code, out) == (2, "")
    assert why in errors
    assert errors.count("\n") == 1
    assert files_below(tmp_path) == {}


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_names_its_extra(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lab_command: Callable[..., tuple[int, str, str]],
    engine: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, errors = lab_command(*SMOKE, "--engine", engine, "--stack", "1")
    assert code == 2
    assert errors.startswith(f"lab: --engine {engine} needs the package {package} (")
    assert errors.endswith(f"pip install 'scaling-law-lab[{engine}]'\n")
    assert files_below(tmp_path) == {}


@pytest.mark.skipif(shutil.which("srun") is not None, reason="SLURM is installed here")
def test_a_machine_without_slurm_says_so(
    tmp_path: Path, lab_command: Callable[..., tuple[int, str, str]]
) -> None:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed (the extra slurm)")
    code, _, errors = lab_command(*SMOKE, "--engine", "slurm", "--stack", "1")
    assert code == 2
    assert errors == "lab: --engine slurm: no srun here: start the driver where sbatch works\n"
    assert files_below(tmp_path) == {}


def test_a_task_takes_what_it_was_told_else_what_the_cluster_has() -> None:
    gpus, tpus, cores = {"GPU": 8.0, "CPU": 64.0}, {"TPU": 4.0, "CPU": 8.0}, {"CPU": 8.0}
    assert needs({}, gpus, lanes=4, devices=2) == {"num_gpus": 2}
    assert needs({}, tpus, lanes=4, devices=2) == {"resources": {"TPU": 2}}
    assert needs({}, cores, lanes=4, devices=1) == {"num_cpus": 4}
    assert needs({"cpus": "3", "gpus": "0.5"}, cores, lanes=4, devices=1) == {
        "num_cpus": 3,
        "num_gpus": 0.5,
    }
    assert needs({"tpus": "4"}, gpus, lanes=4, devices=1) == {"resources": {"TPU": 4}}
