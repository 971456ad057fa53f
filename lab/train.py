"""The training program: many steps a dispatch, for a stack of runs of one shape.

Everything a sweep varies (rates, decay, betas, seed, data) enters as an array, and the number of
steps is a traced trip count: one compilation serves every run of the shape and every chunk length.
The stack is donated; nothing is read back but losses and gradient norms.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from lab.evaluate import Evaluation, lane_evaluation
from lab.mesh import Lanes
from lab.model import Transformer, log_losses
from lab.optimizer import Hyper, initial_state, update
from lab.spec import ModelSpec

# A state is the nested dict {"params": ..., "optimizer": ...} of arrays; a stack has the same
# leaves with a leading lane axis.
State = dict[str, Any]


class Chunk(NamedTuple):
    """Inputs of up to C steps for S lanes.

    A lane with `steps` 0 rests; in a batched stack it only keeps up, and its state is lost.
    """

    text: Array  # [T] tokens, the same for all lanes
    starts: NDArray[np.int32]  # [S, C, B] places in it where windows of L + 1 tokens begin
    lr: NDArray[np.float32]  # [S, C]
    hyper: Hyper  # [S] each
    steps: NDArray[np.int32]  # [S]; all equal, or 0


class StepLog(NamedTuple):
    """What a chunk reports, [S, C] each; places behind a lane's `steps` hold 0.

    Those of a resting lane of a batched stack mean nothing.
    """

    loss_nats: Array
    grad_norm: Array


class Trainer:
    """The compiled programs of one shape (model, batch) on one stack."""

    def __init__(self, model: ModelSpec, batch: int, lanes: Lanes, chunk: int) -> None:
        self.model, self.batch, self.lanes, self.chunk = model, batch, lanes, chunk
        abstract = nnx.eval_shape(lambda: Transformer(model, nnx.Rngs(jax.random.key(0))))
        self._graph, _ = nnx.split(abstract, nnx.Param)
        one, all_ = lanes.replicated, lanes.sharding
        self._init = jax.jit(self._fresh)
        self._shapes = jax.eval_shape(self._fresh, jnp.uint32(0))
        self._train = jax.jit(lanes.over(self._lane_chunk, 1), donate_argnums=1)
        self._evaluate = jax.jit(
            lanes.over(
                lambda windows, state, wanted: self._lane_evaluate(windows, state, wanted), 1
            )
        )
        self._put = jax.jit(_put, donate_argnums=0, out_shardings=all_)
        self._take = jax.jit(_take, out_shardings=one)

    # States ----------------------------------------------------------------------------------

    def _fresh(self, seed: Array) -> State:
        model = Transformer(self.model, nnx.Rngs(jax.random.key(seed)))
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        return {"params": params, "optimizer": _plain(initial_state(params))}

    def initial(self, seed: int) -> State:
        """State at step 0, on the host."""
        return jax.device_get(self._init(jnp.uint32(seed)))

    def abstract(self) -> State:
        """Shapes and dtypes of one state."""
        return self._shapes

    def empty_stack(self) -> State:
        """A stack of zeros; lanes are filled by `put`."""
        count = self.lanes.count
        return jax.tree.map(
            lambda leaf: jax.device_put(
                jnp.zeros((count, *leaf.shape), leaf.dtype), self.lanes.sharding
            ),
            self._shapes,
        )

    def put(self, stack: State, lane: int, state: State) -> State:
        """The stack with `state` in `lane` (the old stack is consumed)."""
        return self._put(stack, jnp.int32(lane), state)

    def take(self, stack: State, lane: int) -> State:
        """A host copy of one lane's state."""
        return jax.device_get(self._take(stack, jnp.int32(lane)))

    def reset_optimizer(self, state: State) -> State:
        """The state with fresh optimizer moments and count."""
        return {
            "params": state["params"],
            "optimizer": jax.tree.map(np.zeros_like, state["optimizer"]),
        }

    # Programs --------------------------------------------------------------------------------

    def _loss(self, params: Any, windows: Array) -> Array:
        logits = self._apply(params, windows[:, :-1])
        return log_losses(logits, windows[:, 1:].reshape(-1)).mean()

    def _apply(self, params: Any, tokens_BL: Array) -> Array:
        return nnx.merge(self._graph, nnx.State(params))(tokens_BL)

    def _lane_chunk(
        self, text: Array, state: State, starts: Array, lr: Array, hyper: Hyper, steps: Array
    ) -> tuple[State, StepLog]:
        structure = jax.tree.structure(jax.eval_shape(initial_state, state["params"]))

        def step(i: Array, carry: Any) -> Any:
            params, optimizer, losses, norms = carry
            places_BL = starts[i][:, None] + jnp.arange(self.model.context + 1)[None]
            windows = text[places_BL].astype(jnp.int32)
            loss, grads = jax.value_and_grad(self._loss)(params, windows)
            params, optimizer = update(params, optimizer, grads, lr[i], hyper)
            norm = optax.tree.norm(grads)
            return params, optimizer, losses.at[i].set(loss), norms.at[i].set(norm)

        optimizer = jax.tree.unflatten(structure, jax.tree.leaves(state["optimizer"]))
        blank = jnp.zeros_like(lr)
        params, optimizer, losses, norms = jax.lax.fori_loop(
            0, steps, step, (state["params"], optimizer, blank, blank)
        )
        return {"params": params, "optimizer": _plain(optimizer)}, StepLog(losses, norms)

    def _lane_evaluate(self, windows: Array, state: State, wanted: Array) -> Evaluation:
        return lane_evaluation(self._apply, state["params"], windows, wanted)

    def train(self, stack: State, chunk: Chunk) -> tuple[State, StepLog]:
        """Train every lane by its steps; returns at once, before the device is done."""
        steps = chunk.steps
        if self.lanes.batched:
            # One trip count for all lanes: a batched one would keep two copies of every state.
            steps = np.full_like(steps, steps.max())
        return self._train(chunk.text, stack, chunk.starts, chunk.lr, chunk.hyper, steps)

    def evaluate(
        self, stack: State, windows: Array | NDArray[np.int32], wanted: NDArray[np.bool_]
    ) -> Evaluation:
        """Evaluate the wanted lanes on windows [E, W, L + 1] of E evaluation sets."""
        return self._evaluate(windows, stack, wanted)


def _plain(optimizer: optax.OptState) -> dict[str, Any]:
    """Optimizer state as a plain nested dict: names, not positions, are what is stored."""
    adam = next(s for s in jax.tree.leaves(optimizer, is_leaf=_is_adam) if _is_adam(s))
    return {"count": adam.count, "mu": adam.mu, "nu": adam.nu}


def _is_adam(node: Any) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def _put(stack: State, lane: Array, state: State) -> State:
    return jax.tree.map(
        lambda s, x: jax.lax.dynamic_update_index_in_dim(s, x, lane, 0), stack, state
    )


def _take(stack: State, lane: Array) -> State:
    return jax.tree.map(lambda s: jax.lax.dynamic_index_in_dim(s, lane, 0, keepdims=False), stack)
