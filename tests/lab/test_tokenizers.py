"""Tokenizers give text back, count its bytes, and say in a line what is none."""

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import prepare, subwords, tokenizers
from lab.corpora import TokenStore, open_corpus, refuse_unlike
from lab.errors import Failed, Refused
from lab.evaluate import scores
from lab.evaluation_set import EvaluationSet
from lab.prepare import Recipe
from lab.sources import Columns
from lab.tokenizers import Tokenizer
from tests.lab.building import few

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
pytest.importorskip("tiktoken", reason="the package tiktoken is not installed")

WORDS = ["the", "lord", "said", "unto", "möses", "and", "house", "of", "израиль", "日本", "🙂 ok"]
DRAW = np.random.default_rng(5)
WORDS += ["".join(DRAW.choice(list("aeiounrstlm"), 3 + k % 5)) for k in range(300)]
TEXTS = [" ".join(DRAW.choice(WORDS, 40 + k)) + "\n" for k in range(150)]
BYTES = [text.encode() for text in TEXTS]


def bpe(size: int = 400) -> Tokenizer:
    return tokenizers.read(f"bpe:{size}").fitted(lambda: iter([BYTES]))


def ranks(folder: Path) -> Path:
    """A file of ranks: bytes, then some pairs."""
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [b"th", b"the", b" o", b" of", "日".encode()[:2]]
    path = folder / "small.tiktoken"
    path.write_bytes(
        b"".join(base64.b64encode(token) + b" %d\n" % k for k, token in enumerate(tokens))
    )
    return path


def word_level(folder: Path, **vocabulary: int) -> Path:
    """A tokenizer that drops white space and what it does not know: bytes have to be counted."""
    import tokenizers as of

    model = of.models.WordLevel({"[UNK]": 0, "the": 1, "lord": 2, **vocabulary}, "[UNK]")
    made = of.Tokenizer(model)
    made.normalizer = of.normalizers.Lowercase()
    made.pre_tokenizer = of.pre_tokenizers.Whitespace()
    made.save(str(folder / "words.json"))
    return folder / "words.json"


KINDS: dict[str, Callable[[Path], Tokenizer]] = {
    "bytes": lambda folder: tokenizers.Bytes(),
    "bpe": lambda folder: bpe(),
    "tiktoken": lambda folder: known(f"tiktoken:{ranks(folder)}"),
    "words": lambda folder: known(str(word_level(folder))),
}


def known(told: str) -> Tokenizer:
    return tokenizers.read(told).fitted(lambda: iter([]))


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return KINDS[request.param](tmp_path_factory.mktemp("tokenizer"))


any_text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
documents = st.lists(any_text.map(str.encode), max_size=8)


@few
@given(documents)
def test_documents_come_back_and_every_byte_is_counted(
    tokenizer: Tokenizer, written: list[bytes]
) -> None:
    ids, counts = tokenizer.encode(written)
    same, spans = tokenizer.encode_with_spans(written)
    assert ids.tolist() == same.tolist()
    assert ids.dtype == tokenizer.dtype
    assert len(counts) == len(written)
    assert counts.sum() == len(ids)
    assert not len(ids) or int(ids.max()) < tokenizer.vocabulary
    if tokenizer.digest:
        assert len(spans) == len(ids)
        assert spans.sum(dtype=int) == sum(map(len, written))
    if not tokenizer.name.startswith("tokenizers:"):  # words are not all that a text holds
        parts = np.split(ids, counts.cumsum()[:-1]) if written else []
        assert [tokenizer.decode(part) for part in parts] == written


def test_bytes_of_a_token_are_those_of_its_own_text(tmp_path: Path) -> None:
    trained = bpe()
    ids, spans = trained.encode_with_spans(["the lord €".encode()])  # which it has never seen
    own = [len(trained.decode(np.array([one, 0]))) for one in ids[:-4].tolist()]
    assert spans.tolist() == [*own, 1, 1, 1, 0]
    words = known(str(word_level(tmp_path)))
    _, spans = words.encode_with_spans(["THE  lord é zzz \n".encode()])
    assert spans.tolist() == [3, 6, 3, 4, 2]  # what lies between counts with the next, then the end


def test_what_looks_like_a_special_token_is_text() -> None:
    trained = bpe()
    ids, _ = trained.encode([b"the <|endoftext|> of it"])
    assert ids.tolist().count(int(ids[-1])) == 1
    assert trained.decode(ids) == b"the <|endoftext|> of it"


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = tokenizers.saved(tmp_path)
    assert (again.digest, again.vocabulary) == (tokenizer.digest, tokenizer.vocabulary)
    assert again.encode(BYTES[:9])[0].tolist() == tokenizer.encode(BYTES[:9])[0].tolist()


