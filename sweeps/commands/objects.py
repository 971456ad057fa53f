"""`s3://BUCKET/PREFIX` in place of a sweep's folder: the verb works in a working copy.

What is decided comes down before the verb runs, and what `lab run` wrote goes up after it: tables,
figures and the report, which anybody may read there, and which no lab does.
"""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fits.files import write_whole
from lab.bucket import (
    PATIENCE_SECONDS,
    READING_PATIENCE_SECONDS,
    Bucket,
    NoBucket,
    all_at_once,
    is_url,
)
from lab.errors import Refused
from lab.probe import probe
from sweeps.decided import LINES, decided_of
from sweeps.folder import SWEEP_FILE
from sweeps.notes import NOTES
from sweeps.place import bucket_of, shown, working_copy

NAMED = ("folder", "out", "source", "other", "to")  # arguments that may hold a folder
VERBS = {"plan", "run", "work", "status", "results", "report", "plot", "export"}
TRAIN = {"run", "work"}
NOTE = re.compile(r"progress/([0-9]{1,10}-[0-9a-f]{8}\.json)")
NOTE_BYTES = 2**20


def call(function: Callable[[argparse.Namespace], Any], told: argparse.Namespace) -> Any:
    """What a verb gives, on a bucket if one was named. Raises Refused, Failed."""
    named = [
        name
        for name in NAMED
        if isinstance(getattr(told, name, None), str) and is_url(getattr(told, name))
    ]
    if not named:
        return function(told)
    if named not in (["folder"], ["out"], ["source"]) or told.verb not in VERBS:
        what = f"lab {told.verb}" if told.verb not in VERBS else f"--{named[-1]}"
        raise Refused(f"{what} takes folders and files, no bucket")
    if getattr(told, "coordinator", None) is not None:
        raise Refused("several hosts as one need a folder that they share, no bucket: "
                      "leave out --coordinator")  # fmt: skip
    path = working_copy(getattr(told, named[0]))
    bucket, decided = bucket_of(path), decided_of(path)
    assert bucket is not None
    assert decided is not None
    if told.verb in TRAIN:
        probe(bucket)
    try:
        decided.bring_down()
    except NoBucket as error:
        raise Refused(str(error)) from None
    if told.verb == "status":
        _bring_notes(path, bucket)
    setattr(told, named[0], str(path))
    if told.verb in TRAIN:
        bucket.patience = PATIENCE_SECONDS
    try:
        value = function(told)
        if told.verb == "run":
            written = _bring_up(path, bucket)
            if not told.json:
                print(f"{written} files are in {bucket.url} too")
    finally:
        bucket.patience = READING_PATIENCE_SECONDS
    if isinstance(value, dict) and "out" in value:
        value["out"] = shown(path)
    return value


def _bring_notes(path: Path, bucket: Bucket) -> None:
    """What processes of any machine say of themselves, with the service's time of it."""
    place = path / NOTES
    for entry in bucket.list(NOTES.removeprefix(".")):
        matched = NOTE.fullmatch(entry.name)
        if matched is None or entry.bytes > NOTE_BYTES:
            continue
        file = place / matched[1]
        if file.exists() and file.stat().st_mtime >= entry.modified:
            continue  # a process of this machine writes it
        content = bucket.get(entry.name, NOTE_BYTES)
        if content is not None:
            write_whole(file, content)
            os.utime(file, (entry.modified, entry.modified))


def _bring_up(path: Path, bucket: Bucket) -> int:
    """Write what people read into the bucket; how many files."""
    files = [path / name for name in (SWEEP_FILE, *LINES)]
    files += sorted(path.glob("*.csv")) + sorted(path.glob("*.parquet"))
    files += [path / "fit.json", path / "report.html"]
    files += sorted((path / "tables").glob("*")) + sorted((path / "figures").glob("*"))
    names = [
        file.relative_to(path).as_posix()
        for file in files
        if file.is_file() and not file.name.startswith(".")
    ]
    all_at_once(lambda name: bucket.put_file(name, path / name), names)
    return len(names)
