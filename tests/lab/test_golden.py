"""The arithmetic of a step: against NumPy in float64, and against what it was.

When only the frozen numbers fail, our arithmetic has changed: raise `lab.identity.NUMERICS`, so
that states trained before are not taken for states trained now, and freeze the new numbers.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lab.checkpoint import flatten
from lab.identity import NUMERICS
from lab.mesh import lanes
from lab.optimizer import hyper
from lab.spec import ModelSpec, OptimizerSpec, Shape
from lab.train import Chunk, State, StepLog, Trainer
from sweeps import self_test

MODEL = ModelSpec(width=8, layers=2, heads=2, mlp_width=12, context=6, vocabulary=11)
TIED = dataclasses.replace(MODEL, tied_embedding=True)
TEXT = (np.arange(200) ** 2 + 3 * np.arange(200) // 7) % 11
STARTS = np.array([[0, 31], [70, 12], [101, 150]], np.int32)
RATES = np.array([1e-2, 2e-2, 5e-3], np.float32)


@functools.cache
def trainer(model: ModelSpec) -> Trainer:
    return Trainer(Shape(model, batch=2), lanes(1), chunk=3)


def trained(model: ModelSpec, optimizer: OptimizerSpec, steps: int) -> tuple[State, StepLog]:
    one = trainer(model)
    stack = one.put(one.empty_stack(), 0, one.initial(2405))
    stacked = jax.tree.map(lambda x: x[None], hyper(optimizer))
    chunk = Chunk(
        jnp.asarray(TEXT, jnp.uint8),
        STARTS[None],
        RATES[None],
        stacked,
        np.array([steps], np.int32),
    )
    stack, log = one.train(stack, chunk)
    return one.take(stack, 0), log


# Against NumPy -------------------------------------------------------------------------------


def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * gain


def rotated(x: np.ndarray) -> np.ndarray:
    """Channels i and i + K/2 as a complex number, turned by position / 10000^(i / (K/2))."""
    half = x.shape[-1] // 2
    turns = np.arange(x.shape[-2])[:, None] * 10_000.0 ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * turns)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def reference_loss(p: dict[str, np.ndarray], model: ModelSpec, windows: np.ndarray) -> float:
    """Mean loss of windows [B, L + 1], a window and a head at a time."""
    losses = []
    for window in windows:
        x = p["embedding_VD"][window[:-1]]
        length, channels = len(x), model.width // model.heads
        for k in range(model.layers):
            block = {name.removeprefix(f"blocks.{k}."): value for name, value in p.items()}
            h = norm(x, block["attention_norm.gain_D"])
            q, key, v = np.split(h @ block["attention.qkv_D3D"], 3, axis=1)
            heads = []
            for n in range(model.heads):
                mine = slice(n * channels, (n + 1) * channels)
                scores = rotated(q[:, mine]) @ rotated(key[:, mine]).T / np.sqrt(channels)
                scores[np.triu_indices(length, 1)] = -np.inf
                heads.append(softmax(scores) @ v[:, mine])
            x = x + np.concatenate(heads, axis=1) @ block["attention.out_DD"]
            h = norm(x, block["mlp_norm.gain_D"])
            gate = h @ block["mlp.gate_DF"]
            x = x + (gate / (1 + np.exp(-gate)) * (h @ block["mlp.up_DF"])) @ block["mlp.down_FD"]
        x = norm(x, p["norm.gain_D"])
        head = p["embedding_VD"].T / np.sqrt(model.width) if model.tied_embedding else p["head_DV"]
        losses.extend(-np.log(softmax(x @ head)[np.arange(length), window[1:]]))
    return float(np.mean(losses))


def named(params: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf, np.float64) for name, leaf in flatten(params).items()}


@pytest.mark.parametrize("model", [MODEL, TIED])
def test_one_step_is_that_of_a_plain_reference(model: ModelSpec) -> None:
    optimizer = OptimizerSpec(b1=0.9, b2=0.95, eps=1e-3, weight_decay=0.1, clip_norm=1e6)
    before = named(trainer(model).initial(2405)["params"])
    after, log = trained(model, optimizer, 1)
    windows = TEXT[STARTS[0][:, None] + np.arange(model.context + 1)]
    assert float(log.loss_nats[0, 0]) == pytest.approx(
        reference_loss(before, model, windows), rel=1e-6
    )
    new = named(after["params"])
    gradients = {name: mu / (1 - 0.9) for name, mu in named(after["optimizer"]["mu"]).items()}
    draw = np.random.default_rng(0)
    for name, value in before.items():
        gradient = gradients[name]
        for _ in range(4):
            place = tuple(draw.integers(0, value.shape))
            if name == "embedding_VD":
                place = (windows[0, draw.integers(0, 6)], place[1])  # of a token that was read
            losses = []
            for step in (1e-6, -1e-6):
                moved = value.copy()
                moved[place] += step
                losses.append(reference_loss(before | {name: moved}, model, windows))
            slope = (losses[0] - losses[1]) / 2e-6
            # measured: at most 5e-7 of the largest
            assert abs(gradient[place] - slope) < 2e-6 * np.abs(gradient).max(), name
        decay = 0.1 * value if value.ndim > 1 else 0.0
        wanted = value - 1e-2 * (gradient / (np.abs(gradient) + 1e-3) + decay)
        np.testing.assert_allclose(new[name], wanted, rtol=1e-6, atol=1e-8, err_msg=name)


def test_the_logged_norm_is_that_of_the_whole_gradient() -> None:
    optimizer = OptimizerSpec(b1=0.5, clip_norm=1e6)
    after, log = trained(MODEL, optimizer, 1)
    squares = sum(((leaf / 0.5) ** 2).sum() for leaf in named(after["optimizer"]["mu"]).values())
    assert float(log.grad_norm[0, 0]) == pytest.approx(np.sqrt(squares), rel=1e-6)


# Against what it was -------------------------------------------------------------------------

# Sums are of absolute values, in float64.
FROZEN: dict[str, Any] = {
    "numerics": 1,
    "initial": 302.995159,
    "loss_nats": [2.43611455, 2.52150798, 2.47681856],
    "grad_norm": [9.04936981, 6.89686632, 2.67754722],
    "parameters": {
        "blocks": 286.487891,
        "embedding_VD": 2.19677149,
        "head_DV": 8.20784249,
        "norm": 7.85219604,
    },
    "mu": 0.913722248,
    "nu": 0.0356562556,
}


def size(tree: Any) -> float:
    return float(sum(np.abs(leaf).sum() for leaf in named(tree).values()))


def test_three_steps_are_what_they_were() -> None:
    after, log = trained(MODEL, OptimizerSpec(clip_norm=0.5), 3)
    initial = trainer(MODEL).initial(2405)
    found = {
        "numerics": NUMERICS,
        "initial": size(initial["params"]),
        "loss_nats": np.asarray(log.loss_nats)[0].tolist(),
        "grad_norm": np.asarray(log.grad_norm)[0].tolist(),
        "parameters": {name: size(leaf) for name, leaf in after["params"].items()},
        "mu": size(after["optimizer"]["mu"]),
        "nu": size(after["optimizer"]["nu"]),
    }
    assert found.keys() == FROZEN.keys()
    for name, frozen in FROZEN.items():
        assert found[name] == pytest.approx(frozen, rel=1e-6), name


def test_what_lab_doctor_tries_is_the_frozen_model() -> None:
    assert list(self_test.LOSSES_NATS) == FROZEN["loss_nats"]
    assert self_test.three_steps() == pytest.approx(FROZEN["loss_nats"], rel=1e-6)
