"""Losses of a state on held-out text: nats per token, bits per byte, next-token accuracy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from lab.evaluation_set import EvaluationSet
from lab.model import log_losses
from lab.sharding import WINDOWS, devices_of, used

MAX_WINDOWS_AT_ONCE = 32


class Evaluation(NamedTuple):
    """Sums over the tokens of each window; [S, E, W] each for S lanes and E sets."""

    nats: Array
    correct: Array


@dataclass(frozen=True)
class Scores:
    """One state on one evaluation set."""

    loss_nats: float
    bits_per_byte: float
    accuracy: float


def lane_evaluation(
    apply: Callable[[Any, Array], Array], params: Any, windows: Array, wanted: Array
) -> Evaluation:
    """Evaluate one lane on windows [E, W, L + 1], or give zeros where it is not wanted.

    A few windows at a time, so that memory does not grow with the evaluation set; the same number
    on each device that a run is divided over.
    """
    sets, count, length = windows.shape
    devices = devices_of(*WINDOWS)
    most = max(MAX_WINDOWS_AT_ONCE, devices)
    at_once = max(n for n in range(devices, most + 1, devices) if count % n == 0)
    parts = windows.reshape(sets * count // at_once, at_once, length)

    def one_part(part: Array) -> tuple[Array, Array]:
        part = used(part, "windows_BL")
        targets = part[:, 1:]
        logits_NV = apply(params, part[:, :-1])
        nats = log_losses(logits_NV, targets.reshape(-1)).reshape(targets.shape)
        correct = logits_NV.argmax(axis=-1).reshape(targets.shape) == targets
        return nats.sum(axis=1), correct.sum(axis=1)

    def all_parts() -> tuple[Array, Array]:
        return jax.lax.map(one_part, parts)

    def nothing() -> tuple[Array, Array]:
        shape = parts.shape[:2]
        return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32)

    nats, correct = jax.lax.cond(wanted, all_parts, nothing)
    return Evaluation(nats.reshape(sets, count), correct.reshape(sets, count))


def scores(
    nats_W: NDArray[np.float32], correct_W: NDArray[np.int32], evaluation_set: EvaluationSet
) -> Scores:
    """Sums of one state on one set -> means. Bits per byte count the bytes of text, not tokens."""
    tokens = evaluation_set.windows * evaluation_set.context
    loss = float(np.sum(nats_W, dtype=np.float64)) / tokens
    return Scores(
        loss_nats=loss,
        bits_per_byte=loss / math.log(2) / evaluation_set.bytes_per_token,
        accuracy=int(np.sum(correct_W)) / tokens,
    )
