"""How runs are laid over devices and time. No part of a state's identity: provenance.

A mesh has four axes. `run` divides the lanes of a stack, `data` the windows of a step, `fsdp`
windows, parameters and optimizer state, `tensor` heads and the MLP. One run takes data x fsdp x
tensor devices; as many runs as fit train side by side.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lab.errors import Refused
from lab.spec import Shape

INNER = ("data", "fsdp", "tensor")


@dataclass(frozen=True)
class Layout:
    """Mesh axes, windows at once and what is kept for the backward pass.

    `run` is None where the stack decides: as many as divide it and find devices. Each step goes
    through its windows in `accumulate` parts; `remat` computes the blocks again in the backward
    pass instead of keeping their insides.
    """

    run: int | None = None
    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    accumulate: int = 1
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("run", *INNER, "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refused(f"{name} = {value}: must be at least 1")

    @property
    def devices_a_run(self) -> int:
        return self.data * self.fsdp * self.tensor

    @property
    def mesh(self) -> str:
        """As it is typed: data=4,fsdp=2; empty where one device holds a run."""
        named = {name: getattr(self, name) for name in ("run", *INNER)}
        return ",".join(f"{k}={v}" for k, v in named.items() if v not in (None, 1))

    def runs_at_once(self, stack: int, devices: int) -> int:
        """Size of the axis `run` for a stack on so many devices. Raises Refused."""
        if self.run is not None and stack % self.run:
            raise Refused(f"mesh run={self.run}: must divide the stack of {stack} lanes")
        needed = self.devices_a_run * (self.run or 1)
        if needed > devices:
            raise Refused(
                f"mesh {self.mesh} needs {needed} devices: there are {devices} "
                f"(JAX_NUM_CPU_DEVICES={needed} simulates them on a CPU)"
            )
        at_most = devices // self.devices_a_run
        return self.run or max(n for n in range(1, at_most + 1) if stack % n == 0)

    def refuse_shape(self, shape: Shape, windows: int) -> None:
        """Raise Refused where a model, its batch or `windows` to evaluate cannot be divided so."""
        model = shape.model
        both = self.data * self.fsdp
        parts = self.fsdp * self.tensor
        checks = [
            ("accumulate", self.accumulate, "batch", shape.batch),
            (f"mesh {self.mesh}: data x fsdp", both, "batch", shape.batch),
            (
                f"mesh {self.mesh}: data x fsdp x accumulate",
                both * self.accumulate,
                "batch",
                shape.batch,
            ),
            (f"mesh {self.mesh}: data x fsdp", both, "evaluate.windows", windows),
            (f"mesh {self.mesh}: fsdp x tensor", parts, "model.width", model.width),
            (f"mesh {self.mesh}: fsdp x tensor", parts, "model.vocabulary", model.vocabulary),
            (f"mesh {self.mesh}: tensor", self.tensor, "model.heads", model.heads),
            (f"mesh {self.mesh}: tensor", self.tensor, "model.mlp_width", model.mlp_width),
            (f"mesh {self.mesh}: tensor", self.tensor, "model.context", model.context),
        ]
        for what, divisor, field, value in checks:
            if value % divisor:
                raise Refused(f"{what} = {divisor}: must divide {field} = {value}")


A_RUN_A_DEVICE = Layout()


def parse_mesh(text: str, layout: Layout) -> Layout:
    """The layout with the axes typed as `data=4,fsdp=2`. Raises Refused."""
    sizes: dict[str, Any] = {}
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if name not in ("run", *INNER) or not size.isdecimal() or name in sizes:
            raise Refused(
                f"--mesh {text}: must read AXIS=SIZE,... with each axis once, of run, data, fsdp "
                "and tensor"
            )
        sizes[name] = int(size)
    return dataclasses.replace(layout, **sizes)
