"""Text of known quality: a share of each document's bytes, drawn for it alone, is replaced.

What is drawn for a document follows from its own bytes, so that it does not depend on which others
there are, nor on their order. The truth is kept: a document's quality is the share of its bytes
that were left as they were. Lengths stay, so clean and damaged text have the same places.
"""

import hashlib

import numpy as np

PREFIX = "damaged-"  # of a corpus's name
LARGEST_SHARE = 0.3  # of a document's bytes; the share is uniform from 0 to here
TRUTH = "truth"  # name of the score that says what was done


def damage(document: bytes) -> tuple[bytes, float]:
    """The document with some bytes replaced, and the share of its bytes that were not.

    A replaced byte becomes any other but 0, which ends documents, with equal chance.
    """
    seed = hashlib.sha256(b"damage/" + document).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    text = np.frombuffer(document, np.uint8).copy()
    count = round(LARGEST_SHARE * draw.random() * len(text))
    places = draw.permutation(len(text))[:count]
    old = text[places]
    other = draw.integers(1, 255, count).astype(np.uint8)  # 1..254: the old byte is stepped over
    text[places] = other + (other >= old) * (old > 0)
    return text.tobytes(), 1 - count / max(len(text), 1)
