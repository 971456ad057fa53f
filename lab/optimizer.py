"""AdamW behind a clip of the gradient norm, with every hyperparameter an input of the step.

optax's own schedules do not take a traced step count, and a rate that is data needs no schedule:
the chain is built inside the step from this step's numbers, and its state is the same for all.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lab.spec import OptimizerSpec


class Hyper(NamedTuple):
    """What the optimizer of one run is made of, each a float32 scalar (stacked: [S])."""

    b1: Array | np.ndarray
    b2: Array | np.ndarray
    eps: Array | np.ndarray
    weight_decay: Array | np.ndarray
    clip_norm: Array | np.ndarray


def hyper(spec: OptimizerSpec) -> Hyper:
    """Hyperparameters of a spec as float32 scalars."""
    return Hyper(*(np.asarray(getattr(spec, name), np.float32) for name in Hyper._fields))


def _matrices(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def adamw(rate: Array | float, h: Hyper) -> optax.GradientTransformation:
    """The optimizer at one learning rate. Decay acts on matrices, not on gains."""
    return optax.chain(
        optax.clip_by_global_norm(h.clip_norm),
        optax.scale_by_adam(b1=h.b1, b2=h.b2, eps=h.eps),
        optax.add_decayed_weights(h.weight_decay, mask=_matrices),
        optax.scale_by_learning_rate(rate),
    )


def update(
    params: optax.Params, state: optax.OptState, grads: optax.Params, rate: Array, h: Hyper
) -> tuple[optax.Params, optax.OptState]:
    """One AdamW step: (new parameters, new optimizer state)."""
    # optax corrects its bias by b1 ** count, a traced float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = adamw(rate, h).update(grads, state, params)
    return optax.apply_updates(params, updates), state


def initial_state(params: optax.Params) -> optax.OptState:
    """Fresh optimizer state: zero moments, zero count."""
    any_ = Hyper(*(jnp.float32(0.5) for _ in Hyper._fields))
    return adamw(0.0, any_).init(params)
