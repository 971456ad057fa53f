"""Devices and lanes: how runs of one shape share one program.

A stack holds S runs, one a lane, along a leading axis that is divided over the mesh axis `run`;
each run is divided over the other axes (`lab.sharding`). On accelerators the lanes of a device are
one batched computation (vmap); on a CPU each core is a device of its own and maps over its lanes,
which is faster there (small matrix products do not fill two cores) and gives every lane the bits of
a run alone.
"""

import contextlib
import hashlib
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lab.errors import Refused
from lab.home import home
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.sharding import AXES, stored_specs

MAX_CPU_LANES = 16
MAX_LANES = 64  # a device; more has not been measured
FILL = 0.6  # of a device's memory that stacks may take by estimate


def cpu_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(lanes: int, layout: Layout = A_RUN_A_DEVICE) -> None:
    """Set up jax for stacks of `lanes` runs; call before anything touches a device.

    A CPU gets a device a lane; where a run takes several, a device a core. Compiled programs are
    kept in the lab's folder, whatever their size, one folder a kind of machine: code compiled for
    one processor need not run on another.
    """
    if jax.config.jax_num_cpu_devices < 1:  # type: ignore[attr-defined]  # nobody has said
        devices = min(lanes, MAX_CPU_LANES) if layout.devices_a_run == 1 else cpu_cores()
        with contextlib.suppress(RuntimeError):  # devices are there already
            jax.config.update("jax_num_cpu_devices", devices)
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    cache = home() / "compiled" / f"{jax.__version__}-{kind}"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


@dataclass(frozen=True)
class Lanes:
    """A stack of `count` lanes on a mesh whose axis `run` divides it; `batched` says vmap."""

    count: int
    mesh: Mesh
    batched: bool
    layout: Layout = A_RUN_A_DEVICE

    @property
    def sharding(self) -> NamedSharding:
        """Sharding of an array with a leading lane axis."""
        return NamedSharding(self.mesh, P("run"))

    def of_state(self, state: Any) -> Any:
        """Sharding of each leaf of one run's state at rest."""
        return jax.tree.map(partial(NamedSharding, self.mesh), stored_specs(state))

    def of_stack(self, state: Any) -> Any:
        """Sharding of each leaf of a stack of such states."""
        specs = stored_specs(state)
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, P("run", *spec)), specs)

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def over(self, lane: Callable[..., Any], *shared: P) -> Callable[..., Any]:
        """`lane(*shared, *one lane's arguments)` -> a function of the whole stack.

        The first arguments, one for each spec in `shared`, are the same for all lanes of a device;
        the others, and the results, have a leading lane axis. Traceable; the caller jits it.
        """

        def stack(*args: Any) -> Any:
            common, laned = args[: len(shared)], args[len(shared) :]
            if self.batched:
                return jax.vmap(lambda *mine: lane(*common, *mine))(*laned)
            return jax.lax.map(lambda mine: lane(*common, *mine), laned)

        # Within a run the other axes are left to XLA's partitioner; where a device holds a whole
        # run there is nothing to divide, and the program is that of one device, to the bit.
        manual = {"run"} if self.layout.devices_a_run > 1 else {"run", *AXES}

        def divided(*args: Any) -> Any:
            specs = (*shared, *(P("run"),) * (len(args) - len(shared)))
            return jax.shard_map(
                stack,
                mesh=self.mesh,
                in_specs=specs,
                out_specs=P("run"),
                axis_names=manual,
                check_vma=False,
            )(*args)

        return divided


def placed(array: Any, sharding: NamedSharding) -> Any:
    """An array where it belongs: of one on the host, each device gets its part and no more."""
    if isinstance(array, jax.Array):
        return array
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: np.asarray(array[index or ...], array.dtype)
    )


def lanes(count: int, layout: Layout = A_RUN_A_DEVICE, batched: bool | None = None) -> Lanes:
    """A stack of `count` lanes over all hosts' devices. Raises Refused where they do not suffice.

    `batched` (vmap) defaults to what suits the platform: on accelerators, not on a CPU.
    """
    if count < 1:
        raise Refused(f"stack = {count}: must be at least 1 lane")
    devices = jax.devices()
    sizes = (layout.runs_at_once(count, len(devices)), layout.data, layout.fsdp, layout.tensor)
    kinds = (AxisType.Auto,) * len(sizes)
    used = devices[: math.prod(sizes)]
    if len(used) < len(devices) and jax.process_count() > 1:
        raise Refused(
            f"stack = {count}, mesh {layout.mesh or 'run'}: uses {len(used)} of {len(devices)} "
            "devices; several hosts must use all of theirs"
        )
    mesh = jax.make_mesh(sizes, ("run", *AXES), axis_types=kinds, devices=used)
    if batched is None:
        batched = devices[0].platform != "cpu"
    return Lanes(count, mesh, batched, layout)


def default_lanes(layout: Layout = A_RUN_A_DEVICE) -> int:
    """Lanes of a stack on a CPU when nobody says: one a core, or as many runs as find devices."""
    simulated = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    devices = cpu_cores() if layout.devices_a_run == 1 else max(simulated, cpu_cores())
    at_most = max(1, min(devices // layout.devices_a_run, MAX_CPU_LANES))
    runs = layout.run or 1
    return max(runs, at_most // runs * runs)


def fitting_lanes(step_bytes: int, layout: Layout = A_RUN_A_DEVICE) -> int:
    """Lanes of a stack on all devices, where a lane's step needs `step_bytes` of each of its own.

    On accelerators as many as fit into FILL of their memory. Touches devices. Raises Refused.
    """
    start(default_lanes(layout), layout)
    devices = jax.devices()
    if devices[0].platform == "cpu":
        return default_lanes(layout)
    runs = layout.run or max(1, len(devices) // layout.devices_a_run)
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    return runs * max(1, min(MAX_LANES, int(FILL * memory) // step_bytes))


def device_count() -> int:
    """Devices of all hosts; touches them."""
    return len(jax.devices())


def provenance(stack: Lanes) -> dict[str, str | int]:
    """What a result came from, beside its identity: software, hardware, stack."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
        "machine": platform.machine(),
        "cores": cpu_cores(),
        "hosts": jax.process_count(),
        "devices": stack.mesh.size,
        "stack": stack.count,
        "mesh": stack.layout.mesh,
        "accumulate": stack.layout.accumulate,
        "remat": int(stack.layout.remat),
    }
