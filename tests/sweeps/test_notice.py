"""Asked to stop, a process saves every lane and says "run again"; one that hangs ends itself."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sweeps.run
from lab.store import StepRow
from lab.train import Trainer
from sweeps.cli import main
from sweeps.folder import Folder
from sweeps.leases import Leases
from sweeps.notice import EXIT_AGAIN, Preempted, notices
from sweeps.progress import Display
from sweeps.remaining import Work, remaining
from sweeps.run import Outcome
from sweeps.watchdog import Watchdog
from tests.sweeps.processes import (
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
from tests.sweeps.small import (
    BRANCH,
    STEP,
    TRUNK,
    csv,
    small_sweep,
    study_file,
    trained,
    use_engine,
)

ALL = TRUNK + 2 * BRANCH  # steps of the small sweep


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    inherited = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    signal.signal(signal.SIGINT, inherited)
    end_all()


def send_after(patch: pytest.MonkeyPatch, calls: int, number: signal.Signals) -> None:
    """A signal at a given call of the watcher's `logged`."""

    class Signalling(Display):
        left = calls

        def logged(self, work: Work, rows: list[StepRow]) -> None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), number)
            super().logged(work, rows)

    patch.setattr(sweeps.run, "Display", Signalling)


def steps_committed(out: Path) -> int:
    logs = Folder(out).store.load(verify_states=True).step_logs
    return sum(record.end_step - record.start_step for record, _ in logs)


# In this process -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize("at", [1, 3, 5, 9, ALL])
def test_what_was_trained_is_saved_and_the_next_run_ends_in_the_same_bits(
    tmp_path: Path, whole: Outcome, number: signal.Signals, raised: type, at: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1)  # and no part is committed but for the notice
        send_after(patch, at, number)
        with pytest.raises(raised):
            trained(tmp_path, small_sweep())
    saved = steps_committed(tmp_path)
    assert saved >= at  # every step that was read, and what was in flight behind it
    assert list((tmp_path / ".leases").glob("*.*")) == []  # all were given back
    after = trained(tmp_path, small_sweep())
    assert csv(after) == csv(whole)
    assert after.trained_tokens == (ALL - saved) * STEP  # not a step twice


def test_stopped_at_every_dispatch_a_sweep_still_ends(tmp_path: Path, whole: Outcome) -> None:
    stops = 0
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=2)
        send_after(patch, 1, signal.SIGTERM)
        for _ in range(ALL):
            try:
                outcome = trained(tmp_path, small_sweep())
                break
            except Preempted:
                stops += 1
    assert stops >= ALL / 4  # two lanes of two steps
    assert csv(outcome) == csv(whole)
    assert steps_committed(tmp_path) == ALL


def test_a_notice_while_the_program_is_compiled_is_obeyed_after_its_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Outcome
) -> None:
    train, calls = Trainer.train, []

    def notified(self: Trainer, *told: Any) -> Any:
        if not calls:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(1)
        return train(self, *told)

    monkeypatch.setattr(Trainer, "train", notified)
    with pytest.raises(Preempted):
        trained(tmp_path, small_sweep())
    assert len(calls) == 1
    assert steps_committed(tmp_path) > 0
    assert csv(trained(tmp_path, small_sweep())) == csv(whole)


