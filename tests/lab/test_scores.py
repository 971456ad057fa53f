"""Scores rank documents by their quality, stand beside the store, and follow windows."""

import math
import os
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from lab import ngrams, scores, texts
from lab.corpora import Corpus, TokenStore, open_corpus, write_store
from lab.errors import Failed, Refused
from lab.scores import document_scores, document_tokens, score_digest, score_names, window_scores
from lab.texts import Text
from tests.lab.building import counting_corpus

WORDS = [b"the ", b"lord ", b"said ", b"unto ", b"moses ", b"and ", b"house ", b"of ", b"israel "]


def text(documents: int = 120) -> Text:
    draw = np.random.default_rng(7)
    picked = [draw.integers(0, len(WORDS), 60 + 3 * k) for k in range(documents)]
    return Text([b"".join(WORDS[w] for w in one) for one in picked], "a test")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setitem(texts.BUILT_IN, "code", text)
    monkeypatch.setitem(texts.BUILT_IN, "damaged-code", lambda: texts.damaged(text))
    return tmp_path / "corpora"


def damaged() -> TokenStore:
    return open_corpus("damaged-code").parts[0]


def prepared(home: Path, name: str, documents: list[bytes], **given: list[float]) -> Corpus:
    write_store(home / name, name, Text(documents, "a test", scores=given))
    return open_corpus(name)


# Computed scores -----------------------------------------------------------------------------


def test_computed_scores_rank_documents_as_the_truth_does() -> None:
    store = damaged()
    truth = document_scores(store, "truth")
    found = {
        name: spearmanr(truth, document_scores(store, name)).statistic
        for name in ("compression", "perplexity")
    }
    assert found["compression"] > 0.9
    assert found["perplexity"] > 0.99


def test_compression_is_the_ratio_of_zlib() -> None:
    (store,) = open_corpus("code").parts
    lengths = document_tokens(store)
    first = store.train[: lengths[0]].tobytes()
    assert document_scores(store, "compression")[0] == len(first) / len(zlib.compress(first))


def plain_witten_bell(train: list[bytes], document: bytes) -> float:
    """Mean nats of a document's bytes, a byte at a time: what `lab.ngrams` does in arrays."""

    def grams(text: bytes, k: int) -> list[tuple[tuple[int, ...], int]]:
        padded = [256] * (ngrams.ORDER - 1) + list(text)
        places = range(ngrams.ORDER - 1, len(padded))
        return [(tuple(padded[i - k : i]), padded[i]) for i in places]

    pairs = [Counter(g for one in train for g in grams(one, k)) for k in range(ngrams.ORDER)]
    total = 0.0
    for i in range(len(document)):
        chance = 1 / 256
        for k in range(ngrams.ORDER):
            context, byte = grams(document, k)[i]
            behind = {b: n for (h, b), n in pairs[k].items() if h == context}
            if behind:
                seen, kinds = sum(behind.values()), len(behind)
                chance = (behind.get(byte, 0) + kinds * chance) / (seen + kinds)
        total -= math.log(chance)
    return total / len(document)


