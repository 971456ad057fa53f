"""The training program: many steps a dispatch, for a stack of runs of one shape.

Everything a sweep varies (rates, decay, betas, seed, data) enters as an array, and the number of
steps is a traced trip count: one compilation serves every run of the shape and every chunk length.
The stack is donated; nothing is read back but losses and gradient norms.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from lab.evaluate import Evaluation, lane_evaluation
from lab.hosts import whole
from lab.mesh import Lanes, placed
from lab.model import Transformer, log_losses
from lab.optimizer import Hyper, initial_state, update
from lab.parametrisation import scales
from lab.sharding import apart, stored
from lab.spec import Shape

# A state is the nested dict {"params": ..., "optimizer": ...} of arrays; a stack has the same
# leaves with a leading lane axis.
State = dict[str, Any]


class Chunk(NamedTuple):
    """Inputs of up to C steps for S lanes.

    A lane with `steps` 0 rests; in a batched stack it only keeps up, and its state is lost.
    """

    text: Array  # [T] tokens (see `lab.device_text`)
    starts: Array | NDArray[np.int32]  # [S, C, B] places in it where windows of L + 1 tokens begin
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
    """The compiled programs of one shape on one stack.

    `own_text`: each device has a text of its own, with the windows of its lanes and its part of
    the batch, and places are places in that; otherwise all have the same (`lab.device_text`).
    """

    def __init__(self, shape: Shape, lanes: Lanes, chunk: int, own_text: bool = False) -> None:
        self.shape, self.lanes, self.chunk = shape, lanes, chunk
        self.model, self.own_text = shape.model, own_text
        build = partial(
            Transformer,
            shape.model,
            dtype=jnp.dtype(shape.precision),
            remat=lanes.layout.remat,
        )
        abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
        self._build = build
        self._graph, _ = nnx.split(abstract, nnx.Param)
        self._shapes = jax.eval_shape(self._fresh, jnp.uint32(0))
        self._one = one = lanes.of_state(self._shapes)
        all_ = lanes.of_stack(self._shapes)
        text = P("run") if own_text else P()
        self._init = jax.jit(self._fresh, out_shardings=one)
        self._train = jax.jit(lanes.over(self._lane_chunk, text), donate_argnums=1)
        self._evaluate = jax.jit(lanes.over(self._lane_evaluate, P()))
        self._empty = jax.jit(self._zeros, out_shardings=all_)
        self._reset = jax.jit(_without_moments, out_shardings=one)
        self._put = jax.jit(_put, donate_argnums=0, out_shardings=all_)
        self._take = jax.jit(_take, out_shardings=one)

    # States ----------------------------------------------------------------------------------

    def _fresh(self, seed: Array) -> State:
        model = self._build(jax.random.key(seed))
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        return {"params": params, "optimizer": initial_state(params, self.shape.optimizer)}

    def _zeros(self) -> State:
        count = self.lanes.count
        return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), self._shapes)

    def initial(self, seed: int) -> State:
        """State at step 0, divided over the devices of a lane."""
        return self._init(np.uint32(seed))

    def abstract(self) -> State:
        """Shapes and dtypes of one state."""
        return self._shapes

    def empty_stack(self) -> State:
        """A stack of zeros; lanes are filled by `put`."""
        return self._empty()

    def put(self, stack: State, lane: int, state: State) -> State:
        """The stack with `state` in `lane` (the old stack is consumed)."""
        return self._put(stack, np.int32(lane), jax.tree.map(placed, state, self._one))

    def take(self, stack: State, lane: int) -> State:
        """A host copy of one lane's state."""
        return whole(self._take(stack, np.int32(lane)))

    def reset_optimizer(self, state: State) -> State:
        """The state with fresh optimizer moments and count."""
        return self._reset(jax.tree.map(placed, state, self._one))

    # Programs --------------------------------------------------------------------------------

    def _apply(self, params: Any, tokens_BL: Array) -> Array:
        return nnx.merge(self._graph, nnx.State(params))(tokens_BL)

    def _loss(self, params: Any, windows: Array) -> Array:
        logits = self._apply(params, windows[:, :-1])
        return log_losses(logits, windows[:, 1:].reshape(-1)).mean()

    def _windows(self, text: Array, starts_B: Array) -> Array:
        """Windows [B, L + 1] of a text, int32."""

        def read(text: Array, starts_B: Array) -> Array:
            places_BL = starts_B[:, None] + jnp.arange(self.model.context + 1)[None]
            return text[places_BL].astype(jnp.int32)

        role = "own_text_T" if self.own_text else "text_T"
        return apart(read, (role, "starts_B"), "windows_BL")(text, starts_B)

    def _loss_and_grads(self, params: Any, text: Array, starts_B: Array) -> tuple[Array, Any]:
        """Mean loss of a step's windows and its gradient, in `accumulate` parts."""

        def part(starts: Array) -> tuple[Array, Any]:
            loss, grads = jax.value_and_grad(self._loss)(params, self._windows(text, starts))
            return loss, stored(grads)

        parts = self.lanes.layout.accumulate
        if parts == 1:
            return part(starts_B)
        # Every part takes windows of every device: neighbours in the batch go to different parts.
        starts_AB = starts_B.reshape(-1, parts).T
        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
        total, _ = jax.lax.scan(
            lambda sums, starts: (jax.tree.map(jnp.add, sums, part(starts)), None), zero, starts_AB
        )
        return jax.tree.map(lambda one: one / parts, total)

    def _lane_chunk(
        self, text: Array, state: State, starts: Array, lr: Array, hyper: Hyper, steps: Array
    ) -> tuple[State, StepLog]:
        def step(i: Array, carry: Any) -> Any:
            state, losses, norms = carry
            loss, grads = self._loss_and_grads(state["params"], text, starts[i])
            params, optimizer = update(
                state["params"],
                state["optimizer"],
                grads,
                lr[i],
                hyper,
                self.shape.optimizer,
                scales(self.model).rates,
            )
            norm = optax.tree.norm(grads)
            state = stored({"params": params, "optimizer": optimizer})
            return state, losses.at[i].set(loss), norms.at[i].set(norm)

        blank = jnp.zeros_like(lr)
        state, losses, norms = jax.lax.fori_loop(0, steps, step, (stored(state), blank, blank))
        return state, StepLog(losses, norms)

    def _lane_evaluate(self, windows: Array, state: State, wanted: Array) -> Evaluation:
        return lane_evaluation(self._apply, state["params"], windows, wanted)

    def train(self, stack: State, chunk: Chunk) -> tuple[State, StepLog]:
        """Train every lane by its steps; returns at once, before the device is done."""
        steps = chunk.steps
        if self.lanes.batched:
            # One trip count for all lanes: a batched one would keep two copies of every state.
            steps = np.full_like(steps, steps.max())
        return self._train(chunk.text, stack, chunk.starts, chunk.lr, chunk.hyper, steps)

    def memory(self, stack: State, chunk: Chunk) -> int:
        """Bytes that XLA reports for a chunk on one device, the stack included; compiles it."""
        told = (chunk.text, stack, chunk.starts, chunk.lr, chunk.hyper, chunk.steps)
        found: Any = self._train.lower(*told).compile().memory_analysis()
        made = found.output_size_in_bytes - found.alias_size_in_bytes
        return int(found.argument_size_in_bytes + found.temp_size_in_bytes + made)

    def evaluate(
        self, stack: State, windows: Array | NDArray[np.int32], wanted: NDArray[np.bool_]
    ) -> Evaluation:
        """Evaluate the wanted lanes on windows [E, W, L + 1] of E evaluation sets."""
        return self._evaluate(windows, stack, wanted)


def _without_moments(state: State) -> State:
    return state | {"optimizer": jax.tree.map(jnp.zeros_like, state["optimizer"])}


def _put(stack: State, lane: Array, state: State) -> State:
    return jax.tree.map(
        lambda s, x: jax.lax.dynamic_update_index_in_dim(s, x, lane, 0), stack, state
    )


def _take(stack: State, lane: Array) -> State:
    return jax.tree.map(lambda s: jax.lax.dynamic_index_in_dim(s, lane, 0, keepdims=False), stack)
