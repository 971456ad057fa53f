"""What one machine commits all have; what is damaged in the bucket, or hostile, nobody takes."""

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.brought import Unwritable
from lab.bucket import Away, Bucket
from lab.errors import Damaged, Failed, Gone
from lab.mirror import MirroredStore
from lab.spec import canonical
from lab.store import DROPPED, MARKER, EvaluationRow, Index, Store, segment_name
from tests.lab.bucket_here import memory_bucket, objects
from tests.lab.test_store import ABSTRACT, END, ROWS, STATE, STEPS, contents, flip, record

STOP = "d" * 32
WITH_STOP = [EvaluationRow(STOP, 4, "set1", 1.0, 1.1, 0.5), *ROWS]
SEGMENT = segment_name(record(), WITH_STOP)


@pytest.fixture
def bucket() -> Bucket:
    return memory_bucket()


@pytest.fixture
def here(tmp_path: Path, bucket: Bucket) -> MirroredStore:
    """This machine's."""
    return MirroredStore(tmp_path / "here", bucket)


@pytest.fixture
def there(tmp_path: Path, bucket: Bucket) -> MirroredStore:
    """Another machine's."""
    return MirroredStore(tmp_path / "there", bucket)


def commit(store: Store, **changes: Any) -> Path:
    return store.commit(record(**changes), STEPS, WITH_STOP, STATE, {4: STATE})


def values(index: Index) -> Any:
    """What an index says, wherever its arrays are."""
    return (
        index.evaluations,
        set(index.states),
        index.state_steps,
        index.dropped,
        index.diverged,
        [one for one, _ in index.step_logs],
        sorted((one.state, one.step, one.bytes) for one in index.held),
        index.broken,
    )


def assert_state(store: Store, place: Path) -> None:
    back = store.restore(place, ABSTRACT)
    assert back["params"]["w"].tobytes() == STATE["params"]["w"].tobytes()


# Between machines ----------------------------------------------------------------------------


def test_what_one_machine_commits_another_has(here: MirroredStore, there: MirroredStore) -> None:
    commit(here)
    found = there.load(verify_states=True)
    assert values(found) == values(here.load(verify_states=True))
    assert found.evaluations[END, "set1"] == ROWS[0]
    assert set(found.states) == {END, STOP}
    assert list(there.read_steps(found.step_logs[0][1])) == STEPS
    assert not list(there.folder.glob("*/*/state"))  # arrays come when they are asked for
    assert_state(there, found.states[END])
    assert_state(there, found.states[STOP])
    assert list(there.folder.glob("*/*/state"))
    again = there.load(verify_states=True)
    assert values(again) == values(found)
    assert not (again.states[END] / DROPPED).exists()


def test_what_is_there_is_not_brought_twice(here: MirroredStore, there: MirroredStore) -> None:
    commit(here)
    there.load()
    before = contents(there.folder)
    fetched: list[str] = []
    get = there.bucket.get
    there.bucket.get = lambda name, most: (fetched.append(name), get(name, most))[1]  # type: ignore
    there.load()
    assert fetched == []
    assert contents(there.folder) == before


