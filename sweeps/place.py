"""Where a sweep's folder is: on a file system, or a working copy of what a bucket holds.

    LAB_HOME/buckets/s3=BUCKET=PREFIX=...    the working copy of s3://BUCKET/PREFIX/...

The name of a working copy says what it is a copy of, and nothing in it does: no folder that
somebody hands over makes this lab talk to a bucket.
"""

from functools import cache
from pathlib import Path

from lab.bucket import Bucket, parse_url
from lab.home import home
from lab.mirror import MirroredStore
from lab.store import Store

ROOT = "buckets"


def working_copy(url: str) -> Path:
    """The folder for a URL, which may not be there yet. Raises Refused."""
    return home() / ROOT / parse_url(url).replace("://", "=").replace("/", "=")


def url_of(path: Path) -> str | None:
    """What a folder is the working copy of, or None."""
    if path.parent.name != ROOT or path.parent != home() / ROOT:
        return None
    scheme, *parts = path.name.split("=")
    return f"{scheme}://{'/'.join(parts)}"


def shown(path: Path) -> str:
    """As people know a sweep's folder: its path, or the URL that it is a copy of."""
    return url_of(path) or str(path)


def bucket_of(path: Path) -> Bucket | None:
    """The bucket of a working copy, None for any other folder. Raises Refused."""
    url = url_of(path)
    return None if url is None else _bucket(url)


def store_of(path: Path) -> Store:
    """The store of a sweep's folder; one for all who ask in this process. Raises Refused."""
    bucket = bucket_of(path)
    return Store(path) if bucket is None else _store(path, bucket)


@cache
def _bucket(url: str) -> Bucket:
    return Bucket(url)


@cache
def _store(path: Path, bucket: Bucket) -> Store:
    return MirroredStore(path, bucket)
