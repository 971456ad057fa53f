"""Several processes train one sweep: each piece once, the same bits, whatever becomes of one."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sweeps.presence
import sweeps.run
from lab import checkpoint
from lab.errors import Failed, Refused
from lab.store import Store
from sweeps.folder import Folder
from sweeps.progress import Display
from sweeps.results import step_table
from sweeps.run import Outcome, run_sweep
from sweeps.sweep import Sweep
from tests.sweeps.processes import (
    BRANCH,
    STEPS,
    disturbed_study,
    end_all,
    ended,
    markers,
    start,
    tables,
    until,
    well,
)
from tests.sweeps.small import STEP, TRUNK, csv, files_below, small_sweep, use_engine

SHORT = 3  # steps of a branch
ONE_TRUNK = small_sweep(branch=SHORT)
TWO_TRUNKS = small_sweep(seeds=(0, 1), branch=SHORT)


def steps_of(sweep: Sweep) -> int:
    (arm,) = sweep.arms.values()
    return len(arm.axes["seed"]) * (TRUNK + len(arm.axes["cpt.ratio"]) * SHORT)


def alone(out: Path, sweep: Sweep) -> Outcome:
    return run_sweep(sweep, out, stack=1, quiet=True)


@pytest.fixture
def one_save_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """orbax numbers the saves of a process as if one came after another: in threads they mix."""
    save, lock = checkpoint.save, threading.Lock()

    def locked(folder: Path, state: Any) -> None:
        with lock:
            save(folder, state)

    monkeypatch.setattr(checkpoint, "save", locked)


def together(out: Path, sweep: Sweep, count: int = 2) -> list[Outcome]:
    """What engines in threads make of one folder; use `one_save_at_a_time` with it."""
    outcomes: list[Outcome] = []
    wrong: list[BaseException] = []

    def train() -> None:
        try:
            outcomes.append(alone(out, sweep))
        except BaseException as error:  # noqa: BLE001  # raised below
            wrong.append(error)

    threads = [threading.Thread(target=train) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert not wrong, wrong
    assert len(outcomes) == count
    return outcomes


def meet_at_the_first_piece(patch: pytest.MonkeyPatch, count: int) -> None:
    """No engine trains its first piece before each of them has one."""
    barrier, came = threading.Barrier(count, timeout=60), threading.local()

    class Meeting(Display):
        def started(self, work: Any) -> None:
            if not hasattr(came, "already"):
                came.already = True
                barrier.wait()
            super().started(work)

    patch.setattr(sweeps.run, "Display", Meeting)


# In one process ------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_save_at_a_time")
@pytest.mark.parametrize("commit_seconds", [0.0, 300.0])
@pytest.mark.parametrize("sweep", [ONE_TRUNK, TWO_TRUNKS], ids=["one trunk", "two trunks"])
def test_two_engines_train_every_step_once_and_have_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: Sweep, commit_seconds: float
) -> None:
    whole = alone(tmp_path / "whole", sweep)
    use_engine(monkeypatch, chunk_steps=1, commit_seconds=commit_seconds)
    if sweep is TWO_TRUNKS:
        meet_at_the_first_piece(monkeypatch, 2)
    first, second = together(tmp_path / "both", sweep)
    assert csv(first) == csv(second) == csv(whole)
    assert first.trained_tokens + second.trained_tokens == steps_of(sweep) * STEP
    if sweep is TWO_TRUNKS:
        assert min(first.trained_tokens, second.trained_tokens) > 0
    store = Store(tmp_path / "both")
    logs = store.load(verify_states=True).step_logs
    assert sum(record.end_step - record.start_step for record, _ in logs) == steps_of(sweep)
    assert store.losing_attempts() == []
    for outcome in (first, second):
        log = step_table(outcome.plan, outcome.index, store)
        assert log.equals(step_table(whole.plan, whole.index, Store(tmp_path / "whole")))


@pytest.mark.usefixtures("one_save_at_a_time")
def test_four_engines_on_one_trunk_wait_and_share_its_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small_sweep(ratios=(0.0, 0.25, 0.5, 0.75), branch=SHORT)
    whole = alone(tmp_path / "whole", sweep)
    use_engine(monkeypatch, chunk_steps=1)
    outcomes = together(tmp_path / "four", sweep, 4)
    assert {csv(one) for one in outcomes} == {csv(whole)}
    assert sum(one.trained_tokens for one in outcomes) == steps_of(sweep) * STEP


@pytest.mark.usefixtures("one_save_at_a_time")
def test_a_branch_that_diverges_is_trained_by_one_and_settled_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small_sweep(seeds=(0, 1), ratios=(0.5,), branch=SHORT, cpt__peak_lr=(1e30, 5e-3))
    whole = alone(tmp_path / "whole", sweep)
    use_engine(monkeypatch, chunk_steps=1)
    meet_at_the_first_piece(monkeypatch, 2)
    first, second = together(tmp_path / "both", sweep)
    assert csv(first) == csv(second) == csv(whole)
    assert first.trained_tokens + second.trained_tokens == whole.trained_tokens


def test_a_state_that_another_has_gone_on_from_and_removed_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(tmp_path, small_sweep(ratios=(0.0,), branch=SHORT))
    load = Store.load

    def load_and_drop(self: Store, verify_states: bool = False, set_aside: bool = True) -> Any:
        index = load(self, verify_states, set_aside)
        monkeypatch.setattr(Store, "load", load)  # once
        for one in index.held:
            self.drop_state(one.place)
        return index

    monkeypatch.setattr(Store, "load", load_and_drop)
    said: list[str] = []
    outcome = run_sweep(ONE_TRUNK, tmp_path, stack=1, quiet=True, say=said.append)
    assert said == []  # nothing was damaged
    monkeypatch.undo()
    assert csv(outcome) == csv(alone(tmp_path / "whole", ONE_TRUNK))


# Who may come in -----------------------------------------------------------------------------


@contextlib.contextmanager
def somebody_in(out: Path) -> Iterator[None]:
    with Folder(out).entered() as here:
        assert here.alone
        here.share()
        yield


@pytest.mark.parametrize(
    ("sweep", "stack", "settings", "why"),
    [
        (TWO_TRUNKS, 1, None, "this is another sweep, or one that has grown"),
        (ONE_TRUNK, 2, None, "this is another stack or mesh (there are 1 lanes)"),
        (ONE_TRUNK, 1, {"eps": 1}, "this is other settings"),
    ],
)
def test_who_asks_for_something_else_is_refused_while_others_train(
    tmp_path: Path, sweep: Sweep, stack: int, settings: Any, why: str
) -> None:
    alone(tmp_path, ONE_TRUNK)
    before = files_below(tmp_path)
    with somebody_in(tmp_path):
        with pytest.raises(Refused) as refused:
            run_sweep(sweep, tmp_path, settings, stack, quiet=True)
        with pytest.raises(Refused, match="another process is training into"):
            Folder(tmp_path).refuse_busy()
        with pytest.raises(Refused), Folder(tmp_path).locked():
            pass
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert files_below(tmp_path) == before
    run_sweep(sweep, tmp_path, settings, stack, quiet=True)  # once they are gone


def test_who_comes_to_others_leaves_their_unfinished_attempts_alone(tmp_path: Path) -> None:
    alone(tmp_path, small_sweep(ratios=(0.0,), branch=SHORT))
    attempt = next((tmp_path / "segments").glob("*")) / "attempt-being-written"
    attempt.mkdir()
    with somebody_in(tmp_path):
        alone(tmp_path, small_sweep(ratios=(0.0,), branch=SHORT))
        assert attempt.exists()
    alone(tmp_path, small_sweep(ratios=(0.0,), branch=SHORT))
    assert not attempt.exists()


def test_the_lock_of_a_process_that_was_killed_holds_nobody_back(tmp_path: Path) -> None:
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
    code += " print('held', flush=True); time.sleep(100)"
    lock = tmp_path / sweeps.presence.LOCK_FILE
    with subprocess.Popen(["python3", "-c", code, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Refused):
            Folder(tmp_path).refuse_busy()
        holder.kill()
    assert lock.exists()
    with Folder(tmp_path).entered() as here:
        assert here.alone


def test_a_disk_that_damages_everything_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Store.load

    def load_damaged(self: Store, verify_states: bool = False, set_aside: bool = True) -> Any:
        for file in self.folder.glob("*/attempt-*/record.json"):
            file.write_text("{")
        return load(self, verify_states, set_aside)

    monkeypatch.setattr(Store, "load", load_damaged)
    monkeypatch.setattr(sweeps.run, "REBUILDS", 2)
    with pytest.raises(Failed, match="keep being damaged: check that disk"):
        alone(tmp_path, small_sweep(ratios=(0.0,), branch=SHORT))


# Processes that are disturbed ----------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disturbed_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The results of one process that was left alone."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert well(start(study, out))["trained_tokens"] == STEPS * STEP
    return tables(out)


def test_two_processes_whose_clocks_jump_train_every_step_once(
    tmp_path: Path, study: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    # leases that a wall clock would call stale at once, or never
    told = {"slow": 0.02, "lease": 30, "jump": 1}
    both = [start(study, tmp_path / "out", **told) for _ in range(2)]
    values = [well(one) for one in both]
    assert sum(one["trained_tokens"] for one in values) == STEPS * STEP
    assert tables(tmp_path / "out") == undisturbed
    logs = Store(tmp_path / "out").load(verify_states=True).step_logs
    assert sum(record.end_step - record.start_step for record, _ in logs) == STEPS


def test_one_of_two_is_killed_and_the_other_finishes_at_once(
    tmp_path: Path, study: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    out = tmp_path / "out"
    doomed = start(study, out, slow=0.1)
    until(lambda: markers(out) >= 3, doomed)  # in the middle of a branch
    other = start(study, out)
    until(lambda: len(list(out.glob(".leases/*.worker"))) == 2, doomed, other)
    doomed.send_signal(signal.SIGKILL)
    # not reaped yet: its pid is there, and a lease of 600 s would outlast the test
    value = well(other)
    assert ended(doomed)[0] == -signal.SIGKILL
    assert 0 < value["trained_tokens"] < STEPS * STEP
    assert tables(out) == undisturbed


def test_a_stopped_process_loses_its_pieces_and_wakes_up_to_the_same_table(
    tmp_path: Path, study: Path, undisturbed: tuple[bytes, bytes]
) -> None:
    out = tmp_path / "out"
    asleep = start(study, out, slow=0.1)
    until(lambda: markers(out) >= 3, asleep)
    asleep.send_signal(signal.SIGSTOP)
    try:
        value = well(start(study, out, lease=1.5))
        assert value["trained_tokens"] >= BRANCH * STEP  # the other branch at least
        assert tables(out) == undisturbed
    finally:
        asleep.send_signal(signal.SIGCONT)
    well(asleep)
    assert tables(out) == undisturbed
    assert Store(out).load(verify_states=True).broken == []
    assert well(start(study, out))["trained_tokens"] == 0
