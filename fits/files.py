"""Files written whole or not at all."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from fits.errors import Failed


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave the one that is there as it is. Raises Failed (a full disk, ...)."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a parent that is no folder
            partial.unlink()
        why = "disk full" if error.errno == errno.ENOSPC else error.strerror
        raise Failed(f"cannot write {path}: {why}") from None
