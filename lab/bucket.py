"""A prefix of a bucket, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`: objects by name.

What is assumed of the service, and checked by `lab.probe` before anything is trained: an object is
there whole or not at all, an object that is to be new is refused where one is there already
(If-None-Match: * of S3, ifGenerationMatch=0 of Google), and a listing shows every object that was
written before it. Nothing is renamed, appended to or locked: buckets know none of it.

`etils.epath` says which file system opens a URL; it has no put-if-absent of its own, so objects are
written through that file system (fsspec: s3fs, gcsfs). Keys are what those find in the environment:
none is read here, and what the service says is shown without them.

A service that does not answer is asked again for `patience` seconds, which is said once. Names that
come out of a listing are what anybody may have put there: callers match them whole.
"""

import contextlib
import errno
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from lab.errors import Failed, Refused

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # scheme -> package; the extras are called s3 and gcs
URL = re.compile(
    r"(s3|gs)://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])((?:/[A-Za-z0-9][A-Za-z0-9._-]*)*)/?"
)
LONGEST_URL = 200  # it names a folder
PATIENCE_SECONDS = 600.0  # of a service that does not answer, once training has begun
READING_PATIENCE_SECONDS = 20.0  # before that, and of who only reads
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
AT_ONCE = 16  # requests
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
# Of botocore and google.auth: asking again changes nothing.
FINAL = {"BotoCoreError", "GoogleAuthError", "ParamValidationError"}
PASSING = {"ConnectionError", "HTTPClientError", "TransportError", "IncompleteReadError"}
T = TypeVar("T")


class Away(Failed):
    """The service does not answer, or not to these keys. It says nothing of what it holds."""


class NoBucket(Away):
    """There is no bucket of that name, or none that these keys may see."""


@dataclass(frozen=True)
class Entry:
    """An object in a listing. `version` changes with its content; `modified` is the service's
    time of day, 0 if it says none."""

    name: str
    bytes: int
    version: str
    modified: float


def is_url(text: str) -> bool:
    """Whether a text names a bucket, or was meant to."""
    return "://" in text


def parse_url(text: str) -> str:
    """The URL without a trailing slash. Raises Refused; a secret in it is not repeated."""
    matched = URL.fullmatch(text)
    if matched is None or len(text) > LONGEST_URL:
        shown = without_secrets(text)[:100]
        raise Refused(
            f"{shown}: must read s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, its parts of letters, "
            f"digits, dots, - and _, {LONGEST_URL} characters at most"
        )
    return f"{matched[1]}://{matched[2]}{matched[3]}"


def opened(url: str) -> Any:
    """The file system that epath has for a URL. Raises Refused where its package is missing."""
    from etils.epath.backend import fsspec_backend

    scheme = url.partition(":")[0]
    try:
        return fsspec_backend.fs(url)
    except ImportError:
        extra = {"s3": "s3", "gs": "gcs"}[scheme]
        raise Refused(
            f"{scheme}:// needs the package {EXTRAS[scheme]}: "
            f"pip install 'scaling-law-lab[{extra}]'"
        ) from None