def test_a_notice_while_others_are_waited_for_ends_the_wait(tmp_path: Path, whole: Outcome) -> None:
    trained(tmp_path, small_sweep(ratios=(0.0,)))
    folder = Folder(tmp_path)
    plan = whole.plan
    held = folder.held()
    assert held is not None
    digests = {name: corpus.digest for name, corpus in plan.corpora.items()}
    folder.write(small_sweep(), None, digests, held.stack)
    said: list[str] = []
    with folder.entered() as here:
        here.share()
        with Leases(tmp_path, plan) as leases:
            for work in remaining(plan, folder.store.load()).work:
                assert leases.take(work)
            timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
            timer.start()
            with pytest.raises(Preempted):
                trained(tmp_path, small_sweep(), said.append)
            timer.join()
            assert leases.take(work) is False  # it is ours still
    assert said == ["what is left is being trained by other processes: waiting for them"]
    assert csv(trained(tmp_path, small_sweep())) == csv(whole)


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, EXIT_AGAIN, "lab: stopped by SIGTERM; what was trained is saved, run aga"),
        (signal.SIGINT, 130, "lab: stopped; what was committed stays, run again to go on"),
    ],
)
def test_the_command_says_one_line_and_its_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
    line: str,
) -> None:
    told = ["run", str(study_file(tmp_path)), "--out", str(tmp_path / "out"), "--quiet"]
    with monkeypatch.context() as patch:
        use_engine(patch, chunk_steps=1)
        send_after(patch, 3, number)
        assert main(told) == code
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith(line)
    # Ctrl-C is answered at once: else people press it again
    assert len(lines) == (2 if number == signal.SIGINT else 1)
    assert main(told) == 0


def test_signals_are_taken_in_the_main_thread_alone_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with notices() as notice:
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.given()
        with pytest.raises(Preempted):
            notice.obey()
    assert signal.getsignal(signal.SIGTERM) == before
    seen: list[Any] = []

    def elsewhere() -> None:
        with notices() as notice:
            seen.append((notice.given(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_what_a_process_ignores_it_goes_on_to_ignore() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with notices() as notice:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not notice.given()
    finally:
        signal.signal(signal.SIGTERM, before)


# Processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disturbed_study(tmp_path_factory.mktemp("study"))


def lanes_running(out: Path) -> Callable[[], bool]:
    return lambda: markers(out) >= 3


def test_of_two_one_is_preempted_and_the_other_goes_on_from_where_it_was(
    tmp_path: Path, study: Path
) -> None:
    out = tmp_path / "out"
    first = start(study, out, slow=0.1)
    until(lanes_running(out), first)
    second = start(study, out, slow=0.02)
    until(lambda: len(list(out.glob(".leases/*.worker"))) == 2, first, second)
    first.send_signal(signal.SIGTERM)
    code, _, errors = ended(first)
    assert (code, errors.count("\n")) == (EXIT_AGAIN, 1), errors
    value = well(second)
    assert steps_committed(out) == STEPS  # no step twice
    assert 0 < value["trained_tokens"] < STEPS * STEP
    well(start(study, tmp_path / "whole"))
    assert tables(out) == tables(tmp_path / "whole")


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, study: Path) -> None:
    out = tmp_path / "out"
    process = start(study, out, slow=2.0)
    until(lambda: len(list(out.glob(".leases/*.????????"))) > 0, process)
    time.sleep(0.5)  # into the first chunk's two seconds
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "Ctrl-C again stops at once" in process.stderr.readline()
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == -signal.SIGINT  # which a shell shows as 130
    assert time.monotonic() - begun < 1.0
    value = well(start(study, out))
    assert value["trained_tokens"] > 0


def test_a_process_that_hangs_alone_ends_itself_with_a_line(tmp_path: Path, study: Path) -> None:
    out = tmp_path / "out"
    code, _, errors = ended(start(study, out, hangs=1, hang=2))
    assert code == EXIT_AGAIN
    assert errors.splitlines()[-1].startswith("lab: nothing has finished for 2 s: the device hangs")
    assert well(start(study, out))["trained_tokens"] == STEPS * STEP


def test_a_watchdog_counts_from_the_last_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(sweeps.watchdog, "HANG_SECONDS", 0.6)
    monkeypatch.setattr(sweeps.watchdog.os, "_exit", ends.append)
    monkeypatch.setattr(sweeps.watchdog.os, "write", lambda handle, text: len(text))
    with Watchdog() as dog:
        for _ in range(15):
            time.sleep(0.1)
            dog.beat()
        assert ends == []
        time.sleep(2.0)
    assert EXIT_AGAIN in ends
