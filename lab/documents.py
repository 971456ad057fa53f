"""The documents of a prepared text, as text again."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lab import tokenizers
from lab.corpora import TokenStore
from lab.damage import TRUTH, damage
from lab.errors import Refused
from lab.texts import Text


def training_documents(store: TokenStore, lengths: NDArray[np.int64]) -> Iterator[bytes]:
    """Text of each training document; `lengths` [D] are their tokens, what ends them included.

    Of bytes it is what is stored, a separator at the end included.
    """
    ends = lengths.cumsum()
    places = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    if store.folder is None or not store.tokenizer_digest:
        yield from (store.train[begun:end].tobytes() for begun, end in places)
        return
    tokenizer = tokenizers.saved(store.folder)
    yield from (tokenizer.decode(store.train[begun:end]) for begun, end in places)


def damaged(store: TokenStore) -> Text:
    """A text of the user's own whose documents are of unlike, known quality (`lab.damage`).

    What is held out of the text is held out, damaged, of this one too. Raises Refused, Failed.
    """
    from lab.scores import document_tokens

    if store.tokenizer_digest:
        raise Refused(
            f"corpus {store.name!r} has {store.tokenizer}: damage replaces bytes: prepare it with "
            f"--tokenizer bytes"
        )
    texts = training_documents(store, document_tokens(store))
    made = [damage(one.removesuffix(b"\0")) for one in texts]
    held_out = store.validation.tobytes().removesuffix(b"\0").split(b"\0")
    return Text(
        [document for document, _ in made],
        f"{store.source}, damaged",
        scores={TRUTH: [truth for _, truth in made]},
        held_out=[damage(one)[0] for one in held_out],
    )
