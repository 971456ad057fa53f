"""Hyperparameters as data make the same steps as optax with constants, and as AdamW on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lab.optimizer import adamw, hyper, initial_state, update
from lab.spec import OptimizerSpec

SPEC = OptimizerSpec(b1=0.85, b2=0.97, eps=1e-6, weight_decay=0.3, clip_norm=0.7)
RATES = [1e-3, 3e-3, 2e-3, 0.0, 5e-3, 1e-3]
Tree = dict[str, jax.Array]


def draw(seed: int, scale: float = 1.0) -> Tree:
    keys = jax.random.split(jax.random.key(seed), 2)
    return {
        "matrix": scale * jax.random.normal(keys[0], (5, 3)),
        "gain": scale * jax.random.normal(keys[1], (4,)),
    }


def trained(params: Tree, spec: OptimizerSpec = SPEC) -> list[Tree]:
    """Parameters after each step; gradients of norms above and below the clip."""
    state, seen = initial_state(params), []
    step = jax.jit(update)
    for k, rate in enumerate(RATES):
        grads = draw(100 + k, 0.05 * 3.0**k)
        params, state = step(params, state, grads, jnp.float32(rate), hyper(spec))
        seen.append(params)
    return seen


def test_it_is_clipped_adamw_of_optax_with_constant_hyperparameters() -> None:
    params = draw(0)
    got = trained(params)
    state = None
    for k, rate in enumerate(RATES):
        constant = optax.chain(
            optax.clip_by_global_norm(SPEC.clip_norm),
            optax.adamw(
                rate,
                b1=SPEC.b1,
                b2=SPEC.b2,
                eps=SPEC.eps,
                weight_decay=SPEC.weight_decay,
                mask={"matrix": True, "gain": False},
            ),
        )
        state = constant.init(params) if state is None else state
        grads = draw(100 + k, 0.05 * 3.0**k)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = constant.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name in params:
            np.testing.assert_allclose(got[k][name], params[name], rtol=2e-6, atol=1e-8)


def test_it_is_adamw_on_paper() -> None:
    got = trained(draw(0))
    params = {name: np.asarray(x, np.float64) for name, x in draw(0).items()}
    mu = {name: np.zeros_like(x) for name, x in params.items()}
    nu = {name: np.zeros_like(x) for name, x in params.items()}
    clipped = []
    for k, rate in enumerate(RATES):
        grads = {n: np.asarray(g, np.float64) for n, g in draw(100 + k, 0.05 * 3.0**k).items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        clipped.append(norm > SPEC.clip_norm)
        for name, g in grads.items():
            g = g * min(1.0, SPEC.clip_norm / norm)
            mu[name] = SPEC.b1 * mu[name] + (1 - SPEC.b1) * g
            nu[name] = SPEC.b2 * nu[name] + (1 - SPEC.b2) * g**2
            m, v = mu[name] / (1 - SPEC.b1 ** (k + 1)), nu[name] / (1 - SPEC.b2 ** (k + 1))
            decay = SPEC.weight_decay if name == "matrix" else 0.0
            step = m / (np.sqrt(v) + SPEC.eps) + decay * params[name]
            params[name] = params[name] - rate * step
        for name, wanted in params.items():
            np.testing.assert_allclose(got[k][name], wanted, rtol=2e-5, atol=1e-7)
    assert {bool(one) for one in clipped} == {True, False}


def test_decay_shrinks_matrices_and_leaves_gains() -> None:
    params = draw(1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    after, _ = update(params, initial_state(params), zeros, jnp.float32(0.01), hyper(SPEC))
    np.testing.assert_allclose(after["matrix"], params["matrix"] * (1 - 0.01 * 0.3), rtol=1e-6)
    assert np.array_equal(after["gain"], params["gain"])


def test_the_clip_bounds_the_norm_over_all_parameters() -> None:
    params, grads = draw(1), draw(2, 50.0)
    _, state = update(params, initial_state(params), grads, jnp.float32(0.1), hyper(SPEC))
    moments = next(s for s in state if isinstance(s, optax.ScaleByAdamState)).mu
    norm = float(optax.tree.norm(moments)) / (1 - SPEC.b1)
    assert norm == pytest.approx(SPEC.clip_norm, rel=1e-5)


def test_a_rate_of_zero_moves_the_moments_only() -> None:
    params = draw(1)
    before = initial_state(params)
    after, state = update(params, before, draw(2), jnp.float32(0.0), hyper(SPEC))
    assert all(np.array_equal(after[name], params[name]) for name in params)
    assert jax.tree.structure(state) == jax.tree.structure(before)
    assert not np.array_equal(jax.tree.leaves(state)[1], jax.tree.leaves(before)[1])


def test_the_state_has_one_shape_for_all_hyperparameters() -> None:
    params = draw(1)
    other = adamw(0.3, hyper(OptimizerSpec(weight_decay=0.0))).init(params)
    assert jax.tree.structure(other) == jax.tree.structure(initial_state(params))
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(initial_state(params)))


def test_hyperparameters_are_float32_scalars() -> None:
    assert {(x.dtype, x.shape) for x in hyper(SPEC)} == {(np.dtype("float32"), ())}
    assert hyper(SPEC).b2 == np.float32(0.97)
