"""What all tests share: a private folder for the lab, and the public tables where they are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bucket_here import S3Here, s3_here


@pytest.fixture(scope="session", autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Token stores and compiled programs of the tests, away from the user's own."""
    folder = tmp_path_factory.mktemp("lab-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def public_tables() -> Path:
    """Folder of the public loss tables; tests that need it are skipped, and say so, without it."""
    named = os.environ.get("LAB_PUBLIC_TABLES")
    if not named or not Path(named).is_dir():
        pytest.skip("LAB_PUBLIC_TABLES names no folder: the public loss tables are not here")
    return Path(named)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Here]:
    """S3 on loopback: one for all tests, since clients are made once a process."""
    with s3_here() as one:
        yield one
