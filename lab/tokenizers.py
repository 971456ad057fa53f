"""Text -> token ids: bytes, a file of the library `tokenizers`, tiktoken, or a BPE trained here.

A tokenizer is told as
    bytes                 the default: a token a byte, 0 ends a document
    FILE.json             as `tokenizers` writes it
    tiktoken:NAME         an encoding of tiktoken's (fetched once, by tiktoken)
    tiktoken:FILE         ranks in tiktoken's form, cut by the pattern of cl100k_base
    bpe:SIZE              byte-level BPE of SIZE tokens, trained on the corpus's training documents
    like:NAME             that of a corpus that is there: for several corpora of one study
and saved with its corpus as JSON that holds all of it, so that nothing outside is needed again; the
digest of that file is part of the corpus's. Text is data: what looks like a special token in it is
read as ordinary text. Ids are those of the tokenizer; one more is added if none ends a document.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lab.errors import Failed, Refused
from lab.spec import canonical

FILE, TIKTOKEN_FILE = "tokenizer.json", "tiktoken.json"  # of a store
LARGEST_ID = 2**31 - 2  # windows are read as int32, and one id may be added
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]")
BPE_END = ENDS[0]
BPE_SAMPLE_BYTES = 2**27  # of training text, evenly spread, that a BPE is trained on at most
BATCH_BYTES = 2**20  # of text that is encoded at once: what is known of a token takes much memory
# OpenAI's cl100k_base (tiktoken_ext/openai_public.py); files of ranks carry no pattern
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)

Ids = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]
Spans = NDArray[np.uint32]
Texts = Callable[[], Iterator[list[bytes]]]


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
        made = _from_ranks(Path(rest)) if Path(rest).is_file() else _from_tiktoken(rest)
        return _known(_Tiktoken(canonical(made)))
    if told.endswith(".json"):
        return _known(_File(_canonical_file(Path(told)), Path(told).name))
    raise Refused(
        f"tokenizer {told!r}: must be bytes, bpe:SIZE, like:CORPUS, tiktoken:NAME, tiktoken:FILE "
        f"or a FILE.json of the library tokenizers"
    )


def _known(tokenizer: Tokenizer) -> Planned:
    return Planned(tokenizer.digest, lambda texts: tokenizer)


@functools.lru_cache(maxsize=4)
def saved(folder: Path) -> Tokenizer:
    """The tokenizer of a store, or of one in the making. Raises Refused, Failed."""
    try:
        if (folder / FILE).exists():
            return _File((folder / FILE).read_text(encoding="utf-8"), FILE)
        if (folder / TIKTOKEN_FILE).exists():
            return _Tiktoken((folder / TIKTOKEN_FILE).read_text(encoding="utf-8"))
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
    return found


def _dtype(vocabulary: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if vocabulary <= 2**16 else np.uint32


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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


# Subwords ------------------------------------------------------------------------------------


class _Subwords:
    """What the two libraries have in common: ids of a few documents at a time, each ended."""

    def __init__(self, name: str, digest: str, largest: int, end: int | None) -> None:
        if largest > LARGEST_ID:
            raise Refused(f"tokenizer {name}: has id {largest}; at most {LARGEST_ID} can be stored")
        self.name, self.digest = name, digest
        self.end = largest + 1 if end is None else end
        self.vocabulary = max(largest, self.end) + 1
        self.dtype = _dtype(self.vocabulary)

    def _ids(self, texts: list[str]) -> list[Sequence[int]]:
        raise NotImplementedError

    def _ids_and_spans(self, text: str) -> tuple[Sequence[int], Spans]:
        raise NotImplementedError

    def encode(self, documents: list[bytes]) -> tuple[Ids, Counts]:
        found = [ids for batch in _batches(documents) for ids in self._ids(batch)]
        counts = np.array([len(ids) + 1 for ids in found], np.int64)
        out = np.full(int(counts.sum()), self.end, self.dtype)
        for ids, last in zip(found, counts.cumsum().tolist(), strict=True):
            out[last - 1 - len(ids) : last - 1] = ids
        return out, counts

    def encode_with_spans(self, documents: list[bytes]) -> tuple[Ids, Spans]:
        ids: list[Any] = [np.zeros(0, self.dtype)]
        spans: list[Spans] = [np.zeros(0, np.uint32)]
        for document in documents:
            mine, sizes = self._ids_and_spans(document.decode())
            left = len(document) - int(sizes.sum())  # what the tokenizer drops at the end
            ids += [np.array(mine, self.dtype), np.array([self.end], self.dtype)]
            spans += [sizes, np.array([left], np.uint32)]
        return np.concatenate(ids), np.concatenate(spans)


def _batches(documents: list[bytes]) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for document in documents:
        held.append(document.decode())
        size += len(document)
        if size >= BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def _library(name: str) -> Any:
    """`tokenizers` or `tiktoken`. Raises Refused where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(
            f"this tokenizer needs the package {name}: pip install 'scaling-law-lab[tokenizers]'"
        ) from None


