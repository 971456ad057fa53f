"""Where the lab keeps what it can make again: token stores and compiled programs."""

import os
from pathlib import Path

from lab.errors import Refused


def home() -> Path:
    """The lab's private folder: LAB_HOME, or scaling-law-lab under the user's data folder."""
    named = os.environ.get("LAB_HOME")
    if named:
        path = Path(named).expanduser()
    else:
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        path = Path(data).expanduser() / "scaling-law-lab"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(
            f"cannot make the lab's folder {path} ({error.strerror}): set LAB_HOME"
        ) from None
    return path
