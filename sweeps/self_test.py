"""Does training work here? Three steps of a tiny model, against the losses that they have to give.

Run as `python -m sweeps.self_test` by `lab doctor`, in a process of its own: a device that another
process holds, or a driver that hangs, must not take the doctor with it. Prints one JSON value.
"""

import json
import math
from typing import Any

LOSSES_NATS = (2.43611455, 2.52150798, 2.47681856)  # tests/lab/test_golden.py freezes them
TOLERANCE = 1e-6  # relative, in float32 on a CPU; accelerators round products otherwise
ACCELERATOR_TOLERANCE = 1e-2


def devices() -> dict[str, Any]:
    """Backend and devices of jax, as they say it themselves."""
    import jax

    found = jax.devices()
    return {
        "backend": jax.default_backend(),
        "devices": [f"{one.platform} {one.device_kind}" for one in found],
        "memory_gb": [_gigabytes(one.memory_stats()) for one in found],
    }


def _gigabytes(stats: dict[str, int] | None) -> float | None:
    return round(stats["bytes_limit"] / 2**30, 1) if stats and "bytes_limit" in stats else None


def three_steps() -> list[float]:
    """Losses of the first three steps of the frozen model, in nats per token."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lab import mesh
    from lab.optimizer import hyper
    from lab.spec import ModelSpec, OptimizerSpec, Shape
    from lab.train import Chunk, Trainer

    model = ModelSpec(width=8, layers=2, heads=2, mlp_width=12, context=6, vocabulary=11)
    text = (np.arange(200) ** 2 + 3 * np.arange(200) // 7) % 11
    trainer = Trainer(Shape(model, batch=2), mesh.lanes(1), chunk=3)
    chunk = Chunk(
        jnp.asarray(text, jnp.uint8),
        np.array([[[0, 31], [70, 12], [101, 150]]], np.int32),
        np.array([[1e-2, 2e-2, 5e-3]], np.float32),
        jax.tree.map(lambda x: x[None], hyper(OptimizerSpec(clip_norm=0.5))),
        np.array([3], np.int32),
    )
    _, log = trainer.train(trainer.put(trainer.empty_stack(), 0, trainer.initial(2405)), chunk)
    found: list[float] = np.asarray(log.loss_nats)[0].tolist()
    return found


def main() -> None:
    """Look, train, and say."""
    from lab import mesh

    mesh.start(1)
    value = devices()
    losses = three_steps()
    apart = [abs(a - b) / b for a, b in zip(losses, LOSSES_NATS, strict=True)]
    allowed = TOLERANCE if value["backend"] == "cpu" else ACCELERATOR_TOLERANCE
    finite = all(map(math.isfinite, losses))
    value["relative_error"] = max(apart) if finite else None
    value["right"] = finite and max(apart) <= allowed
    print(json.dumps(value))


if __name__ == "__main__":
    main()
