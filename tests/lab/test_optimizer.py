"""Hyperparameters as data make the same steps as optax with constants, and as AdamW on paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lab.optimizer import hyper, initial_state, update
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
    norm = float(optax.tree.norm(state["mu"])) / (1 - SPEC.b1)
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
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert jax.tree.structure(initial_state(params)) == jax.tree.structure(
        {"count": 0, "mu": zeros, "nu": zeros}
    )
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(initial_state(params)))


def test_hyperparameters_are_float32_scalars() -> None:
    assert {(x.dtype, x.shape) for x in hyper(SPEC)} == {(np.dtype("float32"), ())}
    assert hyper(SPEC).b2 == np.float32(0.97)


# Muon ----------------------------------------------------------------------------------------

MUON = OptimizerSpec(0.8, 0.97, 1e-7, weight_decay=0.3, clip_norm=1.0, name="muon", momentum=0.9)


def block(seed: int, scale: float = 1.0) -> Tree:
    """Parameters (or gradients) of one block and of what is around it."""
    draw = np.random.default_rng(seed)
    shapes = {"qkv_D3D": (6, 18), "up_DF": (6, 10), "gain_D": (6,), "embedding_VD": (9, 6)}
    return {
        name: jnp.asarray(scale * draw.normal(size=shape), jnp.float32)
        for name, shape in shapes.items()
    }


def newton_schulz(x: np.ndarray) -> np.ndarray:
    """Five steps of Jordan's quintic on the shorter side, of a matrix of Frobenius norm 1."""
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / np.linalg.norm(x)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def test_muon_takes_hidden_matrices_each_by_itself_and_leaves_the_rest_to_adamw() -> None:
    rates = [0.02, 0.05, 0.01]
    step = jax.jit(functools.partial(update, name="muon"))
    # as optax.contrib.muon has it, AdamW looks ahead as well
    adamw = optax.chain(
        optax.scale_by_adam(MUON.b1, MUON.b2, MUON.eps, nesterov=True),
        optax.add_decayed_weights(MUON.weight_decay, {"gain_D": False, "embedding_VD": True}),
    )
    rest_of = ("gain_D", "embedding_VD")
    params = block(0)
    state = initial_state(params, "muon")
    rest = {name: params[name] for name in rest_of}
    rest_state = adamw.init(rest)
    assert set(state["nu"]) == {"gain_D", "embedding_VD"}
    assert state["mu"]["qkv_D3D"].shape == (6, 18)
    momentum = dict.fromkeys(("qkv_D3D", "up_DF"), 0.0)
    for k, rate in enumerate(rates):
        grads = block(10 + k, 0.01)  # below the clip
        before = params
        params, state = step(params, state, grads, jnp.float32(rate), hyper(MUON))
        pulled = {name: grads[name] for name in rest_of}
        with jax.numpy_dtype_promotion("standard"):
            moves, rest_state = adamw.update(pulled, rest_state, rest)
        rest = {name: rest[name] - jnp.float32(rate) * moves[name] for name in rest_of}
        for name in rest_of:
            np.testing.assert_allclose(params[name], rest[name], rtol=2e-6, atol=1e-7)
        for name in momentum:
            g = np.asarray(grads[name], np.float64)
            momentum[name] = 0.9 * momentum[name] + 0.1 * g
            ahead = 0.9 * momentum[name] / (1 - 0.9 ** (k + 2)) + 0.1 * g / (1 - 0.9 ** (k + 1))
            parts = np.split(ahead, 3, axis=1) if name == "qkv_D3D" else [ahead]
            moved = [0.2 * np.sqrt(max(part.shape)) * newton_schulz(part) for part in parts]
            old = np.asarray(before[name], np.float64)
            wanted = old - rate * (np.concatenate(moved, axis=1) + 0.3 * old)
            np.testing.assert_allclose(params[name], wanted, rtol=0, atol=2e-6)
    assert step._cache_size() == 1


def test_muon_treats_stacked_layers_as_it_treats_each() -> None:
    layers, grads = [block(k) for k in (1, 2)], [block(k, 0.01) for k in (3, 4)]
    hidden = ("qkv_D3D", "up_DF")
    stacked, pulled = (
        {name: jnp.stack([one[name] for one in both]) for name in hidden}
        for both in (layers, grads)
    )
    told = (jnp.float32(0.02), hyper(MUON), "muon")
    together, _ = update(stacked, initial_state(stacked, "muon"), pulled, *told)
    for k, (one, grad) in enumerate(zip(layers, grads, strict=True)):
        mine, pull = ({name: tree[name] for name in hidden} for tree in (one, grad))
        alone, _ = update(mine, initial_state(mine, "muon"), pull, *told)
        for name in hidden:
            np.testing.assert_allclose(together[name][k], alone[name], rtol=0, atol=1e-6)