def test_perplexity_is_witten_bells_and_of_the_other_half(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BLOCK", 64)  # several blocks
    documents = [bytes(np.random.default_rng(k).integers(97, 101, 30 + k)) for k in range(9)]
    (store,) = prepared(own_home, "mine", documents).parts
    cut = document_tokens(store).cumsum()[:-1]
    train = [part.tobytes() for part in np.split(np.asarray(store.train), cut)]
    wanted = [-plain_witten_bell(train[1 - k % 2 :: 2], one) for k, one in enumerate(train)]
    assert document_scores(store, "perplexity") == pytest.approx(wanted, rel=1e-12)


def test_a_damaged_text_is_scored_by_counts_of_the_clean_one() -> None:
    store, (clean,) = damaged(), open_corpus("code").parts
    ends = document_tokens(store).cumsum()
    odd = np.arange(len(ends)) % 2 == 1
    counts = ngrams.count(np.asarray(clean.train), ends, odd, 2**20)
    wanted = -ngrams.mean_nats(counts, np.asarray(store.train), ends, ~odd)
    assert document_scores(store, "perplexity")[::2].tolist() == wanted.tolist()


def test_lengths_letters_and_symbols_are_those_of_the_document(own_home: Path) -> None:
    documents = [
        b"Two words.\n",
        "é # … ...".encode(),
        b"#12 ab",
        *(b"%d ab" % k for k in range(9)),
    ]
    (store,) = prepared(own_home, "mine", documents).parts
    cut = document_tokens(store).cumsum()[:-1]
    texts_ = [part.tobytes()[:-1] for part in np.split(np.asarray(store.train), cut)]
    found = {name: dict(zip(texts_, document_scores(store, name), strict=True)) for name in (
        "length", "letters", "symbols")}  # fmt: skip
    known = {
        documents[0]: (11, 10 / 11, 0.0),
        documents[1]: (12, 8 / 12, -3 / 4),
        documents[2]: (6, 3 / 6, -1 / 2),
    }
    assert set(known) <= set(texts_)
    for text, wanted in known.items():
        assert [found[name][text] for name in found] == pytest.approx(list(wanted))


def test_scores_of_ids_are_those_of_their_text(own_home: Path) -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    from lab.prepare import Recipe, prepare
    from lab.sources import Columns

    (own_home.parent / "a.txt").write_bytes(b"\f".join(text().documents))
    for name, tokenizer in (("plain", "bytes"), ("ids", "bpe:270")):
        prepare(name, Recipe((str(own_home.parent / "a.txt"),), Columns(), tokenizer))
    plain, ids = (open_corpus(name).parts[0] for name in ("plain", "ids"))
    assert len(ids.train) < len(plain.train)
    for name in ("length", "letters", "symbols"):
        assert document_scores(ids, name).tolist() == document_scores(plain, name).tolist()
    cut = document_tokens(plain).cumsum()[:-1]
    parts = [part.tobytes()[:-1] for part in np.split(np.asarray(plain.train), cut)]
    ratios = [len(part) / len(zlib.compress(part)) for part in parts]
    assert document_scores(ids, "compression").tolist() == ratios
    whole = np.frombuffer(b"".join(parts), np.uint8)  # without what ends documents of bytes
    ends = np.cumsum([len(part) for part in parts])
    odd = np.arange(len(ends)) % 2 == 1
    counts = ngrams.count(whole, ends, odd, 2**20)
    wanted = -ngrams.mean_nats(counts, whole, ends, ~odd)
    assert document_scores(ids, "perplexity")[::2].tolist() == wanted.tolist()
    assert len(open_corpus("best-ids").parts[0].train) < 0.3 * len(ids.train)
    assert open_corpus("best-ids", verify=True).tokenizer_digest == ids.tokenizer_digest


# Beside the store ----------------------------------------------------------------------------


def test_a_score_is_computed_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store = damaged()
    first = document_scores(store, "perplexity")
    monkeypatch.setitem(scores.COMPUTED, "perplexity", lambda *_: pytest.fail("computed again"))
    assert document_scores(damaged(), "perplexity").tolist() == first.tolist()
    assert store.folder is not None
    assert {one.name for one in (store.folder / "documents").iterdir()} == {
        "tokens.npy", "truth.npy", "perplexity.1.npy"
    }  # fmt: skip


def test_given_scores_stand_first_and_follow_their_documents(own_home: Path) -> None:
    documents = [b"document %03d says " % k * 3 for k in range(40)]
    values = [float(k) for k in range(40)]
    (store,) = prepared(own_home, "mine", documents, liked=values).parts
    assert score_names(store) == ["liked", *scores.COMPUTED]
    parts = np.split(np.asarray(store.train), document_tokens(store).cumsum()[:-1])
    named = [float(part.tobytes()[9:12]) for part in parts]
    assert document_scores(store, "liked").tolist() == named
    assert len(named) < 40  # the others are held out


def test_an_unknown_score_and_an_old_store_are_refused(own_home: Path) -> None:
    store = damaged()
    with pytest.raises(Refused, match=r"no score 'taste'; it has truth, compression, perplexity, "):
        document_scores(store, "taste")
    assert store.folder is not None
    os.unlink(store.folder / "documents" / "tokens.npy")
    with pytest.raises(Refused, match=r"before documents were told apart: remove .*damaged-code"):
        document_scores(store, "truth")


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(114, np.nan), np.array(["x"] * 114)])
def test_a_column_that_is_none_is_said_in_one_line(bad: np.ndarray) -> None:
    store = damaged()
    assert store.folder is not None
    np.save(store.folder / "documents" / "truth.npy", bad)
    with pytest.raises(Failed, match=r"truth\.npy .*remove that file") as said:
        document_scores(store, "truth")
    assert "\n" not in str(said.value)


def test_a_pickled_column_is_never_opened() -> None:
    store = damaged()
    assert store.folder is not None
    column = np.array([{"a": 1}], dtype=object)
    np.save(store.folder / "documents" / "truth.npy", column, allow_pickle=True)
    with pytest.raises(Failed, match="cannot be read"):
        document_scores(store, "truth")


def test_the_digest_is_that_of_values_and_documents(own_home: Path) -> None:
    corpus = open_corpus("damaged-code")
    one = score_digest(corpus, "truth")
    assert one == score_digest(open_corpus("damaged-code"), "truth")
    assert one != score_digest(corpus, "compression")
    store = damaged()
    assert store.folder is not None
    file = store.folder / "documents" / "truth.npy"
    np.save(file, np.load(file) + 1e-9)
    assert score_digest(corpus, "truth") != one


# Windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [1, 7, 64, 5000])
def test_a_window_has_the_mean_score_of_its_tokens(own_home: Path, context: int) -> None:
    documents = [b"d%02d" % k * (5 + k) for k in range(30)]
    corpus = prepared(own_home, "mine", documents, liked=[k**2 / 7 for k in range(30)])
    (store,) = corpus.parts
    by_token = np.repeat(document_scores(store, "liked"), document_tokens(store))
    count = corpus.train_windows(context)
    wanted = by_token[: count * context].reshape(count, context).mean(axis=1)
    found = window_scores(corpus, "liked", context)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_windows_of_a_union_have_the_scores_of_its_parts(own_home: Path) -> None:
    documents = [b"d%02d" % k * (5 + k) for k in range(30)]
    one = prepared(own_home, "one", documents, liked=[float(k) for k in range(30)])
    two = prepared(own_home, "two", documents[5:], liked=[-float(k) for k in range(5, 30)])
    both = open_corpus("one+two")
    parts = [window_scores(corpus, "liked", 16) for corpus in (one, two)]
    assert window_scores(both, "liked", 16).tolist() == np.concatenate(parts).tolist()
    assert both.train_windows(16) == sum(map(len, parts))


def test_a_text_that_lies_nowhere_has_no_documents() -> None:
    with pytest.raises(Refused, match="before documents were told apart"):
        window_scores(counting_corpus("a", 8), "truth", 8)
