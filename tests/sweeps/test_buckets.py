"""A sweep in a bucket: whatever becomes of machines and services, the table of one on a disk."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sweeps.place
from lab.bucket import Bucket
from sweeps.decided import decided_of
from sweeps.run import Outcome, join_sweep, run_sweep
from tests.lab.bucket_here import KEYS, URL, S3Here, memory_bucket, objects
from tests.sweeps.processes import (
    STEPS,
    disturbed_study,
    end_all,
    ended,
    start,
    steps_trained,
    tables,
    until,
    well,
)
from tests.sweeps.small import (
    STEP,
    TRUNK,
    Stopped,
    csv,
    small_sweep,
    stop_after,
    study_file,
    trained,
    use_engine,
)
from tests.sweeps.test_workers import one_save_at_a_time  # noqa: F401  # a fixture

BRANCH = 3
SWEEP = small_sweep(branch=BRANCH)
NAME = "s3=lab-tests=sweep"  # of a working copy
Machine = Callable[[str], Path]


# In one process, in memory -------------------------------------------------------------------


@pytest.fixture
def bucket() -> Bucket:
    return memory_bucket()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> Machine:
    """The working copy of a machine, made or found, as a verb would find it."""
    urls = {sweeps.place.ROOT: URL}
    monkeypatch.setattr(sweeps.place, "url_of", lambda path: urls.get(path.parent.name))
    monkeypatch.setattr(sweeps.place, "_bucket", lambda url: bucket)

    def one(name: str) -> Path:
        path = tmp_path / name / sweeps.place.ROOT / NAME
        decided = decided_of(path)
        assert decided is not None
        decided.bring_down()
        return path

    return one


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The sweep on a disk, undisturbed."""
    return trained(tmp_path_factory.mktemp("whole"), SWEEP)


@pytest.mark.parametrize("steps", range(1, TRUNK + 2 * BRANCH + 1))
def test_stopped_on_one_machine_a_sweep_goes_on_on_another(
    machine: Machine, three_steps: Outcome, steps: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            trained(machine("one"), SWEEP)
    after = trained(machine("two"), SWEEP)
    assert csv(after) == csv(three_steps)
    assert after.trained_tokens <= (TRUNK + 2 * BRANCH - steps + 4) * STEP
    assert trained(machine("three"), SWEEP).trained_tokens == 0
    assert csv(trained(machine("one"), SWEEP)) == csv(three_steps)


@pytest.mark.usefixtures("one_save_at_a_time")
def test_two_machines_at_once_train_every_step_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small_sweep(seeds=(0, 1), branch=BRANCH)
    use_engine(monkeypatch, chunk_steps=1)
    monkeypatch.setattr("sweeps.bucket_leases.NEWS_SECONDS", 0.1)
    outcomes: list[Outcome] = []
    paths = [machine(name) for name in ("one", "two")]
    threads = [
        threading.Thread(
            target=lambda path=path: outcomes.append(run_sweep(sweep, path, stack=1, quiet=True))
        )
        for path in paths
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(240)
    assert len(outcomes) == 2
    assert csv(outcomes[0]) == csv(outcomes[1])
    done = sum(one.trained_tokens for one in outcomes)
    assert done == 2 * (TRUNK + 2 * BRANCH) * STEP


def test_a_worker_joins_from_a_machine_that_has_nothing(
    machine: Machine, bucket: Bucket, three_steps: Outcome
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, TRUNK + 1)
        with pytest.raises(Stopped):
            trained(machine("one"), SWEEP)
    assert join_sweep(machine("two"), quiet=True) > 0
    assert not [one for one in objects(bucket) if one.startswith("results")]
    after = trained(machine("three"), SWEEP)
    assert after.trained_tokens == 0
    assert csv(after) == csv(three_steps)


def test_a_state_that_is_damaged_in_the_bucket_is_found_said_and_trained_again(
    machine: Machine, bucket: Bucket
) -> None:
    first = trained(machine("one"), SWEEP)
    trunk = first.plan.segments[1].start_id
    grown = small_sweep(branch=BRANCH, ratios=(0.0, 0.5, 1.0))
    arrays = [name for name in objects(bucket) if "/state/" in name and f"/{trunk}." in name]
    assert arrays
    for name in arrays:
        bucket.put(name, bytes(len(objects(bucket)[name])))
    said: list[str] = []
    after = trained(machine("two"), grown, said.append)
    assert "is damaged in s3://lab-tests/sweep" in "\n".join(said)
    assert "trained again from its parent" in "\n".join(said)
    assert after.trained_tokens == (TRUNK + BRANCH) * STEP
    assert csv(after) == csv(trained(machine("one"), grown))


# `lab` and a server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(s3_server: S3Here) -> Iterator[S3Here]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # boto's own: s3fs and the lab ask again
        yield s3_server


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


def marked(bucket: Bucket) -> int:
    return sum(one.name.endswith("/DONE.json") for one in bucket.list("segments"))


def copied(bucket: Bucket, to: Path) -> Path:
    """Every object of a prefix, as any tool would copy it."""
    for entry in bucket.list(""):
        (to / entry.name).parent.mkdir(parents=True, exist_ok=True)
        assert bucket.get_file(entry.name, to / entry.name)
    return to


def assert_no_keys(*places: Path | str) -> None:
    """No key of the environment is in a text, nor in a file below a folder."""
    for place in places:
        texts = [place.encode()] if isinstance(place, str) else _contents(place)
        for value in KEYS.values():
            assert not [text for text in texts if value.encode() in text]


def _contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_killed_outright_on_machine_after_machine_a_sweep_ends_in_the_same_bytes(
    server: S3Here, tmp_path: Path, lab_home: Path, told_json: Callable[..., Any]
) -> None:
    url = "s3://lab-tests/killed"
    bucket, study = Bucket(url), disturbed_study(tmp_path)
    homes = lab_home / "buckets"
    said = []
    for more in (1, 2, 5):
        before = marked(bucket)
        process = start(study, url, slow=0.1)
        until(lambda before=before, more=more: marked(bucket) >= before + more, process)
        process.kill()
        said += list(process.communicate())
        shutil.move(homes, tmp_path / f"gone{more}")  # the next machine has nothing
    process = start(study, url)
    code, out, errors = ended(process, 240)
    assert code == 0, errors
    assert f'"out": "{url}"' in out
    well(start(study, tmp_path / "whole"))
    whole = tables(tmp_path / "whole")
    copy = copied(bucket, tmp_path / "copy")
    assert tables(copy) == whole
    assert steps_trained(copy) == STEPS  # none was trained twice
    assert_no_keys(*said, out, errors, copy, homes, *tmp_path.glob("gone*"))

    shutil.move(homes, tmp_path / "gone")  # from a machine that has nothing
    seen = told_json("status", url)
    assert (seen["done"], seen["segments"], seen["failed"]) == (3, 3, 0)
    assert not list(homes.glob("*/segments/*/*/state"))
    told_json("results", url, "--to", str(tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == whole[0]
    (tmp_path / "calm").mkdir()
    calm = study_file(tmp_path / "calm")  # loaded here, the disturbed one would disturb the rest
    told_json("report", url, "--study", str(calm), "--to", str(tmp_path / "again.html"))
    assert told_json("work", url) == {"out": url, "trained_tokens": 0}
    shutil.rmtree(homes)


def test_two_machines_and_a_service_that_goes_away(
    server: S3Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "s3://lab-tests/away"
    bucket, study = Bucket(url), disturbed_study(tmp_path)
    processes = []
    for name in ("one", "two"):
        monkeypatch.setenv("LAB_HOME", str(tmp_path / name))
        processes.append(start(study, url, slow=0.2))
    until(lambda: marked(bucket) >= 2, *processes, seconds=240)
    server.stop()
    time.sleep(8)
    server.start()
    ends = [ended(one, 240) for one in processes]
    for code, _, errors in ends:
        assert code == 0, errors
    assert "does not answer, asking again" in ends[0][2] + ends[1][2]
    assert f"lab: {url} answers again" in ends[0][2] + ends[1][2]
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "three"))
    well(start(study, tmp_path / "whole"))
    copy = copied(bucket, tmp_path / "copy")
    assert tables(copy) == tables(tmp_path / "whole")
    assert steps_trained(copy) == STEPS
    assert_no_keys(*(text for _, *texts in ends for text in texts), copy, tmp_path / "one")


# Refusals ------------------------------------------------------------------------------------

Lab = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (("gc", URL), "lab: lab gc takes folders and files, no bucket\n"),
        (("merge", "here", URL), "lab: lab merge takes folders and files, no bucket\n"),
        (("results", "x", "--to", f"{URL}.csv"), "lab: --to takes folders and files, no bucket\n"),
        (("status", "s3://me:secret@lab-tests/a"),
         "lab: s3://***@lab-tests/a: must read s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, its parts "
         "of letters, digits, dots, - and _, 200 characters at most\n"),
    ],
)  # fmt: skip
def test_what_no_bucket_can_do_is_refused(lab_command: Lab, told: Any, line: str) -> None:
    assert lab_command(*told) == (2, "", line)
    assert os.listdir() == []


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"),
                                                          ("gs", "gcsfs", "gcs")])  # fmt: skip
