"""What a sweep in a bucket is, and what its rounds decided, is put once and stands."""

from pathlib import Path

import pytest

from lab.bucket import Bucket
from lab.errors import Failed, Refused
from sweeps.decided import Decided
from tests.lab.bucket_here import memory_bucket, objects


@pytest.fixture
def bucket() -> Bucket:
    return memory_bucket()


def machine(tmp_path: Path, name: str, bucket: Bucket) -> Decided:
    (tmp_path / name).mkdir()
    return Decided(tmp_path / name, bucket)


def test_what_one_machine_decides_another_takes_over(tmp_path: Path, bucket: Bucket) -> None:
    one, two = machine(tmp_path, "one", bucket), machine(tmp_path, "two", bucket)
    one.bring_down()
    (one.path / "sweep.json").write_text("first")
    (one.path / "rounds.jsonl").write_text("1\n2\n")
    one.bring_up()
    two.bring_down()
    assert (two.path / "sweep.json").read_text() == "first"
    assert (two.path / "rounds.jsonl").read_text() == "1\n2\n"
    (two.path / "sweep.json").write_text("grown")
    (two.path / "foretold.jsonl").write_text("so\n")
    two.bring_up()
    one.bring_up()  # still at the first: it says nothing
    assert (one.path / "sweep.json").read_text() == "first"
    one.bring_down()
    assert (one.path / "sweep.json").read_text() == "grown"
    assert (one.path / "foretold.jsonl").read_text() == "so\n"
    assert objects(bucket) == {
        "decided/foretold.jsonl.000001": b"so\n",
        "decided/rounds.jsonl.000001": b"1\n",
        "decided/rounds.jsonl.000002": b"2\n",
        "decided/sweep.json.000001": b"first",
        "decided/sweep.json.000002": b"grown",
    }


def test_of_two_that_begin_or_grow_at_once_the_first_stands(tmp_path: Path, bucket: Bucket) -> None:
    one, two = machine(tmp_path, "one", bucket), machine(tmp_path, "two", bucket)
    for text in ("begun", "grown"):
        one.bring_down()
        two.bring_down()
        (one.path / "sweep.json").write_text(text)
        (two.path / "sweep.json").write_text(f"{text} otherwise")
        one.bring_up()
        with pytest.raises(Refused, match="was begun or has grown elsewhere meanwhile"):
            two.bring_up()
        assert (two.path / "sweep.json").read_text() == text
        two.bring_up()
    for each in (one, two):
        each.bring_down()
        (each.path / "sweep.json").write_text("the same")
        each.bring_up()
    assert len(objects(bucket)) == 3


def test_a_round_that_another_has_decided_stands(tmp_path: Path, bucket: Bucket) -> None:
    one, two = machine(tmp_path, "one", bucket), machine(tmp_path, "two", bucket)
    (one.path / "rounds.jsonl").write_text("a\nb\n")
    (two.path / "rounds.jsonl").write_text("a\n")
    two.bring_up()
    one.bring_up()
    (two.path / "rounds.jsonl").write_text("a\nB\nC\n")
    bucket.delete("decided/rounds.jsonl.000002")
    numbers = two._numbers()
    one.bring_up()
    two._numbers = lambda: numbers  # type: ignore[method-assign]  # it looked before the other put
    said: list[str] = []
    bucket.say = said.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two, "bring_down", lambda: Decided(two.path, bucket).bring_down())
        two.bring_up()
    assert said == ["rounds.jsonl: line 2 was decided elsewhere, and stands"]
    assert (two.path / "rounds.jsonl").read_text() == "a\nb\n"


def test_what_is_no_decision_is_not_read(tmp_path: Path, bucket: Bucket) -> None:
    one = machine(tmp_path, "one", bucket)
    bucket.put("decided/sweep.json.1", b"x")
    bucket.put("decided/evil.jsonl.000001", b"x")
    bucket.put("decided/sweep.json.000001x", b"x")
    one.bring_down()
    assert list(one.path.iterdir()) == []


def test_a_decision_that_is_missing_is_said(tmp_path: Path, bucket: Bucket) -> None:
    one = machine(tmp_path, "one", bucket)
    bucket.put("decided/rounds.jsonl.000002", b"x\n")
    with pytest.raises(Failed, match=r"decided lacks one of 1 rounds.jsonl"):
        one.bring_down()
