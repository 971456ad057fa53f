"""The text that benches read: an endless run on the built-in corpora."""

from lab.corpora import open_corpus
from lab.identity import Path
from lab.mixture import Stream
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, hold, warm


def stream_of(model: ModelSpec, batch: int) -> Stream:
    """A long run on two corpora, half and half."""
    step = batch * model.context
    mixture = (Share("code", 0.5), Share("prose+docs", 0.5))
    phase = Phase("pretrain", 10**6 * step, mixture, (warm(step, 1e-3), hold()))
    run = RunSpec(model, OptimizerSpec(), (phase,), seed=0, batch=batch)
    corpora = {name: open_corpus(name) for name in run.corpora()}
    path = Path(run, {name: corpus.digest for name, corpus in corpora.items()})
    return Stream(path, {corpus.digest: corpus for corpus in corpora.values()})