def test_a_missing_package_is_one_line(
    lab_command: Lab, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
) -> None:
    from etils.epath.backend import fsspec_backend

    def missing(url: str) -> Any:
        raise ImportError(f"Install {package}")

    monkeypatch.setattr(fsspec_backend, "fs", missing)
    code, out, errors = lab_command("status", f"{scheme}://lab-missing/{package}")
    assert (code, out) == (2, "")
    assert errors == (
        f"lab: {scheme}:// needs the package {package}: pip install 'scaling-law-lab[{extra}]'\n"
    )


def test_a_sweep_goes_into_no_bucket_that_is_not_there(
    server: S3Here, lab_command: Lab, tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    code, _, errors = lab_command("run", study, "--out", "s3://lab-nowhere/a")
    assert code == 2
    assert errors == "lab: s3://lab-nowhere/a: The specified bucket does not exist\n"
    code, _, errors = lab_command("status", "s3://lab-nowhere/a")
    assert (code, errors) == (2, "lab: s3://lab-nowhere/a: The specified bucket does not exist\n")
    told = ("--out", "s3://lab-tests/nothing")
    assert lab_command("plan", study, *told, "--budget-flops", "1e12")[0] == 0
    code, _, errors = lab_command("status", "s3://lab-tests/nothing")
    assert (code, errors) == (2, "lab: s3://lab-tests/nothing holds no sweep\n")


def test_another_sweep_in_the_bucket_is_refused(
    server: S3Here, lab_command: Lab, tmp_path: Path
) -> None:
    bucket = Bucket("s3://lab-tests/other")
    bucket.put("decided/sweep.json.000001", b"{}")
    code, _, errors = lab_command("run", study_file(tmp_path), "--out", bucket.url)
    assert code == 2
    assert errors.count("\n") == 1
    assert [one.name for one in bucket.list("")] == ["decided/sweep.json.000001"]
