"""Several hosts as one machine: how they meet, agree, and share what one of them holds.

Every host runs the same program on all devices (`jax.distributed`), so whatever steers it must be
the same everywhere: clocks, files and folders are the first host's alone, and what it found out is
told to the others. On one host all of this is nothing.
"""

import json
from typing import Any

import jax
import numpy as np

from lab.errors import Failed, Refused

LOST = (
    "another host has ended or cannot be reached; what was committed stays, "
    "run again on all hosts to go on"
)
HEARTBEAT_SECONDS = 10  # of silence before a host counts as dead


def join(coordinator: str | None, hosts: int | None, host: int | None) -> None:
    """Meet the other hosts; call before anything touches a device. Raises Refused, Failed.

    `coordinator` is HOST:PORT of the first of `hosts` hosts, this one is number `host`; or
    "auto" where the cluster says (SLURM, TPU pods, Open MPI, Kubernetes).
    """
    told: dict[str, Any] = {}
    if coordinator == "auto":
        if hosts is not None or host is not None:
            raise Refused("--coordinator auto: the cluster says how many hosts there are")
    elif coordinator is None or hosts is None or host is None:
        raise Refused("several hosts need --coordinator HOST:PORT, --hosts and --host")
    else:
        name, _, port = coordinator.rpartition(":")
        if not name or not port.isdecimal():
            raise Refused(f"--coordinator {coordinator}: must read HOST:PORT, or auto")
        if hosts < 1 or not 0 <= host < hosts:
            raise Refused(f"--host {host} of --hosts {hosts}: must be in 0..{max(0, hosts - 1)}")
        # Bound to the address that was named, not to every one that the host has.
        told = {"coordinator_address": coordinator, "num_processes": hosts, "process_id": host}
        told["coordinator_bind_address"] = coordinator
    try:
        jax.distributed.initialize(**told, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise Failed(f"cannot meet the other hosts: {str(error).splitlines()[0]}") from error


def leave() -> None:
    """Wait for all hosts to come here; from then on each may end when it likes. Collective."""
    if several():
        agree(None)
        jax.distributed.shutdown()


def several() -> bool:
    """Whether hosts have met. Touches no device where they have not."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this host is the one that reads and writes the output folder."""
    return not several() or jax.process_index() == 0


def agree(value: Any) -> Any:
    """The first host's `value` (plain JSON), on every host."""
    if not several():
        return value
    text = json.dumps(value).encode() if first() else b""
    length = int(_from_first(np.int32(len(text))))
    return json.loads(_from_first(np.frombuffer(text.ljust(length), np.uint8)[:length]).tobytes())


def shared(state: Any, like: Any) -> Any:
    """The first host's state on every host, leaf by leaf; `like` has its shapes and dtypes."""
    if not several():
        return state
    leaves, structure = jax.tree.flatten(like)
    mine = jax.tree.leaves(state) if first() else [np.zeros(x.shape, x.dtype) for x in leaves]
    return jax.tree.unflatten(structure, [_from_first(leaf) for leaf in mine])


def _from_first(value: Any) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(value))


def whole(tree: Any) -> Any:
    """Arrays that may be spread over hosts, whole and on this host, leaf by leaf."""
    if not several():
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(
        lambda leaf: np.asarray(multihost_utils.process_allgather(leaf, tiled=True)), tree
    )