class _File(_Subwords):
    """A tokenizer of the library `tokenizers`, from canonical JSON."""

    def __init__(self, written: str, shown: str) -> None:
        library = _library("tokenizers")
        try:
            self.inner = library.Tokenizer.from_str(written)
            self.inner.no_truncation()
            self.inner.no_padding()
            self.inner.encode_special_tokens = True  # in text they are ordinary
            ids = self.inner.get_vocab(with_added_tokens=True)
        except Exception as error:  # noqa: BLE001  (the library raises nothing narrower)
            raise Refused(f"tokenizer {shown}: {str(error).splitlines()[0]}") from None
        if not ids:
            raise Refused(f"tokenizer {shown}: has no tokens")
        self.written = written
        end = next((ids[one] for one in ENDS if one in ids), None)
        digest = _digest(written)
        super().__init__(f"tokenizers:{digest[:8]}", digest, max(ids.values()), end)

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(self.written, encoding="utf-8")

    def _ids(self, texts: list[str]) -> list[Sequence[int]]:
        encode = getattr(self.inner, "encode_batch_fast", self.inner.encode_batch)
        return [one.ids for one in encode(texts, add_special_tokens=False)]

    def _ids_and_spans(self, text: str) -> tuple[Sequence[int], Spans]:
        found = self.inner.encode(text, add_special_tokens=False)
        ends = np.array([last for _, last in found.offsets], np.int64)
        return found.ids, _spans(_byte_places(text)[ends])

    def decode(self, ids: Ids) -> bytes:
        text: str = self.inner.decode(ids[:-1].tolist(), skip_special_tokens=False)
        return text.encode()


