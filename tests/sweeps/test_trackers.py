"""Trackers are views: they work, fail, hang or are not there, and the results are the same bytes.

The packages are not needed: modules of the same names stand in for them, with the calls that ours
makes of them.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

import sweeps.trackers
from lab.errors import Refused
from lab.store import Index, StepRow
from sweeps.cli import parser
from sweeps.plan import Plan
from sweeps.remaining import Work, remaining
from sweeps.run import Outcome, run_sweep
from sweeps.trackers import PACKAGES, Tracker, read_names, segment_label
from tests.sweeps.small import BRANCH, STACK, STEP, TRUNK, csv, planned, small_sweep, study_file

Lab = Callable[..., tuple[int, str, str]]
STEPS = TRUNK + 2 * BRANCH


class Writer:
    """Stands for tensorboardX.SummaryWriter."""

    made: ClassVar[list["Writer"]] = []
    raises: Exception | None = None
    waits: threading.Event | None = None

    def __init__(self, logdir: str, flush_secs: int) -> None:
        self.logdir, self.flush_secs, self.closed = logdir, flush_secs, False
        self.scalars: list[tuple[str, float, int]] = []
        type(self).made.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        if self.raises is not None:
            raise self.raises
        if self.waits is not None:
            self.waits.wait()
        self.scalars.append((tag, scalar_value, global_step))

    def close(self) -> None:
        self.closed = True


class Run:
    """Stands for a W&B run; as there, a step that falls is refused."""

    def __init__(self, **told: Any) -> None:
        self.told, self.rows, self.finished = told, {}, False  # type: ignore[var-annotated]

    def log(self, data: dict[str, float], step: int) -> None:
        assert step >= max(self.rows, default=0)
        self.rows.setdefault(step, {}).update(data)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    """tensorboardX, as it should be."""
    kind = type("FreshWriter", (Writer,), {"made": []})
    module = ModuleType("tensorboardX")
    module.SummaryWriter = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    return kind


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """wandb, as it should be; the runs it made."""
    runs: list[Run] = []

    def init(**told: Any) -> Run:
        runs.append(Run(**told))
        return runs[-1]

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(small_sweep())


def tracked(out: Path, *names: str) -> tuple[Outcome, list[str]]:
    """The small sweep, trained with trackers, and what was said."""
    said: list[str] = []
    return run_sweep(
        small_sweep(), out, stack=STACK, quiet=True, say=said.append, track=names
    ), said


def rows(first: int, stop: int) -> list[StepRow]:
    return [StepRow(k, 5.0, 1e-2, 1.0, (k + 1) * STEP) for k in range(first, stop)]


# They work -----------------------------------------------------------------------------------


def test_tensorboard_is_shown_every_step_and_evaluation(
    tensorboard: type[Writer], whole: Outcome, tmp_path: Path
) -> None:
    outcome, said = tracked(tmp_path / "out", "tensorboard")
    assert csv(outcome) == csv(whole)
    assert said == []
    assert len(tensorboard.made) == len(outcome.plan.segments)
    assert all(one.closed for one in tensorboard.made)
    shown = [row for one in tensorboard.made for row in one.scalars]
    assert sum(tag == "train/loss_nats" for tag, _, _ in shown) == STEPS
    results = outcome.results.drop_duplicates(["segment", "step", "corpus"])
    evaluated = {
        (f"{row.corpus}/loss_nats", row.loss_nats, row.step) for row in results.itertuples()
    }
    assert {row for row in shown if row[0].endswith("/loss_nats")} >= evaluated
    places = sorted(Path(one.logdir).relative_to(tmp_path / "out") for one in tensorboard.made)
    assert [str(one) for one in places] == [
        "tensorboard/0000 only seed=0",
        "tensorboard/0001 only seed=0 cpt.ratio=0.0",
        "tensorboard/0002 only seed=0 cpt.ratio=0.5",
    ]


def test_wandb_has_a_run_a_segment_whose_steps_never_fall(
    wandb: list[Run], whole: Outcome, tmp_path: Path
) -> None:
    outcome, said = tracked(tmp_path / "out", "wandb")
    assert csv(outcome) == csv(whole)
    assert said == []
    assert all(one.finished for one in wandb)
    assert sum("train/loss_nats" in row for one in wandb for row in one.rows.values()) == STEPS
    trunk = next(one for one in wandb if one.told["name"].startswith("0000"))
    assert trunk.told["project"] == "small"
    assert trunk.told["group"] == "out"
    assert trunk.told["reinit"] == "create_new"
    assert trunk.told["config"] == {
        "segment": outcome.plan.segments[0].end_id[:12],
        "arms": ["only"],
        "from_step": 0,
        "to_step": TRUNK,
        "runs": 2,
        "seed": 0,
    }


def test_both_at_once_and_a_second_run_that_trains_nothing(
    tensorboard: type[Writer], wandb: list[Run], tmp_path: Path
) -> None:
    tracked(tmp_path / "out", "tensorboard", "wandb")
    assert len(tensorboard.made) == len(wandb) == 3
    tracked(tmp_path / "out", "tensorboard", "wandb")
    assert len(tensorboard.made) == len(wandb) == 3


# They fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a\nb")])
def test_one_that_raises_is_named_once_and_switched_off(
    tensorboard: type[Writer], wandb: list[Run], whole: Outcome, tmp_path: Path, error: Exception
) -> None:
    tensorboard.raises = error
    outcome, said = tracked(tmp_path / "out", "tensorboard", "wandb")
    assert csv(outcome) == csv(whole)
    assert said == [f"tracker tensorboard is switched off: {str(error).splitlines()[0]}"]
    assert sum(len(one.rows) for one in wandb) >= STEPS  # the other goes on


def test_one_that_cannot_begin_is_switched_off(
    wandb: list[Run], whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(**_: Any) -> Run:
        raise ConnectionError

    monkeypatch.setattr(sys.modules["wandb"], "init", no_network)
    outcome, said = tracked(tmp_path / "out", "wandb")
    assert csv(outcome) == csv(whole)
    assert said == ["tracker wandb is switched off: ConnectionError"]


def test_one_that_hangs_is_left_behind(
    tensorboard: type[Writer], whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.trackers, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(sweeps.trackers, "QUEUED", 8)
    tensorboard.waits = threading.Event()
    try:
        outcome, said = tracked(tmp_path / "out", "tensorboard")
    finally:
        tensorboard.waits.set()
    assert csv(outcome) == csv(whole)
    assert said[:2] == [
        "tracker tensorboard is slower than training: it misses rows from now on",
        "tracker tensorboard did not end within 0.2 s and is left behind",
    ]
    assert said[2].startswith("tracker tensorboard misses ")
    assert len(said) == 3


def test_who_trains_never_waits_for_it(
    plan: Plan, tensorboard: type[Writer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that takes its time: more rows than the queue holds are put in at once."""
    monkeypatch.setattr(sweeps.trackers, "QUEUED", 100)
    tensorboard.waits = threading.Event()
    said: list[str] = []
    open_ = sweeps.trackers._opener("tensorboard", plan, tmp_path)
    tracker = Tracker("tensorboard", open_, plan, said.append)
    work = remaining(plan, Index()).work[0]
    begun = time.monotonic()
    tracker.logged(work, rows(0, 1000))
    assert time.monotonic() - begun < 5.0
    assert said == ["tracker tensorboard is slower than training: it misses rows from now on"]
    tensorboard.waits.set()
    tracker.hand_over()
    tracker.close(time.monotonic() + 60)
    (writer,) = tensorboard.made
    shown = sum(tag == "train/loss_nats" for tag, _, _ in writer.scalars)
    assert 100 <= shown <= 101  # what the queue held, and what the thread had in hand
    assert said[1:] == [f"tracker tensorboard misses {1000 - shown} values; the results have them"]
    assert writer.closed


