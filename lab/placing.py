"""How a token store gets into its place: made in a private folder, then moved there whole.

A store is a folder with a description, written last; its digest is that of what it holds.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import Failed
from lab.spec import canonical

DESCRIPTION = "corpus.json"
MAKING = ".making-"  # before the name of a folder that is not whole


@contextmanager
def placed(folder: Path, name: str) -> Iterator[Path]:
    """A private folder to make a store in, moved to `folder` whole at the end, or gone.

    Where another process was first, its store stays. Raises Failed.
    """
    partial: Path | None = None
    above = folder.parent
    new = not above.exists()
    try:
        above.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=MAKING, dir=above))
        yield partial
        if folder.exists() and not (folder / DESCRIPTION).exists():
            shutil.rmtree(folder)  # an earlier try without a description
        os.replace(partial, folder)
    except OSError as error:
        if (folder / DESCRIPTION).exists():
            return  # another process made it first
        raise Failed(f"cannot write corpus {name!r} to {above}: {error.strerror}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # something is in it
                above.rmdir()


def digest_of(hashes: list[str], tokenizer_digest: str = "") -> str:
    """Digest of a store from those of its two files of tokens, and of its tokenizer."""
    made_from = [*hashes, tokenizer_digest] if tokenizer_digest else hashes
    return hashlib.sha256(canonical(made_from).encode()).hexdigest()[:32]
