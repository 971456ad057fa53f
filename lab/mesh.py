"""Devices and lanes: how runs of one shape share one program.

A stack holds S runs, one a lane, along a leading axis that is sharded over the devices (mesh axis
`run`). On accelerators the lanes of a device are one batched computation (vmap); on a CPU each
core is a device of its own and maps over its lanes, which is faster there (small matrix products
do not fill two cores) and gives every lane the bits of a run alone.
"""

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lab.errors import Refused
from lab.home import home

MAX_CPU_LANES = 16
MAX_LANES = 64  # a device; more has not been measured
FILL = 0.6  # of a device's memory that stacks may take by estimate


def cpu_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(lanes: int) -> None:
    """Set up jax for stacks of `lanes` runs; call before anything touches a device.

    A CPU gets a device a lane. Compiled programs are kept in the lab's folder, whatever their size,
    one folder a kind of machine: code compiled for one processor need not run on another.
    """
    if jax.config.jax_num_cpu_devices < 1:  # type: ignore[attr-defined]  # nobody has said
        with contextlib.suppress(RuntimeError):  # devices are there already
            jax.config.update("jax_num_cpu_devices", min(lanes, MAX_CPU_LANES))
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

    @property
    def sharding(self) -> NamedSharding:
        """Sharding of an array with a leading lane axis."""
        return NamedSharding(self.mesh, P("run"))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def over(self, lane: Callable[..., Any], shared: int = 0) -> Callable[..., Any]:
        """`lane(*shared, *one lane's arguments)` -> a function of the whole stack.

        The first `shared` arguments are the same for all lanes; the others, and the results, have a
        leading lane axis. Traceable; the caller jits it.
        """

        def stack(*args: Any) -> Any:
            common, laned = args[:shared], args[shared:]
            if self.batched:
                return jax.vmap(lambda *mine: lane(*common, *mine))(*laned)
            return jax.lax.map(lambda mine: lane(*common, *mine), laned)

        def sharded(*args: Any) -> Any:
            specs = tuple(P() if k < shared else P("run") for k in range(len(args)))
            return jax.shard_map(
                stack, mesh=self.mesh, in_specs=specs, out_specs=P("run"), check_vma=False
            )(*args)

        return sharded


def lanes(count: int, batched: bool | None = None) -> Lanes:
    """A stack of `count` lanes over as many of this process's devices as divide it.

    `batched` (vmap) defaults to what suits the platform: on accelerators, not on a CPU.
    """
    if count < 1:
        raise Refused(f"stack = {count}: must be at least 1 lane")
    devices = jax.devices()
    used = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    mesh = jax.make_mesh((used,), ("run",), axis_types=(AxisType.Auto,), devices=devices[:used])
    if batched is None:
        batched = devices[0].platform != "cpu"
    return Lanes(count, mesh, batched)


def default_lanes() -> int:
    """Lanes of a stack when nobody says: one a core on a CPU."""
    return min(cpu_cores(), MAX_CPU_LANES)


def fitting_lanes(step_bytes: int) -> int:
    """Lanes of a stack on this process's devices, where a lane's step needs `step_bytes`.

    One a core on a CPU; on accelerators as many as fit into FILL of their memory. Touches devices.
    """
    start(default_lanes())
    devices = jax.devices()
    if devices[0].platform == "cpu":
        return default_lanes()
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    return len(devices) * max(1, min(MAX_LANES, int(FILL * memory) // step_bytes))


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
        "devices": stack.mesh.size,
        "stack": stack.count,
    }
