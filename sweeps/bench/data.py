"""`lab bench data`: windows/s of the input path against what the trainer eats."""

from typing import Any

from lab.corpora import open_corpus
from lab.identity import Path
from lab.mixture import Stream
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, hold, warm
from sweeps.bench.timing import median_seconds

STEPS = 64


def stream_of(model: ModelSpec, batch: int) -> Stream:
    """A long run on two corpora, half and half."""
    step = batch * model.context
    mixture = (Share("code", 0.5), Share("prose+docs", 0.5))
    phase = Phase("pretrain", 10**6 * step, mixture, (warm(step, 1e-3), hold()))
    run = RunSpec(model, OptimizerSpec(), (phase,), seed=0, batch=batch)
    corpora = {name: open_corpus(name) for name in run.corpora()}
    path = Path(run, {name: corpus.digest for name, corpus in corpora.items()})
    return Stream(path, {corpus.digest: corpus for corpus in corpora.values()})


def bench_data(repeats: int) -> dict[str, Any]:
    """Windows/s that the host gathers, and that the fastest trainer (smallest shape) eats."""
    from lab import mesh
    from sweeps.bench.step import BATCH, SHAPES, step_seconds
    from sweeps.bench.timing import apart

    model = SHAPES[0]
    stream = stream_of(model, BATCH)
    place = iter(range(0, 10**9, STEPS))
    seconds = median_seconds(lambda: stream.tokens(next(place), STEPS), repeats)
    gathered = STEPS * BATCH / seconds
    lanes = mesh.default_lanes()
    eaten = lanes * BATCH / apart(step_seconds, model, lanes, repeats)
    return {
        "width": model.width,
        "context": model.context,
        "windows_per_second": gathered,
        "eaten_windows_per_second": eaten,
        "ratio": gathered / eaten,
    }