class Bucket:
    """Objects below a URL; names are relative to it. All raise Away where the service stays away,
    NoBucket where there is none."""

    def __init__(self, url: str, fs: Any = None) -> None:
        """`fs`: a file system of fsspec's, if not the one that epath has. Raises Refused."""
        self.url = parse_url(url)
        self.fs = opened(self.url) if fs is None else fs
        self.root = self.url.partition("://")[2]
        self.patience = READING_PATIENCE_SECONDS
        self.say: Callable[[str], None] = _say

    # Writing ---------------------------------------------------------------------------------

    def put(self, name: str, content: bytes) -> None:
        """Write an object; one that is there is replaced."""
        self._write(lambda: self.fs.pipe_file(self._key(name), content))

    def put_new(self, name: str, content: bytes) -> bool:
        """Write an object unless it is there; whether it holds this content now.

        An answer that was lost on its way looks like a refusal when it is asked for again: so what
        is there decides, and a content names its writer.
        """
        try:
            self._write(lambda: self.fs.pipe_file(self._key(name), content, mode="create"))
        except FileExistsError:
            return self.get(name, len(content) + 1) == content
        return True

    def put_file(self, name: str, file: Path) -> None:
        """Write an object from a file."""
        self._write(lambda: self.fs.put_file(os.fspath(file), self._key(name)))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda: self.fs.rm_file(self._key(name)))

    # Reading ---------------------------------------------------------------------------------

    def get(self, name: str, most: int) -> bytes | None:
        """An object of at most `most` bytes, None if it is not there. Raises Failed if larger."""
        try:
            content: bytes = self._ask(
                lambda: self.fs.cat_file(self._key(name), start=0, end=most + 1)
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a range of an empty object is refused as invalid
                raise
            return b""
        if len(content) > most:
            raise Failed(f"{name} in {self.url} is larger than {most} bytes")
        return content

    def get_file(self, name: str, file: Path) -> bool:
        """Write an object into a file; whether it is there. Look at its size before."""
        try:
            self._ask(lambda: self.fs.get_file(self._key(name), os.fspath(file)))
        except FileNotFoundError:
            return False
        return True

    def list(self, below: str) -> "list[Entry]":
        """Every object below a name, in the order of names."""

        def found() -> dict[str, dict[str, Any]]:
            self.fs.invalidate_cache()  # fsspec remembers listings
            return self.fs.find(self._key(below), detail=True)

        try:
            listed = self._ask(found)
        except FileNotFoundError as error:
            raise NoBucket(f"{self.url}: {self.why(error)}") from None
        entries = []
        for key, told in sorted(listed.items()):
            stripped = (key.partition("://")[2] or key).lstrip("/")
            if stripped.startswith(f"{self.root}/") and told.get("type") != "directory":
                name = stripped.removeprefix(f"{self.root}/")
                entries.append(Entry(name, int(told["size"]), _version(told), _modified(told)))
        return entries

    def _write(self, what: Callable[[], Any]) -> None:
        try:
            self._ask(what)
        except FileNotFoundError as error:
            raise NoBucket(f"{self.url}: {self.why(error)}") from None

    # Asking ----------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _ask(self, what: Callable[[], T]) -> T:
        """The answer, however long the service is away. Raises OSError that says something of the
        object; Away."""
        begun, pause, said = time.monotonic(), FIRST_PAUSE_SECONDS, False
        while True:
            try:
                answer = what()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.EINVAL:
                    raise
                if _is_final(error):
                    raise Away(f"{self.url}: {self.why(error)}") from None
                if time.monotonic() - begun >= self.patience:
                    raise Away(
                        f"{self.url} does not answer ({self.why(error)}); what is committed stays "
                        "here, run again to go on"
                    ) from None
                if not said:
                    self.say(f"{self.url} does not answer, asking again: {self.why(error)}")
                said = True
                time.sleep(pause * random.uniform(0.5, 1.0))  # not all workers at once
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if said:
                    self.say(f"{self.url} answers again")
                return answer

    @staticmethod
    def why(error: BaseException) -> str:
        """What went wrong, on one line and without secrets."""
        lines = str(error).splitlines()
        text = lines[0] if lines and lines[0] else type(error).__name__
        return without_secrets("".join(one for one in text if one.isprintable()))[:300]


def without_secrets(text: str) -> str:
    """A text without the values of variables that hold keys, and without users of URLs."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= 4:
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def all_at_once(work: Callable[[str], T], names: Iterable[str]) -> "list[T]":
    """What a function of a name says of every name, in their order; a few at a time."""
    with ThreadPoolExecutor(AT_ONCE, "bucket") as pool:
        return list(pool.map(work, names))


def _is_final(error: Exception) -> bool:
    names = {one.__name__ for one in type(error).__mro__}
    return isinstance(error, PermissionError) or bool(names & FINAL and not names & PASSING)


def _version(told: dict[str, Any]) -> str:
    named = (told.get(name) for name in ("ETag", "etag", "generation", "created"))
    return str(next((one for one in named if one is not None), told["size"]))


def _modified(told: dict[str, Any]) -> float:
    for name in ("LastModified", "mtime", "updated", "created"):
        value = told.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, float):
            return value
    return 0.0


def _say(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)