def test_training_gives_one_tokenizer_of_the_size_asked() -> None:
    first, again = bpe(), bpe()
    assert first.digest == again.digest
    assert first.vocabulary == 400
    assert bpe(410).digest != first.digest
    assert len(first.encode(BYTES)[0]) < 0.6 * sum(map(len, BYTES))
    with pytest.raises(Refused, match=r"tokenizer bpe:9000: the text gives \d+ tokens"):
        bpe(9000)


def test_training_reads_a_sample_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "BPE_SAMPLE_BYTES", sum(map(len, BYTES)) // 2 + 1)
    half = tokenizers.read("bpe:400").fitted(lambda: iter([BYTES]))
    monkeypatch.undo()
    every = tokenizers.read("bpe:400").fitted(lambda: iter([BYTES[::2]]))
    assert half.digest == every.digest


def test_layout_of_a_file_is_no_part_of_its_digest(tmp_path: Path) -> None:
    path = word_level(tmp_path)
    first = known(str(path)).digest
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3))
    assert known(str(path)).digest == first
    word_level(tmp_path, house=3)
    assert known(str(path)).digest != first


def test_an_end_is_added_where_there_is_none(tmp_path: Path) -> None:
    added = known(str(word_level(tmp_path)))
    assert (added.vocabulary, added.encode([b"the"])[0].tolist()) == (4, [1, 3])
    there = known(str(word_level(tmp_path, **{"</s>": 7})))
    assert (there.vocabulary, there.encode([b"the"])[0].tolist()) == (8, [1, 7])


# Corpora -------------------------------------------------------------------------------------


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "corpora"


def lines(folder: Path, texts: list[str]) -> str:
    path = folder / f"{len(texts)}.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def prepared(name: str, source: str, told: str) -> TokenStore:
    prepare.prepare(name, Recipe((source,), Columns(), told))
    return open_corpus(name, verify=True).parts[0]


@pytest.mark.usefixtures("own_home")
def test_a_corpus_has_the_tokenizer_that_was_told(tmp_path: Path) -> None:
    source = lines(tmp_path, TEXTS)
    store = prepared("mine", source, "bpe:400")
    assert (store.tokenizer, store.vocabulary, store.train.dtype) == ("bpe:400", 400, np.uint16)
    other = prepared("other", lines(tmp_path, TEXTS[:90]), "like:mine")
    assert (other.tokenizer, other.tokenizer_digest) == ("bpe:400", store.tokenizer_digest)
    assert open_corpus("mine+other").vocabulary == 400
    assert store.folder is not None
    found = tokenizers.saved(store.folder)
    held = np.flatnonzero(store.validation == store.validation[-1])
    texts = [found.decode(part).decode() for part in np.split(store.validation, held + 1)[:-1]]
    assert set(texts) < set(TEXTS)
    assert store.bytes_per_token == sum(len(t.encode()) for t in texts) / len(store.validation)
    assert store.validation_bytes is not None
    assert store.validation_bytes.sum() == sum(len(text.encode()) for text in texts)


@pytest.mark.usefixtures("own_home")
def test_the_digest_of_the_tokenizer_is_in_that_of_the_corpus(tmp_path: Path) -> None:
    source = lines(tmp_path, ["the lord the"] * 2 + ["lord the lord", "the the the the"])
    plain = prepared("plain", source, str(word_level(tmp_path)))
    more = prepared("more", source, str(word_level(tmp_path, house=9)))
    added = prepared("added", source, str(word_level(tmp_path, **{"</s>": 3, "house": 4})))
    assert added.train.tolist() == plain.train.tolist()  # the same ids, of another tokenizer
    assert len({plain.digest, more.digest, added.digest}) == 3


@pytest.mark.usefixtures("own_home")
def test_corpora_of_unlike_tokenizers_are_refused(tmp_path: Path) -> None:
    source = lines(tmp_path, TEXTS)
    mine, other = prepared("mine", source, "bpe:400"), prepared("other", source, "bytes")
    prepared("third", lines(tmp_path, TEXTS[:90]), "like:mine")
    with pytest.raises(Refused, match=r"'mine' has bpe:400, 'other' has bytes; prepare one of"):
        open_corpus("mine+other")
    with pytest.raises(Refused, match="corpora of unlike tokenizers"):
        refuse_unlike({"mine": mine, "other": other})
    with pytest.raises(Refused, match="must name one corpus, not a union"):
        tokenizers.read("like:mine+third")


