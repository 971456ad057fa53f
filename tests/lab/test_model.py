"""The transformer looks only backwards, counts as stated, and starts near ln V."""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lab.flops import parameters
from lab.model import Transformer, _rotate, causal_attention, log_losses
from lab.spec import ModelSpec

SPEC = ModelSpec(width=16, layers=2, heads=2, mlp_width=24, context=12, vocabulary=40)
TIED = dataclasses.replace(SPEC, tied_embedding=True)


@lru_cache
def programs(spec: ModelSpec) -> tuple[Any, Any]:
    """(seed -> parameters, (parameters, tokens) -> logits), compiled."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, jax.random.key(0))), nnx.Param)

    def draw(seed: jax.Array) -> nnx.State:
        return nnx.state(Transformer(spec, jax.random.key(seed)), nnx.Param)

    return jax.jit(draw), jax.jit(lambda params, asked: nnx.merge(graph, params)(asked))


def weights(spec: ModelSpec, seed: int = 0) -> nnx.State:
    return programs(spec)[0](jnp.uint32(seed))


def logits_of(spec: ModelSpec, params: nnx.State, asked: jax.Array) -> np.ndarray:
    logits = programs(spec)[1](params, asked)
    assert logits.shape == (asked.size, spec.vocabulary)
    assert logits.dtype == jnp.float32
    return np.asarray(logits)


def tokens(spec: ModelSpec, windows: int, length: int, seed: int = 0) -> jax.Array:
    shape = (windows, length)
    return jax.random.randint(jax.random.key(seed), shape, 0, spec.vocabulary, jnp.int32)


@pytest.mark.parametrize("spec", [SPEC, TIED])
def test_a_token_changes_no_logits_before_it(spec: ModelSpec) -> None:
    params, asked = weights(spec), tokens(spec, 2, 12)
    before = logits_of(spec, params, asked).reshape(2, 12, -1)
    for t in (0, 5, 11):
        changed = asked.at[0, t].set((asked[0, t] + 1) % spec.vocabulary)
        after = logits_of(spec, params, changed).reshape(2, 12, -1)
        assert np.array_equal(before[0, :t], after[0, :t])
        assert (before[0, t:] != after[0, t:]).any(axis=-1).all()
        assert np.array_equal(before[1], after[1])  # nor those of another window


def test_a_model_reads_windows_shorter_than_its_context() -> None:
    params, asked = weights(SPEC), tokens(SPEC, 2, 12)
    whole = logits_of(SPEC, params, asked).reshape(2, 12, -1)
    short = logits_of(SPEC, params, asked[:, :5]).reshape(2, 5, -1)
    np.testing.assert_allclose(short, whole[:, :5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", [{}, {"tied_embedding": True}, {"layers": 3}, {"heads": 1}])
def test_parameters_are_float32_and_as_many_as_counted(change: dict) -> None:
    spec = dataclasses.replace(SPEC, **change)
    leaves = jax.tree.leaves(jax.eval_shape(programs(spec)[0], jnp.uint32(0)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert sum(leaf.size for leaf in leaves) == parameters(spec).total
    assert sum(leaf.size for leaf in leaves if leaf.ndim == 1) == parameters(spec).gains


@pytest.mark.parametrize("spec", [SPEC, TIED])
def test_the_loss_starts_near_the_log_of_the_vocabulary(spec: ModelSpec) -> None:
    asked = tokens(spec, 40, 13)
    logits = logits_of(spec, weights(spec), asked[:, :-1])
    losses = log_losses(jnp.asarray(logits), asked[:, 1:].reshape(-1))
    assert abs(float(losses.mean()) - math.log(spec.vocabulary)) < 0.06
    # of variance 1 / D where the head is a matrix of its own, .02^2 where it is the embedding
    wanted = 0.02 if spec.tied_embedding else spec.width**-0.5
    assert logits.std() == pytest.approx(wanted, rel=0.15)


def test_a_tied_head_reads_the_embedding() -> None:
    params, asked = weights(TIED), tokens(TIED, 2, 12)
    before = logits_of(TIED, params, asked)
    unused = next(t for t in range(TIED.vocabulary) if t not in np.asarray(asked))
    row = params["embedding_VD"][...].at[unused].multiply(3.0)
    params["embedding_VD"] = nnx.Param(row)
    after = logits_of(TIED, params, asked)
    others = np.arange(TIED.vocabulary) != unused
    np.testing.assert_allclose(after[:, unused], 3 * before[:, unused], rtol=1e-5)
    np.testing.assert_allclose(after[:, others], before[:, others], rtol=0, atol=1e-7)


def test_seeds_draw_different_weights_and_the_same_seed_the_same() -> None:
    one, again, other = (jax.tree.leaves(weights(SPEC, seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    drawn = [(a, c) for a, c in zip(one, other, strict=True) if a.ndim > 1]
    assert not any(np.array_equal(a, c) for a, c in drawn)


def test_no_two_matrices_are_one_draw() -> None:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(weights(SPEC)) if leaf.ndim > 1]
    starts = {round(float(leaf.ravel()[0] / leaf.ravel()[1]), 4) for leaf in leaves}
    assert len(starts) == len(leaves)


# Attention -----------------------------------------------------------------------------------


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = jax.random.normal(jax.random.key(3), (2, 8))
    length = 10
    here, there = (_rotate(jnp.broadcast_to(x[None, None], (1, length, 8))) for x in (q, k))
    scores = np.asarray(here[0] @ there[0].T)
    for distance in range(length):
        along = np.diagonal(scores, -distance)
        np.testing.assert_allclose(along, along[0], rtol=0, atol=2e-6)
    assert scores[0, 0] == pytest.approx(float(q @ k), abs=1e-6)
    assert np.ptp(scores[-1]) > 0.1  # distances are told apart
    norms = np.linalg.norm(np.asarray(here[0]), axis=-1)
    np.testing.assert_allclose(norms, np.linalg.norm(np.asarray(q)), rtol=1e-6)


@pytest.mark.parametrize("length", [6, 127, 128, 131])  # from 128 on in two blocks of queries
def test_attention_is_a_softmax_over_what_is_visible(length: int) -> None:
    q, k, v = np.random.default_rng(4).normal(size=(3, 2, length, 4))
    got = causal_attention(*(jnp.asarray(x, jnp.float32) for x in (q, k, v)))
    for t in range(length):
        weights = np.exp(np.einsum("mk,mtk->mt", q[:, t], k[:, : t + 1]) / math.sqrt(4))
        weights /= weights.sum(axis=1, keepdims=True)
        wanted = np.einsum("mt,mtk->mk", weights, v[:, : t + 1])
        np.testing.assert_allclose(got[:, t], wanted, atol=2e-6)


def test_attention_bears_scores_that_would_overflow() -> None:
    q = jnp.full((1, 3, 4), 1e3, jnp.float32) * jnp.asarray([1, -1, 2.0])[None, :, None]
    v = jax.random.normal(jax.random.key(0), (1, 3, 4))
    out, grads = jax.value_and_grad(lambda x: causal_attention(x, x, v).sum())(q)
    assert np.isfinite(out)
    assert np.isfinite(np.asarray(grads)).all()


# Loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_and_gradients_are_those_of_a_log_softmax(scale: float) -> None:
    logits = scale * jax.random.normal(jax.random.key(1), (20, 9))
    targets = jnp.arange(20, dtype=jnp.int32) % 9

    def reference(x: jax.Array) -> jax.Array:
        return -jax.nn.log_softmax(x)[jnp.arange(20), targets]

    losses = log_losses(logits, targets)
    assert losses.dtype == jnp.float32
    assert losses.shape == (20,)
    np.testing.assert_allclose(losses, reference(logits), rtol=1e-6, atol=1e-6)
    grads = [
        jax.grad(lambda x, f=f: f(x).mean())(logits)
        for f in (lambda x: log_losses(x, targets), reference)
    ]
    np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-8)
