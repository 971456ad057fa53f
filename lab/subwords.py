"""Subwords: what the libraries `tokenizers` and tiktoken give, and a BPE trained on a text here.

A tokenizer is made from canonical JSON that holds all of it, and whose digest it has: that of a
`tokenizers` file, or for tiktoken name, pattern and ranks. Text is data: what looks like a special
token in it is read as ordinary text. One more id is added where none ends a document.
"""

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import Refused
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


# Subwords ------------------------------------------------------------------------------------


class Subwords(ABC):
    """What the two libraries have in common: ids of a few documents at a time, each ended."""

    def __init__(self, name: str, digest: str, largest: int, end: int | None) -> None:
        if largest > LARGEST_ID:
            raise Refused(f"tokenizer {name}: has id {largest}; at most {LARGEST_ID} can be stored")
        self.name, self.digest = name, digest
        self.end = largest + 1 if end is None else end
        self.vocabulary = max(largest, self.end) + 1
        self.dtype = _dtype(self.vocabulary)

    @abstractmethod
    def _ids(self, texts: list[str]) -> list[Sequence[int]]: ...

    @abstractmethod
    def _ids_and_spans(self, text: str) -> tuple[Sequence[int], Spans]: ...

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


def _dtype(vocabulary: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if vocabulary <= 2**16 else np.uint32


def _digest(text: str) -> str:
    """What a tokenizer is known by: 32 hexadecimal digits of its canonical JSON."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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


def library(name: str) -> Any:
    """`tokenizers` or `tiktoken`. Raises Refused where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(
            f"this tokenizer needs the package {name}: pip install 'scaling-law-lab[tokenizers]'"
        ) from None


class FileTokenizer(Subwords):
    """A tokenizer of the library `tokenizers`, from canonical JSON."""

    def __init__(self, written: str, shown: str) -> None:
        of = library("tokenizers")
        try:
            self.inner = of.Tokenizer.from_str(written)
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

    @cached_property
    def _sizes(self) -> Spans | None:
        """Bytes of each token, where a character of a token's name is a byte (as in GPT-2)."""
        if (json.loads(self.written).get("decoder") or {}).get("type") != "ByteLevel":
            return None
        sizes = np.zeros(self.vocabulary, np.uint32)
        for token, number in self.inner.get_vocab(with_added_tokens=True).items():
            sizes[number] = len(token)
        return sizes

    def _ids_and_spans(self, text: str) -> tuple[Sequence[int], Spans]:
        found = self.inner.encode(text, add_special_tokens=False)
        if self._sizes is not None:
            sizes = self._sizes[np.array(found.ids, np.int64)]
            if int(sizes.sum()) == len(text.encode()):  # nothing was normalised or put before it
                return found.ids, sizes
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


def canonical_file(path: Path) -> str:
    """A JSON file as canonical JSON: one tokenizer, one text. Raises Refused."""
    try:
        return canonical(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Refused(f"{path}: not a tokenizer's JSON") from None


# tiktoken ------------------------------------------------------------------------------------


class TiktokenTokenizer(Subwords):
    """A tokenizer of the library tiktoken, from what makes one as canonical JSON."""

    def __init__(self, written: str) -> None:
        tiktoken = library("tiktoken")
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


def from_tiktoken(name: str) -> dict[str, Any]:
    """What makes an encoding of tiktoken's own, which it fetches. Raises Refused."""
    tiktoken = library("tiktoken")
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise Refused(f"tokenizer tiktoken:{name}: no such file or encoding; {', '.join(known)}")
    try:
        found = tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # it is fetched; a wrong hash is a ValueError
        said = (str(error).splitlines() or [""])[0]
        said = said if 0 < len(said) < 60 else type(error).__name__
        raise Refused(
            f"tokenizer tiktoken:{name} cannot be fetched ({said}): give a file"
        ) from None
    # the library has no public names for what an encoding is made of
    return _made(name, found._pat_str, found._mergeable_ranks, found._special_tokens)


def from_ranks(path: Path) -> dict[str, Any]:
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


def train_bpe(size: int, texts: Texts) -> FileTokenizer:
    """Byte-level BPE (Sennrich et al., 1508.07909; bytes as in GPT-2) of `size` tokens.

    Read are documents evenly spread over the chunks that `texts` gives, BPE_SAMPLE_BYTES at most.
    Raises Refused where the text holds fewer tokens.
    """
    of = library("tokenizers")
    bpe = of.Tokenizer(of.models.BPE())
    bpe.pre_tokenizer = of.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = of.decoders.ByteLevel()
    trainer = of.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BPE_END],
        initial_alphabet=of.pre_tokenizers.ByteLevel.alphabet(),
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
    trained = FileTokenizer(canonical(json.loads(bpe.to_str())), f"bpe:{size}")
    trained.name = f"bpe:{size}"
    return trained
