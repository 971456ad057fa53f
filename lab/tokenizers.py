"""Text -> token ids: bytes, a file of the library `tokenizers`, tiktoken, or a BPE trained here.

A tokenizer is told as
    bytes                 the default: a token a byte, 0 ends a document
    FILE.json             as `tokenizers` writes it
    tiktoken:NAME         an encoding of tiktoken's (fetched once, by tiktoken)
    tiktoken:FILE         ranks in tiktoken's form, cut by the pattern of cl100k_base
    bpe:SIZE              byte-level BPE of SIZE tokens, trained on the corpus's training documents
    like:NAME             that of a corpus that is there: for several corpora of one study
and saved with its corpus as JSON that holds all of it, so that nothing outside is needed again; the
digest of that file is part of the corpus's (`lab.subwords`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lab.errors import Failed, Refused
from lab.spec import canonical
from lab.subwords import (
    FILE,
    TIKTOKEN_FILE,
    Counts,
    FileTokenizer,
    Ids,
    Spans,
    Texts,
    TiktokenTokenizer,
    canonical_file,
    from_ranks,
    from_tiktoken,
    library,
    train_bpe,
)

FILES = (FILE, TIKTOKEN_FILE)  # of a store, one at most


class Tokenizer(Protocol):
    """`digest` is "" of bytes; ids are below `vocabulary` and written as `dtype`."""

    name: str
    digest: str
    vocabulary: int

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]: ...

    def save(self, folder: Path) -> None: ...

    def encode(self, documents: list[bytes]) -> tuple[Ids, Counts]:
        """Ids of documents, each ended, and how many each has [D]."""
        ...

    def encode_with_spans(self, documents: list[bytes]) -> tuple[Ids, Spans]:
        """Ids, and the bytes of text that each stands for: they sum to those of the documents."""
        ...

    def decode(self, ids: Ids) -> bytes:
        """The text of one document, its end included in `ids`."""
        ...


class Planned:
    """A tokenizer as told; `recipe` tells it from others before it is trained."""

    def __init__(self, recipe: str, fitted: Callable[[Texts], Tokenizer]) -> None:
        self.recipe, self.fitted = recipe, fitted


def read(told: str) -> Planned:
    """The tokenizer that is told. Raises Refused."""
    kind, colon, rest = told.partition(":")
    if told == "bytes":
        return _known(Bytes())
    if kind == "like" and colon:
        return _known(_like(rest))
    if kind == "bpe" and colon:
        return _bpe(rest)
    if kind == "tiktoken" and colon:
        made = from_ranks(Path(rest)) if Path(rest).is_file() else from_tiktoken(rest)
        return _known(TiktokenTokenizer(canonical(made)))
    if told.endswith(".json"):
        return _known(FileTokenizer(canonical_file(Path(told)), Path(told).name))
    raise Refused(
        f"tokenizer {told!r}: must be bytes, bpe:SIZE, like:CORPUS, tiktoken:NAME, tiktoken:FILE "
        f"or a FILE.json of the library tokenizers"
    )


def _known(tokenizer: Tokenizer) -> Planned:
    return Planned(tokenizer.digest, lambda texts: tokenizer)


def saved(folder: Path) -> Tokenizer:
    """The tokenizer of a store, or of one in the making. Raises Refused, Failed."""
    try:
        if (folder / FILE).exists():
            return FileTokenizer((folder / FILE).read_text(encoding="utf-8"), FILE)
        if (folder / TIKTOKEN_FILE).exists():
            return TiktokenTokenizer((folder / TIKTOKEN_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise Failed(f"cannot read the tokenizer in {folder}: {error.strerror}") from None
    return Bytes()


def _like(name: str) -> Tokenizer:
    from lab.corpora import open_corpus

    (store, *others) = open_corpus(name).parts
    if others:
        raise Refused(f"tokenizer like:{name}: must name one corpus, not a union")
    found = saved(store.folder) if store.folder is not None else Bytes()
    if found.digest != store.tokenizer_digest:
        raise Failed(f"the tokenizer in {store.folder} is not what was written: remove that folder")
    if isinstance(found, FileTokenizer):
        found.name = store.tokenizer  # a file does not say how it came to be
    return found


# Bytes ---------------------------------------------------------------------------------------


class Bytes:
    """A token a byte; 0 ends a document."""

    name, digest, vocabulary, dtype = "bytes", "", 256, np.uint8

    def save(self, folder: Path) -> None:
        """Nothing is needed to read bytes."""

    def encode(self, documents: list[bytes]) -> tuple[Ids, Counts]:
        text = b"".join([part for one in documents for part in (one, b"\0")])
        return np.frombuffer(text, np.uint8), np.array(
            [len(one) + 1 for one in documents], np.int64
        )

    def encode_with_spans(self, documents: list[bytes]) -> tuple[Ids, Spans]:
        return self.encode(documents)[0], np.zeros(0, np.uint32)

    def decode(self, ids: Ids) -> bytes:
        return ids.tobytes().removesuffix(b"\0")


# A BPE of the corpus's own -------------------------------------------------------------------


def _bpe(size: str) -> Planned:
    least = 256 + 1  # bytes, and the end of a document
    if not size.isascii() or not size.isdecimal() or not least < int(size) <= 2**20:
        raise Refused(f"tokenizer bpe:{size}: must be a number of tokens in {least + 1}..{2**20}")
    library("tokenizers")
    return Planned(f"bpe:{size}", lambda texts: train_bpe(int(size), texts))
