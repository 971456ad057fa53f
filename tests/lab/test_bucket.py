"""Objects are written whole, put if absent, listed and read; a service that cannot is refused."""

from pathlib import Path
from typing import Any

import pytest

import lab.bucket
from lab.bucket import Bucket, NoBucket, parse_url, without_secrets
from lab.errors import Failed, Refused
from lab.probe import PLACE, probe
from tests.lab.bucket_here import KEYS, URL, Memory, memory_bucket, objects


@pytest.fixture(params=["memory", "s3"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "memory":
        return memory_bucket()
    request.getfixturevalue("s3_server")
    return Bucket(f"{URL}/{request.node.name.translate({91: '-', 93: None})}")


# URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "gs://a-bucket/a/b.c/d_e", "s3://bucket/sweep-1/"]
)
def test_a_url_names_a_bucket_and_a_prefix(url: str) -> None:
    assert parse_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "az://bucket/a", "file:///tmp/a", "s3://", "s3:///a", "s3://b/a", "s3://Bucket/a",
        "s3://bucket/../a", "s3://bucket/.a", "s3://bucket/a//b", "s3://bucket/a=b",
        "s3://bucket/a b", "s3://bucket/a\n", "s3://bucket/a?versionId=1", "s3://bucket/ä",
        f"s3://bucket/{'a' * 200}",
    ],
)  # fmt: skip
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="must read s3://BUCKET/PREFIX"):
        parse_url(url)


def test_keys_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(Refused, match="must read") as refused:
        parse_url("s3://AKID:topsecret@bucket/a")
    assert "topsecret" not in str(refused.value)
    assert "AKID" not in str(refused.value)


def test_secrets_of_the_environment_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    line = " ".join(KEYS.values()) + " http://user:pass@host/ stays"
    assert without_secrets(line) == "*** *** *** http://***@host/ stays"


# Objects -------------------------------------------------------------------------------------


def test_objects_are_written_read_listed_and_removed(bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.list("a") == []
    assert bucket.get("a/one", 10) is None
    bucket.put("a/one", b"first")
    bucket.put("a/one", b"second")
    bucket.put("a/b/two", b"")
    bucket.put("ab", b"no part of a")
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)))
    bucket.put_file("a/three", file)
    assert [(one.name, one.bytes) for one in bucket.list("a")] == [
        ("a/b/two", 0),
        ("a/one", 6),
        ("a/three", 256),
    ]
    assert bucket.get("a/one", 6) == b"second"
    assert bucket.get("a/b/two", 6) == b""
    with pytest.raises(Failed, match="larger than 5 bytes"):
        bucket.get("a/one", 5)
    assert bucket.get_file("a/three", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(range(256))
    assert not bucket.get_file("a/four", tmp_path / "none")
    bucket.delete("a/one")
    bucket.delete("a/one")
    assert [one.name for one in bucket.list("a")] == ["a/b/two", "a/three"]


def test_what_is_there_is_not_put_anew(bucket: Bucket) -> None:
    assert bucket.put_new("leases/x", b"mine")
    assert not bucket.put_new("leases/x", b"theirs")
    assert bucket.put_new("leases/x", b"mine")  # an answer that was lost
    assert bucket.get("leases/x", 10) == b"mine"


def test_a_version_changes_with_what_an_object_holds(bucket: Bucket) -> None:
    bucket.put("a/x", b"one")
    (before,) = bucket.list("a")
    bucket.put("a/x", b"two")
    (after,) = bucket.list("a")
    assert before.version != after.version
    assert after.modified > 1e9


# A service that is away ----------------------------------------------------------------------


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> tuple[Bucket, Memory, list[str]]:
    """A bucket, its file system, and what was said."""
    monkeypatch.setattr(lab.bucket.time, "sleep", lambda seconds: None)
    fs, said = Memory(), []
    bucket = memory_bucket(fs)
    bucket.say = said.append
    bucket.patience = 60.0
    return bucket, fs, said


def test_a_service_that_is_away_is_asked_again(flaky: tuple[Bucket, Memory, list[str]]) -> None:
    bucket, fs, said = flaky
    fs.fails = [ConnectionResetError("gone") for _ in range(5)]
    bucket.put("a", b"x")
    assert objects(bucket) == {"a": b"x"}
    assert said == [
        f"{URL} does not answer, asking again: gone",
        f"{URL} answers again",
    ]


def test_a_service_that_stays_away_fails_on_one_line(
    flaky: tuple[Bucket, Memory, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, fs, _ = flaky
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    bucket.patience = 0.0
    fs.fails = [ConnectionResetError("gone with topsecret\nand more")]
    with pytest.raises(Failed) as failed:
        bucket.put("a", b"x")
    assert str(failed.value) == (
        f"{URL} does not answer (gone with ***); what is committed stays here, run again to go on"
    )


def test_one_whose_answer_was_lost_has_put_it_all_the_same(
    flaky: tuple[Bucket, Memory, list[str]],
) -> None:
    bucket, fs, _ = flaky
    fs.answers_are_lost, fs.fails = True, [ConnectionResetError("after it was done")]
    assert bucket.put_new("a", b"mine")
    assert not bucket.put_new("a", b"theirs")


def test_who_may_not_is_not_asked_again(flaky: tuple[Bucket, Memory, list[str]]) -> None:
    bucket, fs, said = flaky
    fs.fails = [PermissionError("Access Denied")]
    with pytest.raises(Failed, match="Access Denied"):
        bucket.get("a", 1)
    assert said == []


# What is assumed -----------------------------------------------------------------------------


def test_a_bucket_that_does_what_is_assumed_passes_and_is_left_as_it_was(bucket: Bucket) -> None:
    probe(bucket)
    assert bucket.list(PLACE) == []


class Overwrites(Memory):
    """As a service that does not know put-if-absent."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        super().pipe_file(path, value, **more)


class ListsLate(Memory):
    """A listing shows nothing of this second."""

    def find(self, path: str, **more: Any) -> Any:
        return {}


class ForgetsLate(Memory):
    """What was removed is listed still."""

    def rm_file(self, path: str) -> None:
        pass


class Mixes(Memory):
    """Refuses what is there, and says that something else is."""

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        return b"other"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Overwrites, "there is no put-if-absent"),
        (ListsLate, "a listing lacks an object that was just written"),
        (ForgetsLate, "a listing shows an object that was just removed"),
        (Mixes, "there is no put-if-absent"),
    ],
)
def test_a_bucket_that_does_not_is_refused(kind: type[Memory], wrong: str) -> None:
    bucket = memory_bucket(kind())
    with pytest.raises(Refused, match=f"{URL} cannot hold a sweep: .*{wrong}"):
        probe(bucket)


@pytest.mark.usefixtures("s3_server")
def test_a_bucket_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused, match="s3://lab-nowhere/a: The specified bucket does not exist"):
        probe(Bucket("s3://lab-nowhere/a"))
    with pytest.raises(NoBucket):
        Bucket("s3://lab-nowhere/a").list("b")
