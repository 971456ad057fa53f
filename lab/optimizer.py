"""AdamW or Muon behind a clip of the gradient norm, with every hyperparameter an input of the step.

optax's own schedules do not take a traced step count, and a rate that is data needs no schedule:
the chain is built inside the step from this step's numbers. Its state is kept as a plain nested
dict, {"count", "mu", "nu"}: names, not positions, are what is stored.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from optax.contrib import MuonDimensionNumbers, muon

from lab.parametrisation import HIDDEN
from lab.spec import OptimizerName, OptimizerSpec

KEPT = ("count", "mu", "nu")  # of an optax state; the rest are constants
ONE_RATE: Mapping[str, float] = {}  # every leaf steps at the rate itself
# An orthogonal update times .2 sqrt(longer side) has AdamW's usual root mean square, so that rates
# and decay mean the same for both: Liu et al., 2502.16982, section 2.2.
MUON_RMS = 0.2


class Hyper(NamedTuple):
    """What the optimizer of one run is made of, each a float32 scalar (stacked: [S])."""

    b1: Array | np.ndarray
    b2: Array | np.ndarray
    eps: Array | np.ndarray
    weight_decay: Array | np.ndarray
    clip_norm: Array | np.ndarray
    momentum: Array | np.ndarray


def hyper(spec: OptimizerSpec) -> Hyper:
    """Hyperparameters of a spec as float32 scalars."""
    return Hyper(*(np.asarray(getattr(spec, name), np.float32) for name in Hyper._fields))


def _last_name(path: tuple[Any, ...]) -> str:
    return str(path[-1].key)


def _decayed(params: optax.Params) -> optax.Params:
    return jax.tree.map_with_path(lambda path, _: not _last_name(path).startswith("gain"), params)


def _muon_axes(params: optax.Params) -> optax.Params:
    """Which axes of a leaf make its matrix (those before them count matrices), None for AdamW."""

    def axes(path: tuple[Any, ...], leaf: Array) -> MuonDimensionNumbers | None:
        if _last_name(path) not in HIDDEN:
            return None
        # q, k and v are three matrices: [..., D, 3, D] (see `_parted`)
        rows = leaf.ndim - (3 if _last_name(path) == "qkv_D3D" else 2)
        return MuonDimensionNumbers(rows, leaf.ndim - 1)

    return jax.tree.map_with_path(axes, params)


def _at_rates(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Steps of leaves times their factors, by name."""

    def scaled(updates: optax.Updates, _: Any) -> optax.Updates:
        return jax.tree.map_with_path(
            lambda path, step: step * rates.get(_last_name(path), 1.0), updates
        )

    return optax.stateless(scaled)


def _chain(
    name: OptimizerName, rate: Array | float, h: Hyper, rates: Mapping[str, float] = ONE_RATE
) -> optax.GradientTransformation:
    """The optimizer at one learning rate, that of a leaf times its factor in `rates`.

    Decay acts on matrices, not on gains, at the rate without that factor.
    """
    if name == "muon":
        scale = muon(
            learning_rate=-1.0,  # only the direction: sign, rate and decay are set below for both
            beta=h.momentum,
            eps=h.eps,
            adam_b1=h.b1,
            adam_b2=h.b2,
            muon_weight_dimension_numbers=_muon_axes,
            consistent_rms=MUON_RMS,
        )
    else:
        scale = optax.scale_by_adam(b1=h.b1, b2=h.b2, eps=h.eps)
    return optax.chain(
        optax.clip_by_global_norm(h.clip_norm),
        scale,
        *([_at_rates(rates)] if rates else []),
        optax.add_decayed_weights(h.weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(rate),
    )


def update(
    params: Any,
    state: dict[str, Any],
    grads: Any,
    rate: Array,
    h: Hyper,
    name: OptimizerName = "adamw",
    rates: Mapping[str, float] = ONE_RATE,
) -> tuple[Any, dict[str, Any]]:
    """One step: (new parameters, new optimizer state).

    `rates` are factors of the rate by the name of a leaf (`lab.parametrisation`).
    """
    if name == "muon":
        params, grads = _parted(params), _parted(grads)
        state = state | {"mu": _parted(state["mu"])}
    chain = _chain(name, rate, h, rates)
    # optax corrects its bias by b1 ** count, a traced float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        before = _unplain(chain.init(params), state)
        updates, after = chain.update(grads, before, params)
    params, state = optax.apply_updates(params, updates), _plain(after)
    if name == "muon":
        params, state = _joined(params), state | {"mu": _joined(state["mu"])}
    return params, state


def initial_state(params: Any, name: OptimizerName = "adamw") -> dict[str, Any]:
    """Fresh optimizer state: zero moments, zero count. Muon keeps `nu` only where AdamW acts."""
    any_ = Hyper(*(jnp.float32(0.5) for _ in Hyper._fields))
    state = _plain(_chain(name, 0.0, any_).init(_parted(params) if name == "muon" else params))
    return state | {"mu": _joined(state["mu"])} if name == "muon" else state


# optax states and plain ones -----------------------------------------------------------------


def _place(path: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Where a leaf of an optax state stands in a plain one: mu.blocks.0..., or None."""
    names = [getattr(key, "name", None) for key in path]
    kept = [k for k, name in enumerate(names) if name in KEPT]
    return (names[kept[0]], *(key.key for key in path[kept[0] + 1 :])) if kept else None


def _plain(state: optax.OptState) -> dict[str, Any]:
    plain: dict[Any, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(state):
        place = _place(path)
        if place is not None:
            *way, last = place
            holder = plain
            for key in way:
                holder = holder.setdefault(key, {})
            holder[last] = leaf  # the counts of Muon's two parts are one number
    return plain


def _unplain(like: optax.OptState, plain: dict[str, Any]) -> optax.OptState:
    """The optax state that has the leaves of `plain`, and the constants of `like`."""

    def leaf(path: tuple[Any, ...], constant: Any) -> Any:
        place = _place(path)
        if place is None:
            return constant
        found: Any = plain
        for key in place:
            found = found[key]
        return found

    return jax.tree.map_with_path(leaf, like)


def _on_qkv(tree: Any, change: Callable[[Array], Array]) -> Any:
    return jax.tree.map_with_path(
        lambda path, x: change(x) if _last_name(path) == "qkv_D3D" else x, tree
    )


def _parted(tree: Any) -> Any:
    """[..., D, 3 D] of q, k and v as [..., D, 3, D]."""
    return _on_qkv(tree, lambda x: x.reshape(*x.shape[:-1], 3, x.shape[-1] // 3))


def _joined(tree: Any) -> Any:
    return _on_qkv(tree, lambda x: x.reshape(*x.shape[:-2], 3 * x.shape[-1]))
