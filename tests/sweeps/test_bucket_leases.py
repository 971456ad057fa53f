"""A lease in a bucket is whose it says, until its owner is dead or its beat stands still."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sweeps.bucket_leases
import sweeps.leases
from lab.bucket import Bucket
from lab.store import Index
from sweeps.bucket_leases import BucketLeases
from sweeps.remaining import remaining
from tests.lab.bucket_here import memory_bucket, objects
from tests.sweeps.small import planned, small_sweep

PLAN = planned(small_sweep(seeds=(0, 1)))
TRUNKS = [work for work in remaining(PLAN, Index()).work if work.after is None]
Join = Callable[[], BucketLeases]


@pytest.fixture
def bucket() -> Bucket:
    return memory_bucket()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time that leases see."""
    now = [1000.0]
    monkeypatch.setattr(sweeps.bucket_leases.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def join(tmp_path: Path, bucket: Bucket) -> Iterator[Join]:
    """Another worker, on a machine of its own."""
    joined: list[BucketLeases] = []

    def one() -> BucketLeases:
        folder = tmp_path / str(len(joined))
        folder.mkdir()
        joined.append(BucketLeases(folder, PLAN, bucket))
        joined[-1].look()
        return joined[-1]

    yield one
    for each in joined:
        each.__exit__(None, None, None)


def elsewhere(one: BucketLeases) -> None:
    """Let a worker be one of another machine."""
    name = f"workers/{one.token}.json"
    note = {"owner": one.token, "pid": 1, "host": "elsewhere", "begun": "1", "beat": 1}
    one.bucket.put(name, json.dumps(note).encode())


def test_a_piece_is_one_worker_s_until_it_is_given_back(join: Join, clock: list[float]) -> None:
    ours, theirs = join(), join()
    assert ours.any_free(TRUNKS)
    assert ours.take(TRUNKS[0])
    assert theirs.take(TRUNKS[0]) is False
    assert theirs.take(TRUNKS[1])
    theirs.look()
    assert not theirs.any_free(TRUNKS)
    assert not theirs.news()
    ours.give_back(TRUNKS[0])
    clock[0] += 10
    assert theirs.news()
    # what has become of it since is not known before it is looked again
    assert theirs.take(TRUNKS[0]) is False
    theirs.look()
    assert theirs.any_free(TRUNKS)
    assert theirs.take(TRUNKS[0])


def test_of_many_that_want_a_piece_one_gets_it(join: Join) -> None:
    workers = [join() for _ in range(8)]
    assert sum(one.take(TRUNKS[0]) for one in workers) == 1


def test_a_worker_of_another_machine_is_dead_when_its_beat_stands_still(
    join: Join, clock: list[float]
) -> None:
    theirs, ours, third = join(), join(), join()
    assert theirs.take(TRUNKS[0])
    elsewhere(theirs)
    for one in (ours, third):
        one.look()
        assert not one.any_free(TRUNKS[:1])
        assert not one.news()
    clock[0] += sweeps.leases.LEASE_SECONDS - 1
    assert not ours.news()
    theirs.bucket.put(f"workers/{theirs.token}.json", b"another beat")
    clock[0] += 100
    assert not ours.news()  # seen to have moved only now
    clock[0] += sweeps.leases.LEASE_SECONDS + 1
    assert ours.news()
    assert third.news()
    ours.look()
    third.look()
    assert ours.take(TRUNKS[0])
    assert third.take(TRUNKS[0]) is False
    theirs.give_back(TRUNKS[0])  # it was alive: nobody else's lease ends by that
    third.look()
    assert not third.any_free(TRUNKS[:1])


def test_a_worker_of_this_machine_that_is_gone_is_dead_at_once(
    join: Join, clock: list[float]
) -> None:
    theirs, ours = join(), join()
    assert theirs.take(TRUNKS[0])
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    note = {"owner": theirs.token, "pid": child.pid, "host": sweeps.leases._host(), "begun": "1"}
    theirs.bucket.put(f"workers/{theirs.token}.json", json.dumps(note).encode())
    ours.look()
    assert not ours.any_free(TRUNKS[:1])
    assert ours.news()
    ours.look()
    assert ours.take(TRUNKS[0])


@pytest.mark.parametrize("content", [b"", b"../../x", b"\xff" * 9, b"0" * 17])
def test_a_lease_that_names_nobody_holds_up_nobody(
    join: Join, clock: list[float], content: bytes
) -> None:
    ours = join()
    ours.bucket.put(f"leases/{ours._name(TRUNKS[0])}.1", content)
    ours.look()
    assert not ours.any_free(TRUNKS[:1])
    assert ours.news()
    ours.look()
    assert ours.take(TRUNKS[0])


def test_the_beat_is_sent_while_training_goes_on_and_not_else(
    join: Join, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.bucket_leases, "SEND_SECONDS", 0.01)
    one = join()
    name = f"workers/{one.token}.json"

    def beat() -> int:
        return int(json.loads(objects(bucket)[name])["beat"])

    first = beat()
    one._end.wait(0.2)
    assert beat() == first
    one.beat()
    one.beat()
    for _ in range(500):
        if beat() != first:
            break
        one._end.wait(0.01)
    assert beat() == first + 2
    assert json.loads(objects(bucket)[name])["pid"] == os.getpid()
