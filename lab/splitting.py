"""Which documents are trained on, which are held out, and which are there already: by their hashes.

Sides are drawn before windows are cut and before anything is tokenised. In the order of their
hashes, documents are held out until a share of the text is, so that a document's side does not
follow from where it stands, nor from who read it. Sorted are a million documents at a time: memory
is a byte a document and what that takes.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

VALIDATION_SHARE = 0.05  # of the bytes of distinct documents
TRAIN, VALIDATION, DUPLICATE = range(3)
SORTED_AT_ONCE = 2**20  # documents
KEY_BYTES = 16  # of a document's SHA-256: two that agree in them are taken for the same

Keys = NDArray[np.uint64]
Sides = NDArray[np.uint8]


def key_of(document: bytes) -> bytes:
    """What a document is known by: KEY_BYTES of its hash."""
    return hashlib.sha256(document).digest()[:KEY_BYTES]


def keys_array(joined: bytes) -> Keys:
    """Keys one behind another -> [D, 2], in whose order they sort as bytes do."""
    return np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)


def sides(keys: Keys, lengths: NDArray[np.int64], at_once: int = SORTED_AT_ONCE) -> Sides:
    """TRAIN, VALIDATION or DUPLICATE of each document, [D]; `keys` [D, 2], `lengths` [D] in bytes.

    Of equal documents the first stays. One that is more than half of all text is never held out,
    and of others one at least stays for training: the last, in the order of the hashes.
    """
    out = np.full(len(keys), TRAIN, np.uint8)
    bits = max(0, (len(keys) // at_once).bit_length())
    total = 0
    for first in range(2**bits):
        found = _sorted_part(keys, first, bits)
        again = np.zeros(len(found), np.bool_)
        again[1:] = (keys[found[1:]] == keys[found[:-1]]).all(axis=1)
        out[found[again]] = DUPLICATE
        total += int(lengths[found[~again]].sum())
    distinct = out != DUPLICATE
    small = 2 * np.asarray(lengths) <= total
    candidates = int((distinct & small).sum())
    if candidates == int(distinct.sum()):  # else a larger one stays for training in any case
        candidates -= 1
    wanted = VALIDATION_SHARE * total
    taken = seen = 0
    for first in range(2**bits):
        found = _sorted_part(keys, first, bits)
        found = found[distinct[found] & small[found]][: max(0, candidates - seen)]
        begun = taken + np.cumsum(lengths[found]) - lengths[found]
        held_out = found[begun < wanted]
        out[held_out] = VALIDATION
        taken += int(lengths[held_out].sum())
        seen += len(found)
        if taken >= wanted:
            break
    return out


def _sorted_part(keys: Keys, part: int, bits: int) -> NDArray[np.int64]:
    """Places of the documents whose hashes begin with the `bits` of `part`, by hash, then place."""
    if bits:
        found = np.flatnonzero(keys[:, 0] >> np.uint64(64 - bits) == part)
    else:
        found = np.arange(len(keys))
    mine = keys[found]
    return found[np.lexsort((mine[:, 1], mine[:, 0]))]
