"""`lab bench data`: windows/s of the input path against what the trainer eats."""

from typing import Any

from lab import mesh
from sweeps.bench.step import BATCH, SHAPES, step_seconds
from sweeps.bench.stream import stream_of
from sweeps.bench.timing import apart, median_seconds

STEPS = 64


def bench_data(repeats: int) -> dict[str, Any]:
    """Windows/s that the host gathers, and that the fastest trainer (smallest shape) eats."""
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
