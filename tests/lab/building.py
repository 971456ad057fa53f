"""The little runs and corpora that these tests are made of."""

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from lab.corpora import Corpus, TokenStore
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, Stage, hold, warm

# Derandomised: a test that passed here passes anywhere, and no example database is kept.
few = settings(deadline=None, max_examples=40, database=None, derandomize=True)

TINY = ModelSpec(width=16, layers=1, heads=2, mlp_width=24, context=8, vocabulary=32)
BATCH = 2
STEP = BATCH * TINY.context  # tokens of one step
LR = 1e-3


def shares(**weights: float) -> tuple[Share, ...]:
    """A mixture by keyword: `shares(a=0.25, b=0.75)`."""
    return tuple(Share(corpus, weight) for corpus, weight in weights.items())


def phase(name: str, steps: int, mixture: tuple[Share, ...], *stages: Stage, **more: Any) -> Phase:
    """A phase of `steps` steps of TINY; warms for one step, then holds, unless told otherwise."""
    return Phase(name, steps * STEP, mixture, stages or (warm(STEP, LR), hold()), **more)


def run_of(*phases: Phase, **more: Any) -> RunSpec:
    """A run of TINY."""
    fields: dict[str, Any] = {"model": TINY, "optimizer": OptimizerSpec(), "seed": 0}
    return RunSpec(**(fields | {"batch": BATCH} | more), phases=phases)


def counting_corpus(name: str, windows: int, context: int = TINY.context) -> Corpus:
    """Train token p is p, so that a window's first token names it: window w begins at w context."""
    train = np.arange(windows * context + 1, dtype=np.uint32)
    return corpus_of(name, train, train[: 4 * context + 1])


def corpus_of(name: str, train: Any, validation: Any, bytes_per_token: float = 1.0) -> Corpus:
    """A corpus that is nowhere on disk."""
    store = TokenStore(
        name=name,
        digest=f"{name:0>32}",
        train=train,
        validation=validation,
        vocabulary=int(max(train.max(), validation.max())) + 1,
        bytes_per_token=bytes_per_token,
        source="made by a test",
        documents=2,
        duplicates=0,
        entropy_rate_nats=None,
    )
    return Corpus(name, (store,))


def unit_floats(**more: Any) -> st.SearchStrategy[float]:
    return st.floats(0, 1, allow_nan=False, **more)


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Share, ...]:
    """One to three corpora; weights 0 and 1 included."""
    parts = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3).filter(any))
    return tuple(Share(name, part / sum(parts)) for name, part in zip("abc", parts, strict=False))


@st.composite
def run_specs(draw: st.DrawFn) -> RunSpec:
    """Any run that may be asked for, small."""
    heads = draw(st.integers(1, 3))
    model = ModelSpec(
        width=heads * draw(st.sampled_from([2, 4, 8])),
        layers=draw(st.integers(1, 3)),
        heads=heads,
        mlp_width=draw(st.integers(1, 64)),
        context=draw(st.integers(1, 32)),
        vocabulary=draw(st.integers(1, 300)),
        tied_embedding=draw(st.booleans()),
    )
    optimizer = OptimizerSpec(
        b1=draw(unit_floats(exclude_max=True)),
        b2=draw(unit_floats(exclude_max=True)),
        eps=draw(unit_floats(exclude_min=True)),
        weight_decay=draw(unit_floats()),
        clip_norm=draw(unit_floats(exclude_min=True)),
    )
    batch = draw(st.integers(1, 4))
    phases: list[Phase] = []
    lr = 0.0
    for name in draw(st.sampled_from([["pretrain"], ["pretrain", "cpt"], ["p", "q", "r"]])):
        stages: list[Stage] = []
        total = 0
        for shape in draw(
            st.lists(
                st.sampled_from(["warm", "hold", "linear", "cosine", "1-sqrt"]),
                min_size=1,
                max_size=4,
            )
        ):
            tokens = draw(st.integers(1, 5)) * batch * model.context
            total += tokens
            if shape != "hold":
                share = draw(unit_floats())
                lr = lr + share * 1e-2 if shape == "warm" else lr * share
            stages.append(Stage(shape, tokens, None if shape == "hold" else lr))
        open_ = draw(st.none() | st.integers(0, len(stages) - 1))
        if open_ is not None:
            stages[open_] = Stage(stages[open_].shape, None, stages[open_].to_lr)
        reset = draw(st.booleans())
        phases.append(Phase(name, total, draw(mixtures()), tuple(stages), reset))
    seed = draw(st.integers(0, 2**32 - 1))
    return RunSpec(model, optimizer, tuple(phases), seed, batch)
