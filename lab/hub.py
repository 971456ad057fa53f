"""Hugging Face data sets -> documents, by their files alone: no code of a data set is ever run.

Told as `hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION`, or `hf:FOLDER` of data files or of what
`save_to_disk` wrote. The library keeps what it fetches in its own cache (HF_HOME).
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.sources import (
    HUB,
    LABELS_UNTOLD,
    PIECE_BYTES,
    Columns,
    Document,
    Piece,
    refuse_schema,
    rows,
)

PREFIX = "hf:"
ROWS_AT_ONCE = 256
SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` writes


class HubSource:
    """One data set: `split` of `config` ("": the only one)."""

    def __init__(self, told: str, split: str, config: str) -> None:
        name, _, revision = told.removeprefix(PREFIX).partition("@")
        if Path(told.removeprefix(PREFIX)).is_dir():
            name, revision = told.removeprefix(PREFIX), ""
        if not name:
            raise Refused(f"source {told!r}: must read hf:OWNER/NAME, or hf:FOLDER")
        self.name = name
        self.about = {"split": split, "config": config, "revision": revision}
        self.data = _opened(name, **self.about)
        if not len(self.data):
            raise Refused(f"hf:{name}: split {split!r} is empty")

    @property
    def source(self) -> str:
        revision = f"@{self.about['revision']}" if self.about["revision"] else ""
        return f"Hugging Face {Path(self.name).name}{revision}, {self.about['split']}"

    @property
    def stamp(self) -> Any:
        """What tells it from others: its files, or where they were fetched from."""
        if Path(self.name).is_dir():
            files = sorted(one for one in Path(self.name).rglob("*") if one.is_file())
            of = [(str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in files]
        else:
            of = sorted(self.data.info.download_checksums or {})  # they name the commit
        return [self.name, self.about, len(self.data), of]

    def first_labels(self) -> tuple[tuple[str, str], ...]:
        return tuple((one, one) for one in LABELS_UNTOLD if one in self.data.column_names)

    def pieces(self, columns: Columns) -> list[Piece]:
        """Stretches of rows of about PIECE_BYTES. Raises Refused on columns that are not there."""
        refuse_schema(self.data.features.arrow_schema, columns, f"hf:{self.name}")
        count, size = len(self.data), max(1, self.data.data.nbytes)
        step = max(1, PIECE_BYTES * count // size)
        return [
            Piece(HUB, (self.name,), size * (last - first) // count, first, last, self.about)
            for first in range(0, count, step)
            for last in [min(count, first + step)]
        ]


def documents(piece: Piece, columns: Columns) -> Iterator[Document]:
    """Documents of rows of a data set. Raises Refused."""
    (name,) = piece.paths
    data = _opened(name, **piece.about).with_format("arrow")
    for first in range(piece.first, piece.last, ROWS_AT_ONCE):
        batch = data[first : min(piece.last, first + ROWS_AT_ONCE)]
        yield from rows(batch, columns, f"hf:{name}", first + 1)


@functools.lru_cache(maxsize=8)
def _opened(name: str, split: str, config: str, revision: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise Refused(
            "Hugging Face data sets need the package datasets: pip install 'scaling-law-lab[hf]'"
        ) from None
    folder = Path(name)
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tries several times, aloud
    try:
        if any((folder / one).exists() for one in SAVED):
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, config or None, revision=revision or None)
    except Exception as error:  # noqa: BLE001  (of the hub, of the network, of every format)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"hf:{name} cannot be loaded: {said[:200]}") from None
    if not isinstance(found, datasets.DatasetDict):
        return found  # saved alone: there is no other split
    if split not in found:
        raise Refused(f"hf:{name}: no split {split!r}; it has {', '.join(found)}")
    return found[split]