def test_two_pieces_of_one_segment_share_its_curve(
    plan: Plan, tensorboard: type[Writer], tmp_path: Path
) -> None:
    open_ = sweeps.trackers._opener("tensorboard", plan, tmp_path)
    said: list[str] = []
    tracker = Tracker("tensorboard", open_, plan, said.append)
    first, second = Work(0, 0, 2, []), Work(0, 2, 4, [])
    tracker.started(first)
    tracker.started(second)
    tracker.logged(first, rows(0, 2))
    tracker.finished(first, None)
    tracker.logged(second, rows(2, 4))  # after the first piece closed it
    tracker.finished(second, None)
    tracker.hand_over()
    tracker.close(time.monotonic() + 60)
    assert said == []
    assert len({one.logdir for one in tensorboard.made}) == 1
    shown = [step for one in tensorboard.made for _, _, step in one.scalars]
    assert sorted(set(shown)) == [0, 1, 2, 3]


# The command ---------------------------------------------------------------------------------


def test_run_with_trackers_writes_the_same_results(
    lab_command: Lab, tensorboard: type[Writer], tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    common = ["--stack", "2", "--quiet"]
    assert lab_command("run", study, "--out", "plain", *common)[0] == 0
    tensorboard.raises = RuntimeError("no network")
    code, _, err = lab_command("run", study, "--out", "seen", *common, "--track", "tensorboard")
    assert code == 0
    assert err == "lab: tracker tensorboard is switched off: no network\n"
    for name in ("results.csv", "results.parquet"):
        assert Path("seen", name).read_bytes() == Path("plain", name).read_bytes()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_one_line_before_anything_begins(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)  # an import of it fails
    told = ["run", study_file(tmp_path), "--out", "out", "--track", name]
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"lab: --track {name} needs the package {PACKAGES[name]}")
    assert f"pip install 'scaling-law-lab[{name}]'" in err
    assert not Path("out").exists()
    with pytest.raises(Refused):
        read_names(name)


