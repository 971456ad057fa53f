"""The decoder-only transformer, as flax.nnx modules.

Shapes in names: B windows, L positions, N = B L, D residual width, H heads, K channels a head,
F MLP width, V vocabulary. Activations stay flat [N, ...] but inside attention, where heads are
folded into the batch axis: on small models that is what keeps a CPU busy (one matrix product per
projection, none of them tiny).
"""

from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from lab.spec import ModelSpec

ROPE_BASE = 10_000.0
NORM_EPS = 1e-6
EMBEDDING_STD = 0.02
MOST_BLOCKS, SMALLEST_BLOCK = 2, 64  # of queries in attention; 4 and 8 were slower on a CPU
MASKED = -1e30  # finite, so that a row's maximum stays finite and its gradient zero


@lru_cache(maxsize=32)
def _rotations(length: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of rotary positions (Su et al., 2104.09864), each [L, K / 2]."""
    rates = ROPE_BASE ** (-np.arange(channels // 2) / (channels // 2))
    angles = np.arange(length)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x_MLK: Array) -> Array:
    low, high = jnp.split(x_MLK, 2, axis=-1)
    cosine, sine = (jnp.asarray(one)[None] for one in _rotations(*x_MLK.shape[1:]))
    return jnp.concatenate([low * cosine - high * sine, low * sine + high * cosine], axis=-1)


def causal_attention(q_MLK: Array, k_MLK: Array, v_MLK: Array) -> Array:
    """Softmax attention to this position and those before it; M = B H; float32 softmax.

    Long windows go in two blocks of queries, each against the keys up to its own end: half of what
    lies above the diagonal is never computed.
    """
    length, channels = q_MLK.shape[1:]
    blocks = max(1, min(MOST_BLOCKS, length // SMALLEST_BLOCK))
    ends = [length * k // blocks for k in range(blocks + 1)]
    mixed = []
    for first, last in pairwise(ends):
        q_MQK = q_MLK[:, first:last] * (channels**-0.5)
        scores_MQT = jnp.einsum("mqk,mtk->mqt", q_MQK, k_MLK[:, :last])
        visible = np.tril(np.ones((length, length), bool))[None, first:last, :last]
        scores_MQT = jnp.where(visible, scores_MQT, MASKED)
        peak = jax.lax.stop_gradient(scores_MQT.max(axis=-1, keepdims=True))
        weights_MQT = jnp.exp(scores_MQT - peak)
        weights_MQT = weights_MQT / weights_MQT.sum(axis=-1, keepdims=True)
        mixed.append(jnp.einsum("mqt,mtk->mqk", weights_MQT, v_MLK[:, :last]))
    return jnp.concatenate(mixed, axis=1)


def _matrix(rngs: nnx.Rngs, rows: int, columns: int, scale: float = 1.0) -> nnx.Param[Array]:
    """Normal weights of variance scale^2 / rows."""
    draw = jax.random.normal(rngs.params(), (rows, columns), jnp.float32)
    return nnx.Param(draw * (scale * rows**-0.5))


class Norm(nnx.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich, 1910.07467)."""

    def __init__(self, width: int) -> None:
        self.gain_D = nnx.Param(jnp.ones((width,), jnp.float32))

    def __call__(self, x_ND: Array) -> Array:
        mean_square = jnp.mean(jnp.square(x_ND), axis=-1, keepdims=True)
        return x_ND * jax.lax.rsqrt(mean_square + NORM_EPS) * self.gain_D[...][None]


class Attention(nnx.Module):
    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        self.heads = spec.heads
        self.qkv_D3D = _matrix(rngs, spec.width, 3 * spec.width)
        self.out_DD = _matrix(rngs, spec.width, spec.width, (2 * spec.layers) ** -0.5)

    def __call__(self, x_ND: Array, windows: int) -> Array:
        tokens, width = x_ND.shape
        length, channels = tokens // windows, width // self.heads
        qkv = (x_ND @ self.qkv_D3D[...]).reshape(windows, length, 3, self.heads, channels)
        qkv = qkv.transpose(2, 0, 3, 1, 4).reshape(3, windows * self.heads, length, channels)
        mixed_MLK = causal_attention(_rotate(qkv[0]), _rotate(qkv[1]), qkv[2])
        mixed = mixed_MLK.reshape(windows, self.heads, length, channels).transpose(0, 2, 1, 3)
        return mixed.reshape(tokens, width) @ self.out_DD[...]


class GatedMlp(nnx.Module):
    """SwiGLU (Shazeer, 2002.05202)."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        self.gate_DF = _matrix(rngs, spec.width, spec.mlp_width)
        self.up_DF = _matrix(rngs, spec.width, spec.mlp_width)
        self.down_FD = _matrix(rngs, spec.mlp_width, spec.width, (2 * spec.layers) ** -0.5)

    def __call__(self, x_ND: Array) -> Array:
        return (jax.nn.silu(x_ND @ self.gate_DF[...]) * (x_ND @ self.up_DF[...])) @ self.down_FD[
            ...
        ]


class Block(nnx.Module):
    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        self.attention_norm = Norm(spec.width)
        self.attention = Attention(spec, rngs)
        self.mlp_norm = Norm(spec.width)
        self.mlp = GatedMlp(spec, rngs)

    def __call__(self, x_ND: Array, windows: int) -> Array:
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), windows)
        return x_ND + self.mlp(self.mlp_norm(x_ND))


class Transformer(nnx.Module):
    """Tokens [B, L] -> logits [N, V]. A tied head reads the embedding, scaled by D^-1/2."""

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs) -> None:
        self.width = spec.width
        draw = jax.random.normal(rngs.params(), (spec.vocabulary, spec.width), jnp.float32)
        self.embedding_VD = nnx.Param(draw * EMBEDDING_STD)
        self.blocks = nnx.List([Block(spec, rngs) for _ in range(spec.layers)])
        self.norm = Norm(spec.width)
        # Logits start near 0, the loss near ln V.
        small = spec.width**-0.5
        self.head_DV = (
            None if spec.tied_embedding else _matrix(rngs, spec.width, spec.vocabulary, small)
        )

    def __call__(self, tokens_BL: Array) -> Array:
        windows = tokens_BL.shape[0]
        x_ND = self.embedding_VD[...][tokens_BL.reshape(-1)]
        for block in self.blocks:
            x_ND = block(x_ND, windows)
        x_ND = self.norm(x_ND)
        if self.head_DV is None:
            return x_ND @ (self.embedding_VD[...].T * (self.width**-0.5))
        return x_ND @ self.head_DV[...]


def log_losses(logits_NV: Array, targets_N: Array) -> Array:
    """Negative log-likelihood of each target in nats, [N], float32."""
    peak = jax.lax.stop_gradient(logits_NV.max(axis=-1, keepdims=True))
    shifted = logits_NV - peak
    chosen = jnp.take_along_axis(shifted, targets_N[:, None], axis=-1)[:, 0]
    return jnp.log(jnp.exp(shifted).sum(axis=-1)) - chosen
