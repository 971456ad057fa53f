"""What is decided of a sweep that a bucket holds: the sweep itself, rounds, predictions.

    PREFIX/decided/sweep.json.<n>        what the sweep is; the highest number counts
    PREFIX/decided/rounds.jsonl.<n>      line n of the file, and so for foretold.jsonl

Every object is put if absent and never changed: of two machines that decide at once the first
counts, and what was decided is there before anything that follows from it is trained. In the
working copy they are the files that any sweep's folder has.
"""

import re
from functools import cache
from pathlib import Path

from fits.files import write_whole
from lab.bucket import Bucket, all_at_once
from lab.errors import Failed, Refused
from sweeps.folder import SWEEP_FILE
from sweeps.foretold import FILE as FORETOLD_FILE
from sweeps.place import bucket_of
from sweeps.rounds import ROUNDS_FILE

PLACE = "decided"
LINES = (ROUNDS_FILE, FORETOLD_FILE)
NAME = re.compile(rf"{PLACE}/({'|'.join(map(re.escape, (SWEEP_FILE, *LINES)))})\.([0-9]{{6}})")
MOST_BYTES = 2**24  # of an object


class Decided:
    """The decisions of one sweep, here and in the bucket."""

    def __init__(self, path: Path, bucket: Bucket) -> None:
        self.path, self.bucket = path, bucket
        self._sweep: bytes | None = None  # as it was brought down, or up, last
        self._number = 0  # of it

    def bring_down(self) -> None:
        """Take over what is decided there. Raises Failed."""
        there = self._numbers()
        if count := there[SWEEP_FILE]:
            self._take_sweep(count)
        for file in LINES:
            lines = all_at_once(self._get, [_name(file, n + 1) for n in range(there[file])])
            said = b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
            if said and not self._read(file).startswith(said):  # else there are newer lines here
                write_whole(self.path / file, said)

    def bring_up(self) -> None:
        """Make known what was decided here. Raises Failed, Refused where another was first."""
        there = self._numbers()
        sweep = self._read(SWEEP_FILE)
        if sweep and sweep != self._sweep:
            number = self._number + 1
            if self.bucket.put_new(_name(SWEEP_FILE, number), sweep):
                self._sweep, self._number = sweep, number
            else:
                self._take_sweep(self._numbers()[SWEEP_FILE])
                if self._sweep != sweep:
                    raise Refused(
                        f"the sweep in {self.bucket.url} was begun or has grown elsewhere "
                        "meanwhile: run again"
                    )
        for file in LINES:
            lines = self._read(file).splitlines(keepends=True)
            for n, line in enumerate(lines[there[file] :], there[file] + 1):
                if not self.bucket.put_new(_name(file, n), line):
                    self.bucket.say(f"{file}: line {n} was decided elsewhere, and stands")
                    write_whole(self.path / file, b"".join(lines[: n - 1]))
                    self.bring_down()
                    break

    def _take_sweep(self, number: int) -> None:
        self._sweep, self._number = self._get(_name(SWEEP_FILE, number)), number
        if self._read(SWEEP_FILE) != self._sweep:
            write_whole(self.path / SWEEP_FILE, self._sweep)

    def _numbers(self) -> dict[str, int]:
        """How many objects of each file there are. Raises Failed where one is missing."""
        found: dict[str, set[int]] = {file: set() for file in (SWEEP_FILE, *LINES)}
        for entry in self.bucket.list(PLACE):
            if matched := NAME.fullmatch(entry.name):
                found[matched[1]].add(int(matched[2]))
        for file, numbers in found.items():
            if numbers != set(range(1, len(numbers) + 1)):
                raise Failed(f"{self.bucket.url}/{PLACE} lacks one of {len(numbers)} {file}")
        return {file: len(numbers) for file, numbers in found.items()}

    def _get(self, name: str) -> bytes:
        content = self.bucket.get(name, MOST_BYTES)
        if content is None:
            raise Failed(f"{name} in {self.bucket.url} was removed")
        return content

    def _read(self, file: str) -> bytes:
        try:
            return (self.path / file).read_bytes()
        except FileNotFoundError:
            return b""


@cache
def decided_of(path: Path) -> Decided | None:
    """The decisions of a working copy, None for any other folder; one for all in this process."""
    bucket = bucket_of(path)
    return None if bucket is None else Decided(path, bucket)


def _name(file: str, number: int) -> str:
    return f"{PLACE}/{file}.{number:06d}"
