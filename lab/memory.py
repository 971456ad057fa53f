"""Memory of a training step on each device, estimated from a run's shape and layout; nothing runs.

Counted are the state (weights and the optimizer's moments, float32, in place), the gradient, what
the forward pass keeps for the backward pass, and logits with their gradient. What is kept was
measured, not derived, since XLA decides what to fuse and what to keep: the numbers below are fitted
to `compiled.memory_analysis()` of XLA's CPU compiler (jax 0.10.2) over 102 programs of 17 shapes,
and hold within 15 % (tests/lab/test_memory.py). That compiler widens bf16 to float32 inside a
block, so bf16 counts as float32 here: on accelerators, where nobody has measured, it takes less.
"""

from dataclasses import dataclass

from lab.blocks import UNROLLED_LAYERS, query_blocks
from lab.flops import parameters
from lab.layout import Layout
from lab.spec import Shape

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Kept:
    """Floats at the peak of a step.

    A token and layer keeps `whole` D, `by_head` D divided as heads are, `hidden` F and `scores` of
    its row of scores; a token keeps `logits` V; and there are `gradients` of the parameters.
    """

    whole: float
    by_head: float
    hidden: float
    scores: float
    logits: float
    gradients: float


UNROLLED = Kept(7.0, 8.0, 3.4, 2.9, 1.6, 0.5)
UNROLLED_BF16 = Kept(6.0, 5.5, 2.2, 2.9, 2.2, 1.6)
SCANNED = Kept(5.0, 11.0, 5.2, 2.2, 1.6, 1.5)


def state_bytes(shape: Shape, layout: Layout) -> int:
    """Bytes of one run's state at rest on each of its devices."""
    count = parameters(shape.model)
    floats = 3 * count.total
    if shape.optimizer == "muon":
        floats -= count.matrices  # no second moment
    gains = 3 * count.gains  # not divided
    return round(FLOAT * (gains + (floats - gains) / (layout.fsdp * layout.tensor)))


def train_bytes(shape: Shape, layout: Layout) -> int:
    """Estimated peak bytes of one run's training step on each of its devices, state included."""
    model, count = shape.model, parameters(shape.model).total
    scanned = model.layers > UNROLLED_LAYERS
    widened = shape.precision == "float32" or layout.remat
    kept = SCANNED if scanned else UNROLLED if widened else UNROLLED_BF16
    tokens = shape.batch * model.context / (layout.data * layout.fsdp * layout.accumulate)
    blocks = query_blocks(model.context)
    row = model.heads * model.context * (blocks + 1) / (2 * blocks)  # queries go in blocks
    by_head = kept.by_head * model.width + kept.hidden * model.mlp_width + kept.scores * row
    block = tokens * (kept.whole * model.width + by_head / layout.tensor)
    logits = tokens * kept.logits * model.vocabulary / layout.tensor
    gradients = kept.gradients + (layout.accumulate > 1)
    activations = model.layers * block + logits
    if layout.remat:  # inputs of blocks, and the insides of one or the logits; layers are stacked
        activations = model.layers * tokens * model.width + max(block, logits)
        gradients += 0 if scanned else 2
    parts = layout.fsdp * layout.tensor
    return state_bytes(shape, layout) + round(FLOAT * (activations + gradients * count / parts))
