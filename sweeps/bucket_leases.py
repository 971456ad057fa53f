"""Leases in a bucket: which process of any machine trains which piece of work.

    PREFIX/leases/<end state>.<key>.<n>          a piece, leased for the n-th time: its owner's name
    PREFIX/leases/<end state>.<key>.<n>.over     that it was given back, or taken away
    PREFIX/workers/<token>.json                  a process: who it is, and a beat

As in a folder (`sweeps.leases`) a lease saves work and guards no truth. Each is put if absent under
the next number that the last look left free, so that one who gets it knows that nothing has become
of the piece since. Nothing is renamed, and nobody removes what is another's. A lease is stale at
once if its owner is a process of this machine that is no more, else if its beat did not change for
LEASE_SECONDS of the reader's own monotonic time: no clock of another machine, and none of the
service's, is asked. The beat counts what the training loop counts; a thread only sends it, so that
a service that is away holds up no training.
"""

import contextlib
import json
import os
import re
import threading
import time
from pathlib import Path
from types import TracebackType

import sweeps.leases
from lab.bucket import Bucket, all_at_once
from lab.errors import Failed
from sweeps.leases import LEASE, Leases, Owner, _begun, _host, _owner
from sweeps.notes import NOTES
from sweeps.place import bucket_of
from sweeps.plan import Plan
from sweeps.remaining import Work

LEASES, WORKERS = "leases", "workers"
OVER = "over"
NAME = re.compile(rf"{LEASES}/({LEASE.pattern})\.([0-9]{{1,6}})(\.{OVER})?")
TOKEN = re.compile(r"[0-9a-f]{16}")
MOST_BYTES = 2**12
SEND_SECONDS = 15.0  # between two beats that are sent
NEWS_SECONDS = 3.0  # between two looks of one who waits


def leases_of(path: Path, plan: Plan) -> Leases:
    """Leases on the pieces of a plan, in a folder or in the bucket that it is a copy of."""
    bucket = bucket_of(path)
    return Leases(path, plan) if bucket is None else BucketLeases(path, plan, bucket)


class BucketLeases(Leases):
    """The leases of one process, in a bucket."""

    def __init__(self, folder: Path, plan: Plan, bucket: Bucket) -> None:
        self.folder, self.bucket = folder, bucket
        self._numbers: dict[str, tuple[int, bool]] = {}  # as looked: piece -> its last n, over
        self._over: set[tuple[str, int]] = set()  # as looked
        self._owners: dict[tuple[str, int], str] = {}
        self._taken: dict[str, int] = {}
        self._polled = 0.0
        self._sent = -1
        self._end = threading.Event()
        self._sender = threading.Thread(target=self._send, name="beat", daemon=True)
        super().__init__(folder, plan)
        self._put_worker()
        self._sender.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._sender.join()
        with contextlib.suppress(Failed):  # who waits sees that the beat has stopped
            self.drop()
            self._put_notes()
            self.bucket.delete(f"{WORKERS}/{self.token}.json")
        super().__exit__(kind, error, trace)

    # A piece ---------------------------------------------------------------------------------

    def take(self, work: Work) -> bool:
        name = self._name(work)
        last, over = self._numbers.get(name, (0, True))
        if not over:
            return False
        number = last + 1
        if not self.bucket.put_new(f"{LEASES}/{name}.{number}", self.token.encode()):
            return False
        self._taken[name] = number
        self._mine.add(name)
        return True

    def _give_back(self, name: str) -> None:
        self._mine.discard(name)
        number = self._taken.pop(name)
        self._numbers[name] = (number, True)
        self.bucket.put(f"{LEASES}/{name}.{number}.{OVER}", b"")

    # The beat --------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that training goes on. Call it from the loop that trains."""
        self.beats += 1

    def _send(self) -> None:
        while not self._end.wait(SEND_SECONDS):
            if self.beats != self._sent:
                with contextlib.suppress(Failed, OSError):  # the next one may get through
                    self._put_worker()
                    self._put_notes()

    def _put_worker(self) -> None:
        self._sent = self.beats
        begun = _begun(os.getpid()) or ""
        note = {"owner": self.token, "pid": os.getpid(), "host": _host(), "begun": begun}
        text = json.dumps({**note, "beat": self._sent})
        self.bucket.put(f"{WORKERS}/{self.token}.json", text.encode())

    def _put_notes(self) -> None:
        """What this process says of itself, for `lab status` elsewhere."""
        for file in sorted((self.folder / NOTES).glob(f"{os.getpid()}-*.json")):
            with contextlib.suppress(OSError):
                self.bucket.put(f"{NOTES.removeprefix('.')}/{file.name}", file.read_bytes())

    # The others ------------------------------------------------------------------------------

    def look(self) -> None:
        """Note which leases there are. Call it before the store is read."""
        self._numbers, self._over = self._listed()

    def any_free(self, work: list[Work]) -> bool:
        names = {self._name(piece) for piece in work if piece.after is None}
        self._held = {name for name in names if not self._numbers.get(name, (0, True))[1]}
        return len(self._held) < len(names)

    def news(self) -> bool:
        now = time.monotonic()
        if now - self._polled < NEWS_SECONDS:
            return False
        self._polled = now
        numbers, over = self._listed()
        if over - self._over:
            return True
        held = {(name, numbers[name][0]) for name in self._held if name in numbers}
        owners = {token for one in held if (token := self._owner_of(one)) is not None}
        dead = self._dead(sorted(owners))
        stale = [one for one in sorted(held) if self._owner_of(one) in {None, *dead}]
        for name, number in stale:
            self.bucket.put(f"{LEASES}/{name}.{number}.{OVER}", b"")
        return bool(stale)

    def _listed(self) -> tuple[dict[str, tuple[int, bool]], set[tuple[str, int]]]:
        """(last number of each piece and whether that lease is over, all that are over)."""
        numbers: dict[str, int] = {}
        over: set[tuple[str, int]] = set()
        for entry in self.bucket.list(LEASES):
            if matched := NAME.fullmatch(entry.name):
                name, number = matched[1], int(matched[2])
                numbers[name] = max(number, numbers.get(name, 0))
                if matched[3]:
                    over.add((name, number))
        return {name: (n, (name, n) in over) for name, n in numbers.items()}, over

    def _owner_of(self, lease: tuple[str, int]) -> str | None:
        """The token in a lease, which never changes; None if it is none."""
        if lease not in self._owners:
            text = self.bucket.get(f"{LEASES}/{lease[0]}.{lease[1]}", MOST_BYTES) or b""
            self._owners[lease] = text.decode("ascii", "replace")
        token = self._owners[lease]
        return token if TOKEN.fullmatch(token) else None

    def _dead(self, tokens: list[str]) -> set[str]:
        """Owners that are gone, or whose beat has not changed for as long as a lease lasts."""
        texts = all_at_once(
            lambda one: self.bucket.get(f"{WORKERS}/{one}.json", MOST_BYTES) or b"", tokens
        )
        now, dead = time.monotonic(), set()
        for token, text in zip(tokens, texts, strict=True):
            before, since = self._seen.get(token, (None, now))
            if before != text:
                self._seen[token] = (text, now)
                since = now
            owner: Owner | None = _owner(text)
            if now - since >= sweeps.leases.LEASE_SECONDS or (owner and owner.is_dead()):
                dead.add(token)
        return dead
