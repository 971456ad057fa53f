"""Lanes over devices: what divides, what is shared, what is said about it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lab import mesh
from lab.errors import Refused
from lab.mesh import Lanes, lanes, provenance


@pytest.mark.parametrize("count", [0, -1])
def test_a_stack_without_lanes_is_refused(count: int) -> None:
    with pytest.raises(Refused, match=f"stack = {count}: must be at least 1 lane"):
        lanes(count)


@pytest.mark.parametrize(
    ("count", "devices"),
    [(1, 1), (2, 2), (3, 3), (6, 6), (8, 8), (9, 3), (11, 1), (12, 6), (16, 8)],
)
def test_as_many_devices_are_used_as_divide_the_stack(count: int, devices: int) -> None:
    assert len(jax.devices()) == 8
    stack = lanes(count)
    assert stack.mesh.size == devices
    assert stack.count == count


def test_a_cpu_maps_unless_told_otherwise() -> None:
    assert not lanes(2).batched
    assert lanes(2, batched=True).batched


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("count", [4, 12])
def test_every_lane_gets_its_own_arguments_and_the_shared_ones(count: int, batched: bool) -> None:
    stack = lanes(count, batched=batched)
    seen = jax.jit(
        stack.over(lambda shared, own, more: {"sum": shared.sum() * own + more["x"]}, P())
    )
    shared = jnp.arange(3, dtype=jnp.float32)
    own = jnp.arange(count, dtype=jnp.float32)
    out = seen(shared, own, {"x": own + 100})
    assert np.asarray(out["sum"]).tolist() == [3.0 * k + k + 100 for k in range(count)]
    assert out["sum"].sharding.is_equivalent_to(stack.sharding, ndim=1)
    assert len(out["sum"].sharding.device_set) == stack.mesh.size


def test_a_stack_is_spread_over_its_devices_and_what_is_shared_is_on_each() -> None:
    stack = lanes(4)
    spread = jax.device_put(np.zeros((4, 3)), stack.sharding)
    assert [shard.data.shape for shard in spread.addressable_shards] == [(1, 3)] * 4
    shared = jax.device_put(np.zeros((5, 3)), stack.replicated)
    assert [shard.data.shape for shard in shared.addressable_shards] == [(5, 3)] * 4


def test_provenance_names_software_hardware_and_stack() -> None:
    found = provenance(lanes(12))
    assert set(found) == {
        "python", "jax", "platform", "device", "machine", "cores", "devices", "stack",
        "mesh", "accumulate", "remat", "hosts",
    }  # fmt: skip
    assert (found["devices"], found["stack"], found["platform"]) == (6, 12, "cpu")
    assert found["jax"] == jax.__version__
    assert found["cores"] == mesh.cpu_cores() >= 1


def test_a_stack_is_a_lane_a_core_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, wanted in ((1, 1), (5, 5), (64, mesh.MAX_CPU_LANES)):
        monkeypatch.setattr(mesh, "cpu_cores", lambda cores=cores: cores)
        assert mesh.default_lanes() == wanted


class Accelerator:
    platform = "gpu"

    def __init__(self, limit: int | None) -> None:
        self.limit = limit

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.limit is None else {"bytes_limit": self.limit}


@pytest.mark.parametrize(
    ("limit", "step_bytes", "wanted"),
    [(10_000, 1_000, 2 * 6), (10_000, 50_000, 2), (10**9, 1, 2 * mesh.MAX_LANES), (None, 1_000, 2)],
)
def test_an_accelerator_takes_as_many_lanes_as_fit(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, step_bytes: int, wanted: int
) -> None:
    monkeypatch.setattr(mesh, "start", lambda *told: None)
    monkeypatch.setattr(mesh.jax, "devices", lambda: [Accelerator(limit)] * 2)
    assert mesh.fitting_lanes(step_bytes) == wanted


def test_lanes_are_compared_by_what_they_are() -> None:
    assert lanes(4) == lanes(4) != lanes(8)
    assert lanes(4) != Lanes(4, lanes(4).mesh, batched=True)
