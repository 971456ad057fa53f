"""Models read the token ids of their corpora: their vocabulary is that of the corpora's tokenizer.

Studies state their models for bytes (or as published). Where the corpora of a sweep were prepared
with a tokenizer, its models take the tokenizer's vocabulary, unless somebody says otherwise.
"""

import dataclasses
from collections.abc import Collection, Iterable

from lab.corpora import own_tokenizer
from lab.spec import ModelSpec
from sweeps.grid import Grid
from sweeps.sweep import Sweep

FIELD = "model.vocabulary"


def vocabulary_of(corpora: Iterable[str]) -> int | None:
    """Ids of the corpora's tokenizer; None where all are bytes, or not there."""
    found = [one.vocabulary for name in corpora if (one := own_tokenizer(name)) is not None]
    return max(found, default=None)


def fitted(model: ModelSpec, *corpora: str) -> ModelSpec:
    """The model, for the tokenizer of the corpora."""
    vocabulary = vocabulary_of(corpora)
    return model if vocabulary is None else dataclasses.replace(model, vocabulary=vocabulary)


def with_vocabulary(sweep: Sweep, told: Collection[str] = ()) -> Sweep:
    """The sweep with the vocabulary of its corpora's tokenizer, but where it was `told` (paths).

    An adopted checkpoint has the vocabulary it came with.
    """
    from sweeps.plan import corpora_of

    vocabulary = vocabulary_of(corpora_of(sweep))
    if vocabulary is None or FIELD in told:
        return sweep
    arms = {}
    for name, grid in sweep.arms.items():
        base = grid.base
        if not (base.start or {FIELD, "model"} & set(grid.axes)):
            model = dataclasses.replace(base.model, vocabulary=vocabulary)
            base = dataclasses.replace(base, model=model)
        arms[name] = Grid(base, grid.axes)
    return dataclasses.replace(sweep, arms=arms)
