"""A text that can be learnt and a run on it, laid out in any way: what layouts are compared by."""

from typing import Any

import jax
import numpy as np

from lab.layout import Layout
from lab.mesh import lanes
from lab.optimizer import hyper
from lab.spec import ModelSpec, OptimizerSpec, Shape
from lab.train import Chunk, State, Trainer

MODEL = ModelSpec(width=32, layers=3, heads=4, mlp_width=64, context=32, vocabulary=64)
BATCH, STEPS, RATE = 16, 40, 3e-3


def text() -> np.ndarray:
    """The next token follows from the last, seven times of eight."""
    draw = np.random.default_rng(0)
    tokens = [0]
    for noise, other in zip(draw.random(8000), draw.integers(0, 64, 8000), strict=True):
        tokens.append(int(other) if noise < 1 / 8 else (5 * tokens[-1] + 3) % 64)
    return np.array(tokens, np.uint8)


TEXT = text()
STARTS = np.random.default_rng(1).integers(0, 7900, (STEPS, BATCH)).astype(np.int32)


def trainer(
    layout: Layout, stack: int = 1, batched: bool = False, model: ModelSpec = MODEL, **shape: Any
) -> Trainer:
    return Trainer(Shape(model, BATCH, **shape), lanes(stack, layout, batched), STEPS)


def go_on(one: Trainer, stack: State, first: int, steps: int) -> tuple[State, np.ndarray]:
    """All lanes by `steps` steps: (stack, losses of lane 0)."""
    count = one.lanes.count
    spec = OptimizerSpec(name=one.shape.optimizer)
    starts = np.zeros((count, STEPS, BATCH), np.int32)
    starts[:, :steps] = STARTS[first : first + steps]
    chunk = Chunk(
        jax.device_put(TEXT, one.lanes.replicated),
        starts,
        np.full((count, STEPS), RATE, np.float32),
        jax.tree.map(lambda x: np.full(count, x, np.float32), hyper(spec)),
        np.full(count, steps, np.int32),
    )
    stack, log = one.train(stack, chunk)
    return stack, np.asarray(log.loss_nats)[0, :steps]


def filled(one: Trainer, state: State | None = None) -> State:
    """A stack with `state`, or the initial one of seed 3, in every lane."""
    stack = one.empty_stack()
    for lane in range(one.lanes.count):
        stack = one.put(stack, lane, one.initial(3) if state is None else state)
    return stack


def trained(layout: Layout, **more: Any) -> tuple[np.ndarray, State]:
    """Losses of STEPS steps, and the state behind them."""
    one = trainer(layout, **more)
    stack, losses = go_on(one, filled(one), 0, STEPS)
    return losses, one.take(stack, 0)
