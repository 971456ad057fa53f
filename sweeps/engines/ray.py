"""Tasks on a Ray cluster: each where enough accelerators are free, again where a node dies.

Ray is sent a command line, run by `subprocess.call` on the node, and asked whether it has ended;
its return value is never fetched, since what Ray moves is pickled. A worker's standard input is a
pipe that its Ray process holds: where Ray ends that process alone, the worker saves what it has and
ends too (`lab work --tied`); of a node that dies, it loses what was not committed. Tasks end with
their driver; the next one hands over what is left.
"""

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import Failed, Refused
from sweeps.engines.fleet import private
from sweeps.engines.options import number_of, refuse_unknown

OPTIONS = ("address", "cpus", "gpus", "tpus")
RETRIES = 3  # by Ray, of a task whose node died; then the driver hands it over again
STORE_BYTES = 80 * 2**20  # of Ray's own object store on loopback: nothing goes through it
# The last words of the command are arguments of this: never a part of the script.
LOGGED = 'log=$1; shift; exec "$@" >>"$log" 2>&1'


class RayEngine:
    """Ray at `address`, or a Ray of its own on this machine, bound to loopback."""

    name = "ray"
    queues = False  # Ray would keep the order, but only until its driver is gone

    def __init__(self, folder: Path, told: Mapping[str, str], lanes: int, devices: int) -> None:
        """`lanes`, `devices`: of a stack, where Ray is not told what a task takes. Raises Refused,
        Failed."""
        self.ray = check(told)
        self.folder = private(folder)
        try:
            self._connect(told)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise Failed(f"cannot reach Ray: {str(error).splitlines()[0]}") from error
        self.takes = needs(told, self.ray.cluster_resources(), lanes, devices)
        self._refs: dict[str, Any] = {}

    def _connect(self, told: Mapping[str, str]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a sweep tells nobody of itself
        own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        options: dict[str, Any] = {"address": told["address"]} if "address" in told else own
        if on_loopback(told):
            options["_node_ip_address"] = "127.0.0.1"
        ours = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
        self.ray.init(**options, log_to_driver=False, logging_level="ERROR")
        if threading.current_thread() is threading.main_thread():
            for one, handler in ours.items():  # Ray takes SIGTERM for itself: no exit code 75
                signal.signal(one, handler)

    def submit(self, command: Sequence[str], after: Sequence[str]) -> str:
        assert not after, "the driver waits for what a task comes after"
        id = secrets.token_hex(4)
        wrapped = ["sh", "-c", LOGGED, "lab", str(self.log(id)), *command, "--tied"]
        call = self.ray.remote(max_retries=RETRIES, scheduling_strategy="SPREAD", **self.takes)
        self._refs[id] = call(subprocess.call).remote(wrapped, stdin=subprocess.PIPE)
        return id

    def alive(self, ids: Collection[str]) -> set[str]:
        mine = {self._refs[id]: id for id in ids if id in self._refs}
        if not mine:
            return set()
        refs = list(mine)
        _, going = self.ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        return {mine[one] for one in going}

    def log(self, id: str) -> Path:
        return self.folder.absolute() / f"ray-{id}.log"

    def close(self) -> None:
        self.ray.shutdown()


def on_loopback(told: Mapping[str, str]) -> bool:
    """Whether nothing outside this machine is to be reached, or to reach in."""
    return told.get("address", "127.0.0.1").startswith(("127.", "localhost:"))


def check(told: Mapping[str, str]) -> Any:
    """The package, if it is there and these options are Ray's. Raises Refused; starts nothing."""
    refuse_unknown("ray", told, OPTIONS)
    for name in OPTIONS[1:]:
        number_of(told, name)
    if on_loopback(told):  # else Ray takes 127.0.0.1 for this machine's outward address
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise Refused(
            f"--engine ray needs the package ray ({error}): pip install 'scaling-law-lab[ray]'"
        ) from None
    return ray


def needs(
    told: Mapping[str, str], cluster: Mapping[str, float], lanes: int, devices: int
) -> dict[str, Any]:
    """What a task takes of a node: as told; else the devices of a run, of the accelerators that
    the cluster has; else a core for each lane."""
    if any(name in told for name in ("cpus", "gpus", "tpus")):
        takes: dict[str, Any] = {
            option: number_of(told, name)
            for name, option in (("cpus", "num_cpus"), ("gpus", "num_gpus"))
            if name in told
        }
        if "tpus" in told:
            takes["resources"] = {"TPU": number_of(told, "tpus")}
        return takes
    if cluster.get("GPU", 0) > 0:
        return {"num_gpus": devices}
    if cluster.get("TPU", 0) > 0:
        return {"resources": {"TPU": devices}}
    return {"num_cpus": lanes}
