"""The decoder-only transformer, as flax.nnx modules.

Shapes in names: B windows, L positions, N = B L, D residual width, H heads, K channels a head,
F MLP width, V vocabulary. Activations stay flat [N, ...] but inside attention, where heads are
folded into the batch axis: on small models that is what keeps a CPU busy (one matrix product per
projection, none of them tiny).
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import count, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from lab.blocks import UNROLLED_LAYERS, query_blocks
from lab.parametrisation import scales
from lab.sharding import WINDOWS, apart, devices_of, used
from lab.spec import ModelSpec

Keys = Iterator[Array]

ROPE_BASE = 10_000.0
NORM_EPS = 1e-6
EMBEDDING_STD = 0.02
MASKED = -1e30  # finite, so that a row's maximum stays finite and its gradient zero


@lru_cache(maxsize=32)
def _rotations(length: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of rotary positions (Su et al., 2104.09864), each [L, K / 2]."""
    rates = ROPE_BASE ** (-np.arange(channels // 2) / (channels // 2))
    angles = np.arange(length)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x_MLK: Array) -> Array:
    low, high = jnp.split(x_MLK.astype(jnp.float32), 2, axis=-1)
    cosine, sine = (jnp.asarray(one)[None] for one in _rotations(*x_MLK.shape[1:]))
    turned = jnp.concatenate([low * cosine - high * sine, low * sine + high * cosine], axis=-1)
    return turned.astype(x_MLK.dtype)


def causal_attention(q_MLK: Array, k_MLK: Array, v_MLK: Array, scale: float | None = None) -> Array:
    """Softmax attention to this position and those before it; M = B H; scores (times `scale`, or
    K^-1/2) and softmax in float32.

    Long windows go in two blocks of queries, each against the keys up to its own end: half of what
    lies above the diagonal is never computed.
    """
    length, channels = q_MLK.shape[1:]
    scale = channels**-0.5 if scale is None else scale
    blocks = query_blocks(length)
    ends = [length * k // blocks for k in range(blocks + 1)]
    mixed = []
    for first, last in pairwise(ends):
        q_MQK = q_MLK[:, first:last] * scale
        scores_MQT = jnp.einsum(
            "mqk,mtk->mqt", q_MQK, k_MLK[:, :last], preferred_element_type=jnp.float32
        )
        visible = np.tril(np.ones((length, length), bool))[None, first:last, :last]
        scores_MQT = jnp.where(visible, scores_MQT, MASKED)
        peak = jax.lax.stop_gradient(scores_MQT.max(axis=-1, keepdims=True))
        weights_MQT = jnp.exp(scores_MQT - peak)
        weights_MQT = weights_MQT / weights_MQT.sum(axis=-1, keepdims=True)
        weights_MQT = weights_MQT.astype(v_MLK.dtype)
        mixed.append(jnp.einsum("mqt,mtk->mqk", weights_MQT, v_MLK[:, :last]))
    return jnp.concatenate(mixed, axis=1)


def _mixed_heads(x_ND: Array, qkv_D3HK: Array, windows: int, scale: float) -> Array:
    """Attention of tokens [N, D] of so many windows, before its last product: [N, H K]."""
    tokens, width = x_ND.shape
    _, _, heads, channels = qkv_D3HK.shape
    length = tokens // windows
    qkv = x_ND @ qkv_D3HK.reshape(width, 3 * heads * channels)
    qkv = qkv.reshape(windows, length, 3, heads, channels).transpose(2, 0, 3, 1, 4)
    qkv = qkv.reshape(3, windows * heads, length, channels)
    mixed_MLK = causal_attention(_rotate(qkv[0]), _rotate(qkv[1]), qkv[2], scale)
    mixed = mixed_MLK.reshape(windows, heads, length, channels).transpose(0, 2, 1, 3)
    return mixed.reshape(tokens, heads * channels)


def _keys(key: Array, first: int | Array = 0) -> Keys:
    """A key for every draw, from draw number `first` on."""
    return (jax.random.fold_in(key, first + n) for n in count())


def _matrix(keys: Keys, rows: int, columns: int, scale: float = 1.0) -> nnx.Param[Array]:
    """Normal weights of variance scale^2 / rows."""
    draw = jax.random.normal(next(keys), (rows, columns), jnp.float32)
    return nnx.Param(draw * (scale * rows**-0.5))


class Norm(nnx.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich, 1910.07467), in float32."""

    def __init__(self, width: int) -> None:
        self.gain_D = nnx.Param(jnp.ones((width,), jnp.float32))

    def __call__(self, x_ND: Array) -> Array:
        wide_ND = x_ND.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide_ND), axis=-1, keepdims=True)
        normed_ND = wide_ND * jax.lax.rsqrt(mean_square + NORM_EPS) * self.gain_D[...][None]
        return normed_ND.astype(x_ND.dtype)


class Attention(nnx.Module):
    def __init__(self, spec: ModelSpec, keys: Keys) -> None:
        self.heads, self.scale = spec.heads, scales(spec).attention
        self.qkv_D3D = _matrix(keys, spec.width, 3 * spec.width)
        self.out_DD = _matrix(keys, spec.width, spec.width, (2 * spec.layers) ** -0.5)

    def __call__(self, x_ND: Array, windows: int) -> Array:
        width = x_ND.shape[1]
        qkv_D3HK = self.qkv_D3D[...].astype(x_ND.dtype).reshape(width, 3, self.heads, -1)
        mine = windows // devices_of(*WINDOWS)
        mix = apart(
            partial(_mixed_heads, windows=mine, scale=self.scale), ("x_ND", "qkv_D3HK"), "mixed_ND"
        )
        mixed_ND = mix(x_ND, used(used(qkv_D3HK, "fsdp_qkv_D3HK"), "qkv_D3HK"))
        return mixed_ND @ used(self.out_DD[...].astype(x_ND.dtype), "out_DD")


class GatedMlp(nnx.Module):
    """SwiGLU (Shazeer, 2002.05202)."""

    def __init__(self, spec: ModelSpec, keys: Keys) -> None:
        self.gate_DF = _matrix(keys, spec.width, spec.mlp_width)
        self.up_DF = _matrix(keys, spec.width, spec.mlp_width)
        self.down_FD = _matrix(keys, spec.mlp_width, spec.width, (2 * spec.layers) ** -0.5)

    def __call__(self, x_ND: Array) -> Array:
        gate_DF, up_DF, down_FD = (
            used(getattr(self, role)[...].astype(x_ND.dtype), role)
            for role in ("gate_DF", "up_DF", "down_FD")
        )
        hidden_NF = jax.nn.silu(x_ND @ gate_DF) * (x_ND @ up_DF)
        return used(hidden_NF, "hidden_NF") @ down_FD


class Block(nnx.Module):
    DRAWS = 5  # matrices

    def __init__(self, spec: ModelSpec, keys: Keys) -> None:
        self.attention_norm = Norm(spec.width)
        self.attention = Attention(spec, keys)
        self.mlp_norm = Norm(spec.width)
        self.mlp = GatedMlp(spec, keys)

    def __call__(self, x_ND: Array, windows: int) -> Array:
        x_ND = used(x_ND + self.attention(self.attention_norm(x_ND), windows), "x_ND")
        return used(x_ND + self.mlp(self.mlp_norm(x_ND)), "x_ND")


def _blocks(spec: ModelSpec, key: Array) -> nnx.Module:
    """The blocks: a list, or one block whose parameters have a leading layer axis.

    Both start from the same numbers.
    """

    def block(layer: int | Array) -> Block:
        return Block(spec, _keys(key, 1 + Block.DRAWS * layer))

    if spec.layers <= UNROLLED_LAYERS:
        return nnx.List([block(layer) for layer in range(spec.layers)])
    graph, _ = nnx.split(nnx.eval_shape(lambda: block(0)))
    stacked = jax.vmap(lambda layer: nnx.state(block(layer)))(jnp.arange(spec.layers))
    return nnx.merge(graph, stacked)


class Transformer(nnx.Module):
    """Tokens [B, L] -> logits [N, V], float32. A tied head reads the embedding, scaled by D^-1/2
    (D the base width under muP: `lab.parametrisation`).

    Weights are float32 and products run in `dtype`; norms, rotations, softmax and logits are
    float32. `remat` keeps only the blocks' inputs for the backward pass and computes the rest
    again (Chen et al., 1604.06174).
    """

    def __init__(
        self,
        spec: ModelSpec,
        key: Array,
        dtype: jnp.dtype | type = jnp.float32,
        remat: bool = False,
    ) -> None:
        self.dtype, self.remat = dtype, remat
        keys = _keys(key)
        draw = jax.random.normal(next(keys), (spec.vocabulary, spec.width), jnp.float32)
        self.embedding_VD = nnx.Param(draw * EMBEDDING_STD)
        self.blocks = _blocks(spec, key)
        self.norm = Norm(spec.width)
        factors = scales(spec)
        self.logit_scale = factors.logits
        self.tied_scale = (spec.base_width or spec.width) ** -0.5
        self.head_DV = (
            None
            if spec.tied_embedding
            else _matrix(
                _keys(key, 1 + Block.DRAWS * spec.layers), spec.width, spec.vocabulary, factors.head
            )
        )

    def __call__(self, tokens_BL: Array) -> Array:
        windows = tokens_BL.shape[0]
        embedding_VD = used(self.embedding_VD[...].astype(self.dtype), "embedding_VD")
        look_up = apart(lambda table, tokens: table[tokens], ("embedding_VD", "tokens_N"), "x_ND")
        x_ND = look_up(embedding_VD, used(tokens_BL.reshape(-1), "tokens_N"))
        x_ND = self._through_blocks(x_ND, windows)
        last_ND = used(self.norm(x_ND), "last_ND")
        if self.head_DV is None:
            head_DV = embedding_VD.T * self.tied_scale
        else:
            head_DV = used(self.head_DV[...].astype(self.dtype), "head_DV")
        if self.logit_scale != 1.0:
            head_DV = head_DV * self.logit_scale
        logits_NV = jnp.matmul(last_ND, head_DV, preferred_element_type=jnp.float32)
        return used(logits_NV, "logits_NV")

    def _through_blocks(self, x_ND: Array, windows: int) -> Array:
        blocks: Any = self.blocks
        listed = isinstance(blocks, nnx.List)
        if listed and not self.remat:
            for block in blocks:
                x_ND = block(x_ND, windows)
            return x_ND
        graph, _ = nnx.split(blocks[0] if listed else blocks)

        def through(x_ND: Array, params: Any) -> Array:
            return nnx.merge(graph, params)(x_ND, windows)

        if self.remat:
            # Always in a scan: outside of a loop XLA on a CPU merges what is computed again with
            # what was there, and keeps it.
            through = jax.checkpoint(through, prevent_cse=False)
        stacked = nnx.state(blocks)
        if listed:
            stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *map(nnx.state, blocks))
        return jax.lax.scan(lambda x, params: (through(x, params), None), x_ND, stacked)[0]


def log_losses(logits_NV: Array, targets_N: Array) -> Array:
    """Negative log-likelihood of each target in nats, [N], float32."""
    return apart(_log_losses, ("logits_NV", "targets_N"), "targets_N")(logits_NV, targets_N)


def _log_losses(logits_NV: Array, targets_N: Array) -> Array:
    peak = jax.lax.stop_gradient(logits_NV.max(axis=-1, keepdims=True))
    shifted = logits_NV - peak
    chosen = jnp.take_along_axis(shifted, targets_N[:, None], axis=-1)[:, 0]
    return jnp.log(jnp.exp(shifted).sum(axis=-1)) - chosen
