"""An attempt that comes down from a bucket: all but its arrays, checked file by file.

Anybody who may write into the bucket may have put it there, so it is held against the checksums
that its marker leads to, and a checksum says nothing of who wrote it: names of files are those that
an attempt may have, sizes are the listing's, and the record must be of the segment it stands in.
Whoever can write into a bucket can still make up losses; that is as it is with a shared disk.
"""

import json
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

from lab.bucket import Bucket, Entry
from lab.checkpoint import Manifest
from lab.errors import Failed
from lab.foreign import SMALL, refuse_names, refuse_unsound
from lab.store import DROPPED, MARKER, MERGED, STATE, read_attempt, segment_name, why_not_written

SEGMENTS = "segments"
MANIFEST = "manifest.json"
AWAY = "in the bucket"  # in the note DROPPED of an attempt whose arrays are not here
ATTEMPT = re.compile(r"attempt-[0-9a-f]{12}")
_PART = r"[A-Za-z0-9_.=+-]{0,199}[A-Za-z0-9_=+-]"  # ends in no dot, so is none of . and ..
FILE = re.compile(rf"{_PART}(/{_PART}){{0,7}}")
MARKER_BYTES, MANIFEST_BYTES, LOG_BYTES = 2**12, 2**24, 2**30  # at most

Files = dict[str, Entry]  # of a segment, by name below it


class Unwritable(Failed):
    """The working copy cannot be written: its disk is full, or broken. It says nothing of what is
    in the bucket."""


def bring_down(bucket: Bucket, segment: Path, files: Files, marker: bytes) -> Path:
    """Write the attempt that a segment's marker names, and mark it here; its folder.

    Raises one of UNREADABLE where it is not what it should be; then it has no marker here. Away
    and Unwritable, which are among them, say nothing of it.
    """
    try:
        return _brought_down(bucket, segment, files, marker)
    except OSError as error:
        raise Unwritable(why_not_written(segment, error)) from error


def _brought_down(bucket: Bucket, segment: Path, files: Files, marker: bytes) -> Path:
    named = json.loads(marker)
    name = str(named["attempt"])
    if not ATTEMPT.fullmatch(name):
        raise Failed("marker names no attempt")
    attempt, there = segment / name, f"{SEGMENTS}/{segment.name}/{name}"
    text = _small(bucket, f"{there}/{MANIFEST}", MANIFEST_BYTES)
    if sha256(text).hexdigest() != named["manifest"]:
        raise Failed("manifest.json is not what was written (checksum)")
    manifest: Manifest = json.loads(text)
    dropped = f"{name}/{DROPPED}" in files
    _refuse_manifest(manifest, name, files, dropped)
    for file in sorted(SMALL & manifest.keys()):
        got = _small(bucket, f"{there}/{file}", LOG_BYTES)
        if sha256(got).hexdigest() != manifest[file]["sha256"]:
            raise Failed(f"{file} is not what was written (checksum)")
        write_whole(attempt / file, got)
    write_whole(attempt / MANIFEST, text)
    if dropped:
        write_whole(attempt / DROPPED, b"")
    elif any(file.startswith(STATE) for file in manifest):
        write_whole(attempt / DROPPED, AWAY.encode())
    draft = segment / f"{secrets.token_hex(6)}.marker"
    try:
        write_whole(draft, marker)
        one = read_attempt(draft, verify_states=False)
        refuse_unsound(one)
        if MERGED.sub("", segment.name) != segment_name(one.record, one.rows):
            raise Failed("the record is of another segment")
        os.replace(draft, segment / MARKER)
    finally:
        draft.unlink(missing_ok=True)
    return attempt


def _small(bucket: Bucket, name: str, most: int) -> bytes:
    content = bucket.get(name, most)
    if content is None:
        raise Failed(f"{name.rpartition('/')[2]} is not there")
    return content


def _refuse_manifest(manifest: Manifest, attempt: str, files: Files, dropped: bool) -> None:
    """Raise Failed where a manifest lists what no attempt has, or the bucket does not."""
    refuse_names(manifest)
    for name, file in manifest.items():
        if not FILE.fullmatch(name):
            raise Failed(f"{name!r} is no file of an attempt")
        entry = files.get(f"{attempt}/{name}")
        gone = dropped and name.startswith(STATE)
        if entry is None:
            if name in SMALL or (name.startswith(STATE) and not dropped):
                raise Failed(f"{name} is not there")
        elif entry.bytes != file["bytes"] and not gone:
            raise Failed(f"{name} has {entry.bytes} bytes, not {file['bytes']}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave the one that is there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{secrets.token_hex(6)}.partial")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
