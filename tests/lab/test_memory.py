"""The estimate of memory against what XLA's CPU compiler reports: within 15 % on every device."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from lab.flops import parameters
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.memory import state_bytes, train_bytes
from lab.mesh import lanes
from lab.optimizer import Hyper
from lab.spec import ModelSpec, Shape
from lab.train import Trainer

BASE = ModelSpec(width=64, layers=4, heads=4, mlp_width=176, context=128)
DEEP = dataclasses.replace(BASE, layers=12)
CHUNK = 4


def reported(shape: Shape, layout: Layout) -> Any:
    """XLA's account of the training program on one device."""
    stack = lanes(1, layout)
    one = Trainer(shape, stack, CHUNK)
    put = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct((1, *x.shape), x.dtype, sharding=where),
        one.abstract(),
        stack.of_stack(one.abstract()),
    )

    def told(kind: type, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, kind, sharding=stack.sharding)

    text = jax.ShapeDtypeStruct((999,), np.uint8, sharding=stack.replicated)
    hyper = Hyper(*(told(np.float32, 1) for _ in Hyper._fields))
    starts = told(np.int32, 1, CHUNK, shape.batch)
    program = one._train.lower(
        text, put, starts, told(np.float32, 1, CHUNK), hyper, told(np.int32, 1)
    )
    return program.compile().memory_analysis()


# measured: -11 to +12 % over these
CASES: dict[str, tuple[Shape, Layout]] = {
    "four layers": (Shape(BASE, 16), A_RUN_A_DEVICE),
    "long windows": (Shape(dataclasses.replace(BASE, context=256), 8), A_RUN_A_DEVICE),
    "many words": (
        Shape(dataclasses.replace(BASE, layers=2, vocabulary=4096), 16),
        A_RUN_A_DEVICE,
    ),
    "wide": (Shape(ModelSpec(256, 2, 4, 688, 128), 8), A_RUN_A_DEVICE),
    "muon, in two parts": (Shape(BASE, 16, optimizer="muon"), Layout(accumulate=2)),
    "bf16": (Shape(BASE, 16, "bfloat16"), A_RUN_A_DEVICE),
    "twelve layers": (Shape(DEEP, 16), A_RUN_A_DEVICE),
    "twelve layers in bf16, computed again": (Shape(DEEP, 16, "bfloat16"), Layout(remat=True)),
    "computed again": (Shape(BASE, 16), Layout(remat=True)),
    "data": (Shape(BASE, 16), Layout(data=4)),
    "fsdp, computed again": (Shape(DEEP, 16), Layout(fsdp=4, remat=True)),
    "tensor": (Shape(BASE, 16), Layout(tensor=4)),
    "data, fsdp, tensor": (Shape(DEEP, 16), Layout(data=2, fsdp=2, tensor=2)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_what_xla_reports(case: str) -> None:
    shape, layout = CASES[case]
    found = reported(shape, layout)
    held = found.argument_size_in_bytes
    total = held + found.temp_size_in_bytes
    total += found.output_size_in_bytes - found.alias_size_in_bytes
    assert train_bytes(shape, layout) == pytest.approx(total, rel=0.15)
    assert state_bytes(shape, layout) == pytest.approx(held, abs=8000)  # places and rates, text


def test_states_are_weights_and_moments_divided_but_for_gains() -> None:
    count = parameters(BASE)
    shape = Shape(BASE, 16)
    assert state_bytes(shape, A_RUN_A_DEVICE) == 12 * count.total
    assert state_bytes(shape, Layout(data=8)) == 12 * count.total
    quarter = 12 * (count.gains + (count.total - count.gains) / 4)
    assert state_bytes(shape, Layout(fsdp=2, tensor=2)) == round(quarter)
    muon = dataclasses.replace(shape, optimizer="muon")
    assert state_bytes(muon, A_RUN_A_DEVICE) == 12 * count.total - 4 * count.matrices