def _byte_places(text: str) -> Counts:
    """Where each character of a text begins in its UTF-8, and where the last one ends."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate([[0], sizes.cumsum()]).astype(np.int64)


def _spans(ends: Counts) -> Spans:
    """Bytes of each token from where tokens end: each byte is counted once, by the first."""
    reached = np.maximum.accumulate(np.concatenate([[0], ends]))
    return np.diff(reached).astype(np.uint32)


def _canonical_file(path: Path) -> str:
    try:
        return canonical(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Refused(f"{path}: not a tokenizer's JSON") from None


# tiktoken ------------------------------------------------------------------------------------


class _Tiktoken(_Subwords):
    """A tokenizer of the library tiktoken, from what makes one as canonical JSON."""

    def __init__(self, written: str) -> None:
        tiktoken = _library("tiktoken")
        made = json.loads(written)
        ranks = {base64.b64decode(token): rank for token, rank in made["ranks"].items()}
        try:
            self.inner = tiktoken.Encoding(
                made["name"],
                pat_str=made["pattern"],
                mergeable_ranks=ranks,
                special_tokens=made["special"],
            )
        except (ValueError, OverflowError) as error:
            raise Refused(f"tokenizer tiktoken:{made['name']}: {error}") from None
        self.written = written
        largest = max([*ranks.values(), *made["special"].values()])
        name = f"tiktoken:{made['name']}"
        super().__init__(name, _digest(written), largest, made["special"].get(ENDS[0]))
        self.sizes = np.zeros(self.vocabulary, np.uint32)
        for token, rank in ranks.items():
            self.sizes[rank] = len(token)

    def save(self, folder: Path) -> None:
        (folder / TIKTOKEN_FILE).write_text(self.written, encoding="utf-8")

    def _ids(self, texts: list[str]) -> list[Sequence[int]]:
        return [self.inner.encode_ordinary(text) for text in texts]

    def _ids_and_spans(self, text: str) -> tuple[Sequence[int], Spans]:
        ids = self.inner.encode_ordinary(text)
        return ids, self.sizes[np.array(ids, np.int64)]

    def decode(self, ids: Ids) -> bytes:
        text: bytes = self.inner.decode_bytes(ids[:-1].tolist())
        return text


def _from_tiktoken(name: str) -> dict[str, Any]:
    tiktoken = _library("tiktoken")
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise Refused(f"tokenizer tiktoken:{name}: no such file or encoding; {', '.join(known)}")
    try:
        found = tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # it is fetched; a wrong hash is a ValueError
        said = str(error).splitlines()[0][:80]
        raise Refused(
            f"tokenizer tiktoken:{name} cannot be fetched ({said}): give a file"
        ) from None
    # the library has no public names for what an encoding is made of
    return _made(name, found._pat_str, found._mergeable_ranks, found._special_tokens)


def _from_ranks(path: Path) -> dict[str, Any]:
    """A file of lines `BASE64 RANK`, as tiktoken's own. Raises Refused."""
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise Refused(f"{path}: not a file of ranks (lines of base64, then a number)") from None
    lacking = 256 - sum(bytes([byte]) in ranks for byte in range(256))
    if lacking:
        raise Refused(f"{path}: lacks {lacking} of the 256 single bytes")
    if len(set(ranks.values())) < len(ranks):
        raise Refused(f"{path}: two tokens have one rank")
    if max(ranks.values()) > LARGEST_ID:  # before the library sees it
        raise Refused(f"{path}: has id {max(ranks.values())}; at most {LARGEST_ID} can be stored")
    return _made(path.stem, PATTERN, ranks, {})


def _made(
    name: str, pattern: str, ranks: dict[bytes, int], special: dict[str, int]
) -> dict[str, Any]:
    shown = {base64.b64encode(token).decode(): rank for token, rank in ranks.items()}
    return {"name": name, "pattern": pattern, "ranks": shown, "special": special}


# A BPE of the corpus's own -------------------------------------------------------------------


def _bpe(size: str) -> Planned:
    least = 256 + 1  # bytes, and the end of a document
    if not size.isascii() or not size.isdecimal() or not least < int(size) <= 2**20:
        raise Refused(f"tokenizer bpe:{size}: must be a number of tokens in {least + 1}..{2**20}")
    _library("tokenizers")
    return Planned(f"bpe:{size}", lambda texts: train_bpe(int(size), texts))


def train_bpe(size: int, texts: Texts) -> Tokenizer:
    """Byte-level BPE (Sennrich et al., 1508.07909; bytes as in GPT-2) of `size` tokens.

    Read are documents evenly spread over the chunks that `texts` gives, BPE_SAMPLE_BYTES at most.
    Raises Refused where the text holds fewer tokens.
    """
    library = _library("tokenizers")
    bpe = library.Tokenizer(library.models.BPE())
    bpe.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BPE_END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole = sum(len(one) for documents in texts() for one in documents)
    every = max(1, -(-whole // BPE_SAMPLE_BYTES))
    chosen = islice((one for documents in texts() for one in documents), 0, None, every)
    bpe.train_from_iterator((one.decode() for one in chosen), trainer)
    if bpe.get_vocab_size() < size:
        raise Refused(
            f"tokenizer bpe:{size}: the text gives {bpe.get_vocab_size()} tokens: ask for no more"
        )
    trained = _File(canonical(json.loads(bpe.to_str())), f"bpe:{size}")
    trained.name = f"bpe:{size}"
    return trained