def test_the_first_marker_wins_and_the_second_takes_it_over(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    first = commit(here)
    before = objects(bucket)
    taken = commit(there)
    assert taken.name == first.name
    assert objects(bucket) == before
    assert_state(there, taken)
    assert set(there.load().states.values()) >= {taken}
    assert values(there.load()) == values(here.load())


def test_a_prefix_that_is_copied_is_a_sweep_s_folder(
    here: MirroredStore, bucket: Bucket, tmp_path: Path
) -> None:
    commit(here)
    commit(here, end="e" * 32)
    for name, content in objects(bucket).items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    plain = Store(tmp_path / "copy").load(verify_states=True, set_aside=False)
    assert values(plain) == values(here.load())


def test_what_was_committed_while_the_bucket_was_away_goes_up_later(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    fs = bucket.fs
    put, asked, left = fs.pipe_file, 0, 0

    def limited(*told: Any, **more: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > left:
            raise PermissionError("not now")
        put(*told, **more)

    for left in range(100):  # after each of its requests
        fs.pipe_file, asked, end = limited, 0, f"{left:032x}"
        with contextlib.suppress(Failed):
            commit(here, end=end)
            break
        fs.pipe_file = put
        assert end not in there.load().states
        here.load()
        assert end in there.load().states
    assert left > 10


def test_a_service_that_is_away_damages_nothing(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    commit(here)
    before = objects(bucket)
    asked = 0
    while True:
        read, count = bucket.fs.cat_file, iter(range(asked))

        def limited(*told: Any, read: Any = read, count: Any = count, **more: Any) -> bytes:
            if next(count, None) is None:
                raise ConnectionResetError("gone")
            content: bytes = read(*told, **more)
            return content

        bucket.fs.cat_file = limited
        try:
            there.load()
            break
        except Away:
            asked += 1
        finally:
            bucket.fs.cat_file = read
        assert objects(bucket) == before
    assert asked == 5  # the marker, the manifest, three logs
    place = there.load().states[END]
    bucket.fs.get_file = limited
    with pytest.raises(Away):
        there.restore(place, ABSTRACT)
    del bucket.fs.get_file
    assert objects(bucket) == before
    assert_state(there, place)


def test_a_full_disk_damages_nothing_in_the_bucket(
    here: MirroredStore,
    there: MirroredStore,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit(here)
    before = objects(bucket)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Unwritable, match="disk full"):
            there.load()
    assert objects(bucket) == before
    assert there.load().broken == []


def test_arrays_that_are_dropped_are_dropped_everywhere(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    place = commit(here)
    stop = here.load().states[STOP]
    found = there.load()
    here.drop_state(place)
    with pytest.raises(Gone, match="was removed since"):
        there.restore(found.states[END], ABSTRACT)
    after = there.load()
    assert after.dropped == {END}
    assert set(after.states) == {STOP}
    assert not [name for name in objects(bucket) if "/state/" in name]
    here.drop_state(stop)
    assert set(there.load().states) == set()
    again = commit(here)  # made again: its marker replaces the one without arrays
    assert again.name != place.name
    assert_state(there, there.load().states[END])


def test_only_reading_changes_nothing_in_the_bucket(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    commit(here)
    store = bucket.fs.store
    name = next(one for one in store if one.endswith("record.json"))
    store[name].seek(3)
    store[name].write(b"#")
    before = objects(bucket)
    index = there.load(set_aside=False)
    assert len(index.broken) == 1
    assert "record.json is not what was written" in index.broken[0]
    assert objects(bucket) == before


# Damage --------------------------------------------------------------------------------------


def damaged(bucket: Bucket, name: str, place: int = -2) -> None:
    """Flip a bit of an object."""
    file = bucket.fs.store[f"/{bucket.root}/{name}"]
    content = bytearray(file.getvalue())
    content[place] ^= 1
    file.seek(0)
    file.write(bytes(content))
    file.modified = file.created  # a listing shows nothing of it


def names(bucket: Bucket) -> list[str]:
    return [name for name in objects(bucket) if objects(bucket)[name]]


@pytest.mark.parametrize("file", ["record.json", "steps.jsonl", "evaluations.jsonl",
                                  "manifest.json", MARKER])  # fmt: skip
def test_a_damaged_log_is_found_said_and_made_again(
    here: MirroredStore, there: MirroredStore, bucket: Bucket, file: str
) -> None:
    commit(here)
    damaged(bucket, next(name for name in names(bucket) if name.endswith(f"/{file}")))
    index = there.load()
    assert not index.states
    assert not index.evaluations
    assert len(index.broken) == 1
    assert bucket.url in index.broken[0]
    assert index.damaged == {END}
    assert not [name for name in names(bucket) if name.endswith(MARKER)]
    assert len([name for name in names(bucket) if "/BROKEN-" in name]) == 1
    commit(there)
    assert there.load().broken == []
    assert_state(there, there.load().states[END])
    assert values(here.load()) == values(there.load())


def test_every_damaged_array_is_found_before_it_is_used(tmp_path: Path) -> None:
    arrays = 0
    while True:
        bucket = memory_bucket()
        here = MirroredStore(tmp_path / f"here{arrays}", bucket)
        there = MirroredStore(tmp_path / f"there{arrays}", bucket)
        commit(here)
        which = sorted(name for name in names(bucket) if "/state/" in name)
        if arrays == len(which):
            break
        place = there.load().states[END]
        damaged(bucket, which[arrays])
        with pytest.raises(Damaged, match=r"damaged in s3://.*\(checksum\)"):
            there.restore(place, ABSTRACT)
        assert END not in there.load().states
        commit(there)
        assert_state(there, there.load().states[END])
        arrays += 1
    assert arrays > 3


def test_a_damaged_stop_is_removed_alone(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    commit(here)
    index = there.load()
    damaged(bucket, next(name for name in names(bucket) if "/stops/" in name))
    with pytest.raises(Damaged, match="damaged in s3://"):
        there.restore(index.states[STOP], ABSTRACT)
    after = there.load()
    assert set(after.states) == {END}
    assert after.broken == []
    assert_state(there, after.states[END])


@pytest.mark.parametrize("missing", ["/record.json", "/manifest.json", "/state/_METADATA"])
def test_an_object_that_is_gone_is_missed(
    here: MirroredStore, there: MirroredStore, bucket: Bucket, missing: str
) -> None:
    commit(here)
    bucket.delete(next(name for name in names(bucket) if name.endswith(missing)))
    (line,) = there.load().broken
    assert line.endswith(f"{missing.partition('/')[2]} is not there")


def test_one_who_has_it_whole_brings_it_up_again(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    commit(here)
    said: list[str] = []
    bucket.say = said.append
    damaged(bucket, next(name for name in names(bucket) if "/state/_METADATA" in name))
    place = there.load().states[END]
    with pytest.raises(Damaged):
        there.restore(place, ABSTRACT)
    here.load()
    assert_state(there, there.load().states[END])
    damaged(bucket, f"segments/{SEGMENT}/{MARKER}")
    here._seen.clear()
    assert here.load().broken == []
    assert [one for one in said if "brought up again" in one]
    assert_state(there, there.load().states[END])


def test_a_damaged_working_copy_is_fetched_again(
    here: MirroredStore, bucket: Bucket, tmp_path: Path
) -> None:
    place = commit(here)
    said: list[str] = []
    bucket.say = said.append
    for file in ("record.json", "state/_METADATA"):
        flip(place / file)
        index = here.load(verify_states=True)
        assert index.broken == []
        assert said.pop().startswith(f"damaged here, looked for in {bucket.url}")
        assert_state(here, index.states[END])


# Hostile -------------------------------------------------------------------------------------

HOSTILE = [
    "../../evil",
    "/etc/evil",
    "state/../../../evil",
    "state/..",
    "state/.hidden/../../x",
    "state\\..\\evil",
    "evil.py",
    "stops/../evil.npz",
    "state/\x00",
    "state/a b",
    "state//x",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_with_a_hostile_name_is_not_taken(
    here: MirroredStore, there: MirroredStore, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    place = commit(here)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest[name] = {"bytes": 4, "sha256": sha256(b"evil").hexdigest()}
    text = canonical(manifest).encode()
    at = f"segments/{SEGMENT}"
    bucket.put(f"{at}/{place.name}/manifest.json", text)
    bucket.fs.store[f"/{bucket.root}/{at}/{place.name}/{name}"] = bucket.fs.store[
        f"/{bucket.root}/{at}/{MARKER}"
    ]
    marker = {"attempt": place.name, "manifest": sha256(text).hexdigest()}
    bucket.put(f"{at}/{MARKER}", canonical(marker).encode())
    before = _outside(tmp_path)
    index = there.load()
    assert not index.states
    assert "is no file of an attempt" in index.broken[0]
    assert _outside(tmp_path) == before


@pytest.mark.parametrize(
    "attempt", ["..", "../..", "attempt-../../x", "/tmp", "attempt-0123456789ab/../..", 7, None]
)
def test_a_marker_that_names_a_hostile_attempt_is_not_taken(
    there: MirroredStore, bucket: Bucket, tmp_path: Path, attempt: Any
) -> None:
    marker = {"attempt": attempt, "manifest": "0" * 64}
    bucket.put(f"segments/{SEGMENT}/{MARKER}", json.dumps(marker).encode())
    before = _outside(tmp_path)
    (line,) = there.load().broken
    assert line.endswith("marker names no attempt")
    assert _outside(tmp_path) == before


def _outside(folder: Path) -> set[str]:
    """Files that lie outside of what a store may write."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {one for one in found if not one.startswith(("here/", "there/segments/"))} - {
        "there/.mirror.lock"
    }


@pytest.mark.parametrize(
    "name",
    [
        "segments/../../evil",
        "segments/..",
        f"segments/{SEGMENT}",
        f"segments/{SEGMENT}/../../evil",
        f"segments/../{SEGMENT}/{MARKER}",
        f"segments/{SEGMENT.upper()}/{MARKER}",
        f"segments/{SEGMENT}\n/{MARKER}",
        "segments/x/DONE.json",
    ],
)
def test_objects_with_hostile_names_are_not_read(
    here: MirroredStore, there: MirroredStore, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    commit(here, end="e" * 32)
    bucket.fs.store[f"/{bucket.root}/{name}"] = bucket.fs.store[
        next(one for one in bucket.fs.store if one.endswith(MARKER))
    ]
    said: list[str] = []
    bucket.say = said.append
    before = _outside(tmp_path)
    index = there.load()
    assert set(index.states) == {"e" * 32, STOP}
    assert index.broken == []
    assert said == [f"1 objects in {bucket.url} are no store's: not read"]
    assert _outside(tmp_path) == before


def test_what_is_too_large_is_not_taken(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    place = commit(here)
    at = f"segments/{SEGMENT}"
    large = f"{at}/{place.name}/state/_METADATA"
    whole = bucket.get(large, 10**6)
    assert whole is not None
    bucket.put(large, whole + b"more")
    (line,) = there.load(set_aside=False).broken
    assert f"_METADATA has {len(whole) + 4} bytes, not {len(whole)}" in line
    bucket.put(large, whole)
    small = {"w": np.zeros(1, np.float32)}
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["state/_METADATA"]["bytes"] = 2**40
    assert there.load().broken == []
    told = there.folder / SEGMENT / place.name / "manifest.json"
    told.write_text(canonical(manifest))
    with pytest.raises(Damaged, match="larger than the state could be"):
        there.restore(told.parent, small)
    bucket.put(f"{at}/{MARKER}", b" " * 2**13)
    assert there.load().broken != []


def test_a_record_of_another_segment_is_not_taken(
    here: MirroredStore, there: MirroredStore, bucket: Bucket
) -> None:
    commit(here)
    other = segment_name(record(end="e" * 32), WITH_STOP)
    for name, content in objects(bucket).items():
        bucket.put(name.replace(SEGMENT, other), content)
    index = there.load()
    assert set(index.states) == {END, STOP}
    assert index.damaged == {"e" * 32}
    assert index.broken[0].endswith("the record is of another segment")
    assert os.listdir(there.folder / SEGMENT)
