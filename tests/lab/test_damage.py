"""Damaged documents: the share that was replaced is known, and what is held out stays held out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import texts
from lab.corpora import TokenStore, open_corpus, refuse_name
from lab.damage import LARGEST_SHARE, damage
from lab.errors import Refused
from lab.scores import document_scores, document_tokens
from lab.texts import Text
from tests.lab.building import few

DOCUMENTS = [b"document %d says " % k + bytes([65 + k % 26]) * (400 + k) for k in range(80)]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[TokenStore, TokenStore]:
    """The stores of a clean and of a damaged text, in a folder of their own."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setitem(texts.BUILT_IN, "code", clean)
    monkeypatch.setitem(texts.BUILT_IN, "damaged-code", lambda: texts.damaged(clean))
    return open_corpus("code").parts[0], open_corpus("damaged-code").parts[0]


def clean() -> Text:
    return Text([*DOCUMENTS, DOCUMENTS[3]], "a test")


@few
@given(st.binary(max_size=600))
def test_the_truth_is_the_share_of_bytes_that_are_left(document: bytes) -> None:
    made, truth = damage(document)
    left = sum(a == b for a, b in zip(document, made, strict=True))
    assert truth == pytest.approx(left / len(document) if document else 1.0, abs=1e-12)
    assert round((1 - truth) * len(document)) <= round(LARGEST_SHARE * len(document))
    # where it was changed, it is not to a byte that ends a document
    assert all(b != 0 for a, b in zip(document, made, strict=True) if a != b)
    assert damage(document) == (made, truth)


def test_shares_are_spread_evenly_and_replacements_over_all_bytes() -> None:
    struck = [1 - damage(b"%d " % k + b"a" * 2000)[1] for k in range(300)]
    # uniform on 0 .. .3: the share below .1 is 1/3 with sd .027, the mean .15 with sd .005
    assert np.mean(np.array(struck) < 0.1) == pytest.approx(1 / 3, abs=0.11)
    assert np.mean(struck) == pytest.approx(0.15, abs=0.02)
    made = np.frombuffer(b"".join(damage(b"%d " % k + b"a" * 2000)[0] for k in range(300)), "u1")
    counts = np.bincount(made, minlength=256)
    others = np.delete(counts[1:], ord("a") - 1)
    assert counts[0] == 0
    assert others.min() > 0.6 * others.mean()  # about 355 each, sd 19


def test_sides_are_those_of_the_clean_text(both: tuple[TokenStore, TokenStore]) -> None:
    clean_store, store = both
    assert store.digest != clean_store.digest
    assert (store.documents, store.duplicates) == (80, 1)
    for side in ("train", "validation"):
        there, here = getattr(clean_store, side), getattr(store, side)
        assert len(here) == len(there)
        assert np.array_equal(here == 0, there == 0)  # documents begin where they did
        documents = there.tobytes().split(b"\0")[:-1]
        assert [damage(one)[0] for one in documents] == here.tobytes().split(b"\0")[:-1]


def test_the_truth_stands_beside_the_store(both: tuple[TokenStore, TokenStore]) -> None:
    clean_store, store = both
    documents = clean_store.train.tobytes().split(b"\0")[:-1]
    assert document_tokens(store).tolist() == [len(one) + 1 for one in documents]
    assert document_scores(store, "truth").tolist() == [damage(one)[1] for one in documents]
    with pytest.raises(Refused, match=r"'code' has no score 'truth'; it has compression, perp"):
        document_scores(clean_store, "truth")


def test_no_corpus_of_a_user_looks_damaged() -> None:
    with pytest.raises(Refused, match=r"damaged-\* are made from corpora that are there"):
        refuse_name("damaged-mine")