@pytest.mark.parametrize("told", ["mlflow", "tensorboard,mlflow", "", "tensorboard,"])
def test_an_unknown_tracker_is_one_line(lab_command: Lab, tmp_path: Path, told: str) -> None:
    code, out, err = lab_command("run", study_file(tmp_path), "--out", "out", "--track", told)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "tensorboard" in err
    assert "wandb" in err
    assert not Path("out").exists()


def test_the_names_are_there_to_be_completed() -> None:
    """A completion of the shell asks the parser for an option's choices."""
    verbs = next(one for one in parser()._actions if one.dest == "verb")
    assert verbs.choices is not None
    run = verbs.choices["run"]  # type: ignore[call-overload]
    (track,) = [one for one in run._actions if one.dest == "track"]
    assert list(track.choices) == list(PACKAGES)
    assert run.parse_args(["cmr", "--track", "wandb,tensorboard"]).track == "wandb,tensorboard"


def test_trackers_named_twice_are_one(tensorboard: type[Writer], wandb: list[Run]) -> None:
    assert read_names("wandb,tensorboard,wandb") == ("wandb", "tensorboard")
    assert read_names(None) == ()


@pytest.mark.parametrize(
    ("arms", "common", "label"),
    [
        (["w64"], {"seed": 0, "cpt.ratio": 0.25}, "0007 w64 seed=0 cpt.ratio=0.25"),
        (["../../etc/passwd"], {}, "0007 .._.._etc_passwd"),
        (["a", "b"], {"x": ("q/r", 1)}, "0007 a+b x=__q_r__ 1_"),
        (["a" * 500], {}, "0007 " + "a" * 115),
    ],
)
def test_a_curves_name_is_a_safe_file_name(
    arms: list[str], common: dict[str, Any], label: str
) -> None:
    assert segment_label(7, arms, common) == label
    assert Path(label).name == label