@pytest.mark.usefixtures("own_home")
def test_bits_per_byte_count_the_bytes_of_the_windows(tmp_path: Path) -> None:
    prepared("mine", lines(tmp_path, [*TEXTS, *(text.upper() for text in TEXTS)]), "bpe:400")
    asked = EvaluationSet(open_corpus("mine"), windows=5, context=16)
    (store,) = asked.corpus.parts
    assert store.folder is not None
    found = tokenizers.saved(store.folder)
    text = b"".join(
        found.decode(np.array([one, 0]))
        for one in asked.tokens()[:, 1:].ravel().tolist()
        if one != store.validation[-1]
    )
    assert asked.bytes_per_token == len(text) / 80
    assert asked.bytes_per_token != store.bytes_per_token
    nats = np.full(5, 16 * 2.5, np.float32)
    got = scores(nats, np.zeros(5, np.int32), asked)
    assert got.loss_nats == 2.5
    assert got.bits_per_byte == pytest.approx(80 * 2.5 / math.log(2) / len(text), rel=1e-12)


def test_a_changed_tokenizer_is_not_taken(tmp_path: Path, own_home: Path) -> None:
    prepared("mine", lines(tmp_path, TEXTS), "bpe:400")
    bpe(410).save(own_home / "mine")
    with pytest.raises(Failed, match="is not what was written: remove that folder"):
        tokenizers.read("like:mine")


# Mistakes ------------------------------------------------------------------------------------


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    bad, other = tmp_path / "bad.json", tmp_path / "bad.tiktoken"
    bad.write_text("{")
    other.write_text("eA== x\n")
    short = tmp_path / "short.tiktoken"
    short.write_text("eA== 0\n")
    huge = tmp_path / "huge.tiktoken"
    huge.write_bytes(ranks(tmp_path).read_bytes() + b"eHh4 2147483648\n")
    twice = tmp_path / "twice.tiktoken"
    twice.write_bytes(ranks(tmp_path).read_bytes() + b"eHh4 3\n")
    (tmp_path / "no.json").write_text('{"a": 1}')
    for told, said in {
        "words": "tokenizer 'words': must be bytes, bpe:SIZE",
        "bpe:many": "must be a number of tokens in 258",
        "bpe:257": "must be a number of tokens in 258",
        "like:nothing": "unknown corpus 'nothing'",
        str(tmp_path / "none.json"): "cannot read .*none.json: No such file",
        str(bad): "bad.json: not a tokenizer's JSON",
        str(tmp_path / "no.json"): "tokenizer no.json: ",
        "tiktoken:gpt9": "no such file or encoding; ",
        f"tiktoken:{other}": "not a file of ranks",
        f"tiktoken:{short}": "lacks 255 of the 256 single bytes",
        f"tiktoken:{huge}": "has id 2147483648; at most 2147483646 can be stored",
        f"tiktoken:{twice}": "two tokens have one rank",
        str(word_level(tmp_path, huge=2**31)): "has id 2147483648; at most 2147483646",
    }.items():
        with pytest.raises(Refused, match=said) as refusal:
            tokenizers.read(told)
        assert "\n" not in str(refusal.value)


def test_an_encoding_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    def offline(name: str) -> None:
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(Refused, match=r"tiktoken:gpt2 cannot be fetched \(no route to host\)"):
        tokenizers.read("tiktoken:gpt2")


def test_an_encoding_of_tiktokens_own_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken

    made = subwords.from_ranks(ranks(tmp_path))
    inner = tiktoken.Encoding(
        "gpt2",
        pat_str=made["pattern"],
        mergeable_ranks={base64.b64decode(token): rank for token, rank in made["ranks"].items()},
        special_tokens={"<|endoftext|>": 300},
    )
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": inner}.__getitem__)
    found = known("tiktoken:gpt2")
    ids, counts = found.encode(BYTES)
    assert (found.name, found.vocabulary) == ("tiktoken:gpt2", 301)
    assert ids[counts.cumsum() - 1].tolist() == [300] * len(BYTES)
    assert ids[: counts[0] - 1].tolist() == inner.encode_ordinary(TEXTS[0])


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Refused, match=r"pip install 'scaling-law-lab\[tokenizers\]'"):
        tokenizers.read("bpe:500")
