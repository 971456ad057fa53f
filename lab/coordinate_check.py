"""Coordinate check: how large layers' outputs are, and how far the first steps move them, by width.

Under the maximal-update parametrisation neither depends on width (Yang et al., 2203.03466, figure 5
and appendix D.1); logits at step 0 alone fall as width^-1/2. At a fixed rate the standard
parametrisation moves wide models' layers further. Passing this check does not promise that rates
transfer: it looks at a few steps, and at sizes alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from lab.blocks import UNROLLED_LAYERS
from lab.errors import Refused
from lab.model import Transformer, log_losses
from lab.optimizer import hyper, initial_state, update
from lab.parametrisation import scales
from lab.spec import ModelSpec, OptimizerSpec


class Coordinate(NamedTuple):
    """Outputs of one place of one model after `step` steps, on the windows of step 1.

    `size` is their mean magnitude, `change` that of their difference from step 0 (0 at step 0).
    """

    parametrisation: str
    width: int
    seed: int
    step: int
    place: str
    size: float
    change: float


def coordinate_check(
    models: Sequence[ModelSpec],
    windows: NDArray[np.integer],
    lr: float,
    seeds: Sequence[int] = (0, 1),
    optimizer: OptimizerSpec | None = None,
) -> list[Coordinate]:
    """Train each model from each seed on `windows` [T, B, L + 1] at a constant rate, T steps.

    Places are the embedding, what each block's attention and MLP add, and the logits. Raises
    Refused on models of more than eight layers, whose blocks are scanned.
    """
    spec = optimizer or OptimizerSpec()
    if spec.name != "adamw":
        raise Refused(f"optimizer.name = {spec.name!r}: the check trains with adamw")
    for model in models:
        if model.layers > UNROLLED_LAYERS:
            raise Refused(f"model.layers = {model.layers}: must be at most {UNROLLED_LAYERS} here")
        if windows.shape[-1] != model.context + 1:
            allowed = f"windows of {windows.shape[-1]} tokens hold a context of "
            raise Refused(f"model.context = {model.context}: {allowed}{windows.shape[-1] - 1}")
    taken = np.asarray(windows, np.int32)
    return [one for model in models for one in _of_model(model, seeds, taken, lr, spec)]


def _of_model(
    spec: ModelSpec,
    seeds: Sequence[int],
    windows: NDArray[np.int32],
    lr: float,
    optimizer: OptimizerSpec,
) -> list[Coordinate]:
    graph, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, jax.random.key(0))), nnx.Param)

    @jax.jit
    def begin(seed: Array) -> tuple[Any, Any]:
        model = Transformer(spec, jax.random.key(seed))
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        return params, initial_state(params)

    @jax.jit
    def outputs(params: Any) -> dict[str, Array]:
        return layer_outputs(nnx.merge(graph, nnx.State(params)), windows[0, :, :-1])

    @jax.jit
    def step(params: Any, moments: Any, windows: Array) -> tuple[Any, Any]:
        def loss(params: Any) -> Array:
            logits = nnx.merge(graph, nnx.State(params))(windows[:, :-1])
            return log_losses(logits, windows[:, 1:].reshape(-1)).mean()

        grads, rate = jax.grad(loss)(params), jnp.float32(lr)
        return update(params, moments, grads, rate, hyper(optimizer), rates=scales(spec).rates)

    found = []
    for seed in seeds:
        params, moments = begin(np.uint32(seed))
        begun = outputs(params)
        for t in range(len(windows) + 1):
            if t > 0:
                params, moments = step(params, moments, jnp.asarray(windows[t - 1]))
            for place, x in outputs(params).items():
                size = float(jnp.abs(x).mean())
                change = float(jnp.abs(x - begun[place]).mean())
                found.append(
                    Coordinate(spec.parametrisation, spec.width, seed, t, place, size, change)
                )
    return found


def layer_outputs(model: Transformer, tokens_BL: Array | NDArray[np.int32]) -> dict[str, Array]:
    """What each layer of a model puts out, [N, ...], by place; the last are its logits.

    Of blocks it is what they add to the residual stream. Blocks must be a list.
    """
    tokens_N, windows = tokens_BL.reshape(-1), tokens_BL.shape[0]
    x_ND = model.embedding_VD[...][tokens_N]
    found = {"embedding": x_ND}
    blocks: Any = model.blocks
    for number, block in enumerate(blocks, 1):
        mixed_ND = block.attention(block.attention_norm(x_ND), windows)
        x_ND = x_ND + mixed_ND
        added_ND = block.mlp(block.mlp_norm(x_ND))
        x_ND = x_ND + added_ND
        found |= {f"attention {number}": mixed_ND, f"MLP {number}": added_ND}
    return found | {"logits": model(jnp.asarray(tokens_BL))}
