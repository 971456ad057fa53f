"""Sides follow from hashes alone, by the rule of a plain loop, however much is sorted at once."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lab.splitting import DUPLICATE, TRAIN, VALIDATION, VALIDATION_SHARE, key_of, keys_array, sides
from tests.lab.building import few

documents = st.lists(st.binary(max_size=40), max_size=60)


def plainly(texts: list[bytes]) -> list[int]:
    """The rule, a document at a time."""
    first = {text: k for k, text in reversed(list(enumerate(texts)))}
    distinct = sorted(first, key=lambda text: hashlib.sha256(text).digest())
    total = sum(map(len, distinct))
    may_go = [text for text in distinct if 2 * len(text) <= total]
    if len(may_go) == len(distinct):
        may_go = may_go[:-1]
    out = [TRAIN if first[text] == k else DUPLICATE for k, text in enumerate(texts)]
    taken = 0
    for text in may_go:
        if taken >= VALIDATION_SHARE * total:
            break
        out[first[text]] = VALIDATION
        taken += len(text)
    return out


def drawn(texts: list[bytes], at_once: int) -> list[int]:
    keys = keys_array(b"".join(map(key_of, texts)))
    return sides(keys, np.array([len(text) for text in texts], np.int64), at_once).tolist()


@few
@given(documents, st.sampled_from([1, 2, 7, 2**20]))
def test_sides_are_those_of_the_plain_rule(texts: list[bytes], at_once: int) -> None:
    assert drawn(texts, at_once) == plainly(texts)


@few
@given(documents, st.randoms(use_true_random=False))
def test_no_document_is_on_both_sides_and_order_does_not_matter(
    texts: list[bytes], random: "st.randoms"
) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    mine, other = (
        {side: {t for t, s in zip(of, drawn(of, 4), strict=True) if s == side} for side in range(2)}
        for of in (texts, shuffled)
    )
    assert mine == other
    assert not mine[TRAIN] & mine[VALIDATION]
    assert mine[TRAIN] | mine[VALIDATION] == set(texts)
    assert drawn(texts, 4).count(DUPLICATE) == len(texts) - len(set(texts))


def test_keys_sort_as_the_bytes_of_the_hashes_do() -> None:
    texts = [b"%d" % k for k in range(99)]
    keys = keys_array(b"".join(map(key_of, texts)))
    by_keys = np.lexsort((keys[:, 1], keys[:, 0])).tolist()
    assert by_keys == sorted(range(99), key=lambda k: hashlib.sha256(texts[k]).digest())
