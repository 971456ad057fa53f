"""`lab bench device`: what differs on this machine's accelerator from its CPU, in one go.

The same runs are trained on both, each in a process of its own: alone, stacked, in bf16, and the
smoke grid of `cmr`; beside them one model of about 100 M parameters, with XLA's account of its
memory, and `lab bench step`. Where there is no accelerator the CPU is compared with itself.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lab.spec import ModelSpec, OptimizerSpec, Precision, Shape
from sweeps.bench import sweep as grid
from sweeps.bench.step import BATCH, LARGE_SHAPES, bench_step, platform, step_seconds
from sweeps.bench.timing import apart

MODEL = ModelSpec(width=64, layers=2, heads=4, mlp_width=176, context=128)
STEPS = 48
RATE = 3e-3
WAYS: dict[str, tuple[Precision, int]] = {
    "float32": ("float32", 1),
    "float32, a stack of 4": ("float32", 4),
    "bfloat16": ("bfloat16", 1),
}


def bench_device(repeats: int) -> dict[str, Any]:
    """Largest loss differences from the CPU by way, whether bits repeat, the grid, the large model.

    Differences are in nats over STEPS steps; memory in bytes, estimated (None where a CPU takes
    several lanes one after another) and as XLA reports it.
    """
    kind = apart(platform)
    ways = {}
    reference = apart(_losses, "cpu", *WAYS["float32"])["losses"]
    for name, way in WAYS.items():
        here, again = apart(_losses, kind, *way), apart(_losses, kind, *way)
        ways[name] = {
            "max_difference_from_cpu": float(np.abs(here["losses"] - reference).max()),
            "bits_repeat": here["losses"].tobytes() == again["losses"].tobytes(),
            "estimated_bytes": here["estimated"],
            "reported_bytes": here["reported"],
        }
    here, there = (apart(_smoke, platform_) for platform_ in (kind, "cpu"))
    value: dict[str, Any] = {
        "platform": kind,
        "ways": ways,
        "smoke_max_difference_from_cpu": max(abs(here[key] - loss) for key, loss in there.items()),
        "step": bench_step(repeats),
    }
    if kind != "cpu":
        large = LARGE_SHAPES[0]
        seconds = apart(step_seconds, large, 1, repeats, "bfloat16")
        value["large_bf16_tokens_per_second"] = BATCH * large.context / seconds
    return value


def _losses(kind: str, precision: Precision, stack: int) -> dict[str, Any]:
    """Losses of lane 0 of a stack trained on a platform, and the memory of the program."""
    _only_cpu(kind)
    import jax

    from lab import mesh
    from lab.layout import A_RUN_A_DEVICE
    from lab.memory import train_bytes
    from lab.optimizer import hyper
    from lab.train import Chunk, Trainer

    mesh.start(1)
    lanes = mesh.lanes(stack)
    trainer = Trainer(Shape(MODEL, BATCH, precision), lanes, STEPS)
    filled = trainer.empty_stack()
    for lane in range(stack):
        filled = trainer.put(filled, lane, trainer.initial(lane))
    draw = np.random.default_rng(0)
    steps = draw.choice([1, 3, 7], 2**16, p=[0.8, 0.1, 0.1])  # a text that can be learnt
    starts = draw.integers(0, 2**16 - MODEL.context - 1, (1, STEPS, BATCH)).astype(np.int32)
    chunk = Chunk(
        jax.device_put(np.cumsum(steps).astype(np.uint8), lanes.replicated),
        np.repeat(starts, stack, 0),
        np.full((stack, STEPS), RATE, np.float32),
        jax.tree.map(lambda x: np.full(stack, x, np.float32), hyper(OptimizerSpec())),
        np.full(stack, STEPS, np.int32),
    )
    memory = trainer.memory(filled, chunk)
    _, log = trainer.train(filled, chunk)
    lanes_a_device = stack // lanes.mesh.size
    estimated = None  # of lanes that a device takes one after another there is none
    if lanes.batched or lanes_a_device == 1:
        estimated = lanes_a_device * train_bytes(trainer.shape, A_RUN_A_DEVICE)
    losses = np.asarray(log.loss_nats)[0]
    return {"losses": losses, "estimated": estimated, "reported": memory}


def _only_cpu(kind: str) -> None:
    """Hide accelerators from this process if it is to use the CPU; else jax chooses as always."""
    if kind == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"


def _smoke(kind: str) -> grid.Losses:
    """Losses of the smoke grid on a platform."""
    _only_cpu(kind)
    from sweeps.run import run_sweep

    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        outcome = run_sweep(grid.grid(), Path(folder) / "out", quiet=True)
    return grid.losses_of(outcome.results)
