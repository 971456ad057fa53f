"""The best part of a text: its training documents of highest score, until a share of its tokens.

`best-NAME` is that of the corpus NAME, by its score `perplexity` (`lab.scores`): the reference
model says which documents to keep, as KenLM does in Guo et al. (ACL 2025, arXiv 2406.14833). What
is held out of NAME is held out of it too, unchanged; documents stay in their order.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from lab import tokenizers
from lab.corpora import (
    DOCUMENTS,
    FORMAT,
    SIDES,
    TOKENS,
    VALIDATION_BYTES,
    TokenStore,
)
from lab.errors import Refused
from lab.placing import DESCRIPTION, digest_of, placed
from lab.scores import COMPUTED, Floats, Ints, document_scores, document_tokens, score_names
from lab.scores import VERSION as SCORES
from lab.spec import canonical

SCORE = "perplexity"
SHARE = 0.25  # of the training tokens
VERSION = f"{SCORES}.1"  # of scores and of the choice; its last part is raised by hand


def write_best(folder: Path, name: str, store: TokenStore) -> None:
    """Write the best documents of a prepared text as a store. Raises Refused, Failed."""
    lengths = document_tokens(store)
    kept = chosen(document_scores(store, SCORE), lengths)
    ends = lengths.cumsum()
    assert store.folder is not None
    given = [one for one in score_names(store) if one not in COMPUTED]
    columns = {one: document_scores(store, one)[kept] for one in given}
    with placed(folder, name) as partial:
        digest = hashlib.sha256()
        with (partial / f"{SIDES[0]}.bin").open("wb") as file:
            for k in kept.tolist():
                tokens = store.train[ends[k] - lengths[k] : ends[k]].tobytes()
                digest.update(tokens)
                file.write(tokens)
        unchanged = (f"{SIDES[1]}.bin", VALIDATION_BYTES, *tokenizers.FILES)
        for one in unchanged:
            if (store.folder / one).exists():
                shutil.copyfile(store.folder / one, partial / one)
        held_out = hashlib.sha256(store.validation.data).hexdigest()
        (partial / DOCUMENTS).mkdir()
        for one, column in {TOKENS: lengths[kept], **columns}.items():
            np.save(partial / DOCUMENTS / f"{one}.npy", column, allow_pickle=False)
        description = {
            "format": FORMAT,
            "name": name,
            "source": f"{store.source}, best {SHARE:.0%} by {SCORE}",
            "tokenizer": store.tokenizer,
            "dtype": str(store.train.dtype),
            "vocabulary": store.vocabulary,
            "documents": len(kept) + store.documents - len(lengths),
            "duplicates": 0,
            "bytes_per_token": store.bytes_per_token,
            "entropy_rate_nats": None,
            "digest": digest_of([digest.hexdigest(), held_out], store.tokenizer_digest),
        }
        if store.tokenizer_digest:
            description["tokenizer_digest"] = store.tokenizer_digest
        (partial / DESCRIPTION).write_text(canonical(description))


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
