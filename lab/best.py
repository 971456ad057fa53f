"""The best part of a text: its training documents of highest score, until a share of its tokens.

`best-NAME` is that of the corpus NAME, by its score `perplexity` (`lab.scores`): the reference
model says which documents to keep, as KenLM does in Guo et al. (ACL 2025, arXiv 2406.14833). What
is held out of NAME is held out of it too, unchanged; documents stay in their order.
"""

import numpy as np

from lab.corpora import TokenStore
from lab.errors import Refused
from lab.scores import COMPUTED, Floats, Ints, document_scores, document_tokens, score_names
from lab.scores import VERSION as SCORES
from lab.texts import Text

SCORE = "perplexity"
SHARE = 0.25  # of the training tokens
VERSION = f"{SCORES}.1"  # of scores and of the choice; its last part is raised by hand


def best(store: TokenStore) -> Text:
    """The best documents of a prepared text. Raises Refused, Failed."""
    lengths = document_tokens(store)
    kept = chosen(document_scores(store, SCORE), lengths)
    ends = lengths.cumsum()
    separator = b"\x00" if not store.train[ends - 1].any() else b""
    parts = [
        store.train[end - length : end].tobytes() for end, length in zip(ends, lengths, strict=True)
    ]
    held_out = store.validation.tobytes()
    given = [name for name in score_names(store) if name not in COMPUTED]
    documents = [parts[k].removesuffix(separator) for k in kept]
    return Text(
        documents,
        f"{store.source}, best {SHARE:.0%} by {SCORE}",
        separator,
        scores={name: document_scores(store, name)[kept].tolist() for name in given},
        held_out=held_out.removesuffix(separator).split(separator) if separator else [held_out],
    )


def chosen(scores: Floats, tokens: Ints, share: float = SHARE) -> Ints:
    """Places, ascending, of the documents of highest score that hold `share` of all `tokens` [D].

    The last of them may reach beyond it; of equal scores the first counts as better. Refused
    where they are all.
    """
    order = np.argsort(-scores, kind="stable")
    count = int(np.searchsorted(tokens[order].cumsum(), share * tokens.sum())) + 1
    if count >= len(tokens):
        raise Refused(f"{len(tokens)} documents: too few to choose the best {share:.0%} of them")
    return np.sort(order[:count])
