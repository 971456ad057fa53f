"""The best part of a text: which documents it keeps, and that nothing held out gets into it."""

from pathlib import Path

import numpy as np
import pytest

from lab import texts
from lab.best import SHARE, chosen
from lab.corpora import made_best, open_corpus, refuse_name
from lab.errors import Refused
from lab.scores import document_scores, document_tokens
from lab.texts import Text

DOCUMENTS = [
    b"document %d says " % k + b" ".join([b"the words of day %d" % (k % 7)] * (20 + k % 9))
    for k in range(120)
]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a short text under the name of a built-in one."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setitem(texts.BUILT_IN, "code", clean)
    monkeypatch.setitem(texts.BUILT_IN, "damaged-code", lambda: texts.damaged(clean))
    return tmp_path


def clean() -> Text:
    return Text(DOCUMENTS, "a test")


def test_the_highest_scores_are_kept_until_the_share_is_full() -> None:
    scores = np.array([3.0, 1.0, 5.0, 4.0, 2.0])
    tokens = np.array([10, 10, 10, 10, 10])
    assert chosen(scores, tokens, 0.2).tolist() == [2]
    assert chosen(scores, tokens, 0.4).tolist() == [2, 3]
    assert chosen(scores, tokens, 0.41).tolist() == [0, 2, 3]  # begun, so kept whole
    assert chosen(np.zeros(4), np.ones(4, np.int64), 0.5).tolist() == [0, 1]
    long = np.array([10, 10, 60, 10, 10])
    assert chosen(scores, long, 0.4).tolist() == [2]
    with pytest.raises(Refused, match="5 documents: too few to choose the best 99%"):
        chosen(scores, tokens, 0.99)


def test_it_holds_the_best_documents_and_the_same_held_out_text(own_home: Path) -> None:
    store = open_corpus("damaged-code").parts[0]
    kept = open_corpus("best-damaged-code", verify=True).parts[0]
    score, lengths = document_scores(store, "perplexity"), document_tokens(store)
    assert kept.validation.tobytes() == store.validation.tobytes()
    assert kept.bytes_per_token == pytest.approx(store.bytes_per_token, abs=1e-12)
    assert len(kept.train) >= SHARE * len(store.train)
    assert len(kept.train) - document_tokens(kept).max() < SHARE * len(store.train)
    ends = lengths.cumsum()
    documents = [store.train[b - a : b].tobytes() for a, b in zip(lengths, ends, strict=True)]
    mine, at = document_tokens(kept), document_tokens(kept).cumsum()
    held = [kept.train[b - a : b].tobytes() for a, b in zip(mine, at, strict=True)]
    places = [documents.index(one) for one in held]
    assert places == sorted(places)  # in their order
    assert score[places].min() > np.delete(score, places).max()
    truth, known = document_scores(kept, "truth"), document_scores(store, "truth")
    np.testing.assert_array_equal(truth, known[places])
    assert truth.mean() > known.mean() + 0.05  # of .15 at most: the score knows the truth
    assert kept.digest != store.digest
    assert open_corpus("best-damaged-code").digest == kept.digest


def test_a_text_of_the_users_own_has_a_best_part_too(own_home: Path) -> None:
    from lab.corpora import write_store

    write_store(own_home / "corpora" / "mine", "mine", Text(DOCUMENTS[:60], "mine"))
    assert made_best() == []
    one = open_corpus("best-mine").parts[0]
    assert made_best() == ["best-mine"]
    assert 0 < len(one.train) < 0.4 * len(open_corpus("mine").parts[0].train)
    write_store(own_home / "corpora" / "other", "other", Text(DOCUMENTS[60:], "other"))
    # another text under the name: its best part is made anew
    (own_home / "corpora" / "mine").rename(own_home / "corpora" / "away")
    (own_home / "corpora" / "other").rename(own_home / "corpora" / "mine")
    assert made_best() == []
    assert open_corpus("best-mine").parts[0].digest != one.digest


def test_a_text_without_separators_is_cut_at_its_documents(own_home: Path) -> None:
    from lab.corpora import write_store

    write_store(own_home / "corpora" / "bare", "bare", Text(DOCUMENTS, "bare", separator=b""))
    store = open_corpus("bare").parts[0]
    kept = open_corpus("best-bare", verify=True).parts[0]
    ends = document_tokens(kept).cumsum()
    documents = {one.tobytes() for one in np.split(np.asarray(kept.train), ends[:-1])}
    assert documents < set(DOCUMENTS)
    assert kept.validation.tobytes() == store.validation.tobytes()


def test_names_that_would_be_taken_for_a_best_part_are_refused(own_home: Path) -> None:
    with pytest.raises(Refused, match=r"best-\* are made from corpora that are there"):
        refuse_name("best-mine")
    with pytest.raises(Refused, match=r"unknown corpus 'nothing'"):
        open_corpus("best-nothing")
    with pytest.raises(Refused, match=r"unknown corpus '\.\./code'"):
        open_corpus("best-../code")
