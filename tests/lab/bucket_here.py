"""Buckets without a cloud: in memory, and moto's S3 on loopback where it is installed."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lab.bucket import Bucket

URL = "s3://lab-tests/sweep"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "hunter2hunter2hunter2",
    "AWS_SESSION_TOKEN": "sessionsessionsession",
}


class Memory(MemoryFileSystem):
    """A file system in memory that nobody else sees. `fails`: errors that the next calls raise,
    after they have done what they were asked where `answers_are_lost`."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}
        self.pseudo_dirs = [""]
        self.fails: list[Exception] = []
        self.answers_are_lost = False

    def _fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        if not self.answers_are_lost:
            self._fail()
        super().pipe_file(path, value, mode=mode, **more)
        self._fail()

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        self._fail()
        content: bytes = super().cat_file(path, start, end, **more)
        return content

    def find(self, path: str, **more: Any) -> Any:
        self._fail()
        return super().find(path, **more) or {}


def memory_bucket(fs: Any = None, url: str = URL) -> Bucket:
    """A bucket in memory that says nothing aloud."""
    bucket = Bucket(url, Memory() if fs is None else fs)
    bucket.say = lambda line: None
    bucket.patience = 0.0
    return bucket


def objects(bucket: Bucket) -> dict[str, bytes]:
    """Every object of a bucket in memory, by name."""
    return {
        name.removeprefix(f"/{bucket.root}/"): file.getvalue()
        for name, file in sorted(bucket.fs.store.items())
    }


def free_port() -> int:
    """A port on loopback that is free now."""
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class S3Here:
    """moto's S3 on loopback; what it holds outlasts `stop` and `start`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: Any = None
        self.start()

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@contextlib.contextmanager
def s3_here() -> Iterator[S3Here]:
    """A server, and the environment that leads boto to it; tests skip where it is not installed."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = S3Here()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("lab-tests")
        yield server
    server.stop()
