"""Where every array of one run lies on the mesh axes data, fsdp and tensor, by its role.

A role is the name of a parameter or an activation with its shape: B windows, L positions, N = B L,
D residual width, H heads, K channels a head, F MLP width, V vocabulary. Windows are divided over
`data` and `fsdp`. Parameters, and what the optimizer keeps of each, lie divided over `fsdp` and
`tensor`, and are gathered over `fsdp` where they are used (ZeRO-3: Rajbhandari et al., 1910.02054).
Heads and the MLP are divided over `tensor` (Shoeybi et al., 1909.08053), tokens at the head too.
The axis `run` is not here: lanes never meet (`lab.mesh`).

Products are left to XLA's partitioner, held by these constraints. What looks things up (embedding,
attention's fold, the target's logit) runs on each device's own part instead: the partitioner aborts
on a gather or scatter of a divided dimension beside a manual axis (jax 0.10).
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp", "tensor")
WINDOWS = ("data", "fsdp")

# A parameter at rest.
STORED = {
    "embedding_VD": P(None, ("fsdp", "tensor")),
    "qkv_D3D": P(("fsdp", "tensor"), None),  # a cut of 3D would part q, k and v, not heads
    "out_DD": P("tensor", "fsdp"),
    "gate_DF": P("fsdp", "tensor"),
    "up_DF": P("fsdp", "tensor"),
    "down_FD": P("tensor", "fsdp"),
    "head_DV": P(None, ("fsdp", "tensor")),
    "gain_D": P(None),
}
# Parameters where they are used, and activations.
USED = {
    "embedding_VD": P(None, None),
    "fsdp_qkv_D3HK": P("fsdp", None, "tensor", None),  # on the way: one exchange an axis
    "qkv_D3HK": P(None, None, "tensor", None),
    "out_DD": P("tensor", None),
    "gate_DF": P(None, "tensor"),
    "up_DF": P(None, "tensor"),
    "down_FD": P("tensor", None),
    "head_DV": P(None, None),
    "text_T": P(None),
    "own_text_T": P(WINDOWS),
    "starts_B": P(WINDOWS),
    "windows_BL": P(WINDOWS, None),
    "tokens_N": P(WINDOWS),
    "x_ND": P(WINDOWS, None),
    "mixed_ND": P(WINDOWS, "tensor"),
    "hidden_NF": P(WINDOWS, "tensor"),
    "last_ND": P(AXES, None),
    "logits_NV": P(AXES, None),
    "targets_N": P(AXES),
}


def devices_of(*axes: str) -> int:
    """Devices along mesh axes, where the caller is being traced; 1 outside a mesh."""
    sizes = jax.sharding.get_abstract_mesh().shape
    count = 1
    for axis in axes:
        count *= sizes.get(axis, 1)
    return count


def used(x: Array, role: str) -> Array:
    """A parameter or an activation, divided as it is used."""
    if devices_of(*AXES) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, USED[role])


def apart(function: Callable[..., Array], roles: tuple[str, ...], out: str) -> Callable[..., Array]:
    """`function` of arrays with the given roles, run on each device's own part of them."""
    if devices_of(*AXES) == 1:
        return function
    return jax.shard_map(
        function,
        in_specs=tuple(USED[role] for role in roles),
        out_specs=USED[out],
        axis_names=set(AXES),
        check_vma=False,
    )


def stored_specs(state: Any) -> Any:
    """PartitionSpec of each leaf of a state at rest, by the last name on its path.

    The layers of a stacked leaf are not divided; counts lie everywhere.
    """

    def spec(path: tuple[Any, ...], leaf: Any) -> P:
        names = [key.key for key in path if isinstance(getattr(key, "key", None), str)]
        role = STORED.get(names[-1] if names else "", P())
        return P(*(None,) * (leaf.ndim - len(role)), *role)

    return jax.tree.map_with_path(spec, state)


def stored(state: Any) -> Any:
    """A state, or a tree named like one, divided as it is at rest."""
    if devices_of(*AXES) == 1:
        return state
    return jax.tree.map(jax.lax.with_sharding_constraint, state, stored_specs(state))
