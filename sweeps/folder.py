"""The output folder of a sweep: which sweep it holds, with which texts and stack, and who writes.

    sweep.json     study, scale, arms, evaluations as last asked; digests of the corpora; stack size
                   and layout (mesh, parts of a step, what is kept for the backward pass)
    segments/      the store (lab.store)
    .lock          who works in the folder (sweeps.presence);  .leases/  on what (sweeps.leases)
    .progress/     what each process that trains, or did, last said of itself (sweeps.notes)

A folder holds one sweep. The sweep may grow: more values on an axis, another axis, longer last
phases, other horizons or evaluations. Anything else belongs into another folder.
"""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fits.files import write_whole
from lab.errors import Refused
from lab.identity import NUMERICS
from lab.layout import A_RUN_A_DEVICE, Layout
from lab.spec import canonical, read
from lab.store import SCHEMA
from sweeps.grid import Grid, plain
from sweeps.place import shown, store_of
from sweeps.presence import Presence, present, refuse_busy
from sweeps.sweep import Sweep, sweep_from_json

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class Held:
    """What a folder says it holds."""

    sweep: Sweep
    settings: dict[str, Any]
    digests: dict[str, str]
    stack: int
    layout: Layout


class Folder:
    """An output folder; making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = shown(path)
        self.store = store_of(path)

    def held(self) -> Held | None:
        """What the folder holds, or None if it is empty or absent. Raises Refused."""
        file = self.path / SWEEP_FILE
        try:
            if not self.path.exists() or not any(self._contents()):
                return None
            if not self.path.is_dir():
                raise Refused(f"{self.name} is not a folder")
            text = file.read_bytes()
        except FileNotFoundError:
            raise Refused(
                f"{self.name} is no sweep's folder (no {SWEEP_FILE}): choose another"
            ) from None
        except OSError as error:
            raise Refused(f"cannot read {file}: {error.strerror}") from None
        try:
            tree = json.loads(text)
            if tree["schema"] != SCHEMA:
                raise Refused(f"{self.name} has schema {tree['schema']}, this lab {SCHEMA}")
            if tree["numerics"] != NUMERICS:
                raise Refused(
                    f"{self.name} was trained with numerics {tree['numerics']}, this lab has "
                    f"{NUMERICS}: choose another folder"
                )
            sweep = sweep_from_json(canonical(tree["sweep"]))
            digests = {str(name): str(digest) for name, digest in tree["digests"].items()}
            layout = read(Layout, tree["layout"], "layout") if "layout" in tree else A_RUN_A_DEVICE
            return Held(sweep, dict(tree["settings"]), digests, int(tree["stack"]), layout)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, Refused):
                raise
            raise Refused(f"{file} cannot be read as a sweep: {error}") from None

    def _contents(self) -> Iterator[str]:
        names = os.listdir(self.path) if self.path.is_dir() else ["(a file)"]
        return (name for name in names if not name.startswith("."))

    def refuse_another(self, sweep: Sweep, digests: dict[str, str]) -> None:
        """Raise Refused if the folder holds something that `sweep` does not grow out of."""
        difference = self.difference(sweep, digests)
        if difference is not None:
            raise Refused(f"{self.name} holds another sweep: {difference}; choose another --out")

    def difference(self, sweep: Sweep, digests: dict[str, str]) -> str | None:
        """Why a sweep does not grow out of what the folder holds, or None. Raises Refused."""
        held = self.held()
        if held is None:
            return None
        difference = _difference(held.sweep, sweep)
        if difference is None:
            for name, digest in held.digests.items():
                if digests.get(name, digest) != digest:
                    return f"corpus {name!r} was another text ({digest[:8]})"
        return difference

    def write(
        self,
        sweep: Sweep,
        settings: Any,
        digests: dict[str, str],
        stack: int,
        layout: Layout = A_RUN_A_DEVICE,
    ) -> None:
        """Note down what the folder holds from now on. Be alone in it. Raises Failed."""
        text = self._description(sweep, settings, digests, stack, layout)
        write_whole(self.path / SWEEP_FILE, text.encode())

    def refuse_unlike(
        self, sweep: Sweep, settings: Any, digests: dict[str, str], stack: int, layout: Layout
    ) -> None:
        """Raise Refused unless the folder says just this: who comes to others changes nothing."""
        asked = self._description(sweep, settings, digests, stack, layout)
        if (self.path / SWEEP_FILE).read_bytes() == asked.encode():
            return
        held = self.held()
        if held is None or held.sweep != sweep or held.digests != {**held.digests, **digests}:
            what = "another sweep, or one that has grown"
        elif (held.stack, held.layout) != (stack, layout):
            what = f"another stack or mesh (there are {held.stack} lanes)"
        else:
            what = "other settings"
        raise Refused(
            f"another process is training into {self.name}, and this is {what}: wait for it, "
            "or ask for the same"
        )

    def _description(
        self, sweep: Sweep, settings: Any, digests: dict[str, str], stack: int, layout: Layout
    ) -> str:
        held = self.held()
        known = held.digests if held is not None else {}
        tree = {
            "schema": SCHEMA,
            "numerics": NUMERICS,
            "sweep": json.loads(sweep.to_json()),
            "settings": plain(settings or {}),
            "digests": {**known, **digests},
            "stack": stack,
            "layout": plain(layout),
        }
        return canonical(tree)

    def refuse_busy(self) -> None:
        """Raise Refused if another process trains into the folder now; changes nothing."""
        refuse_busy(self.path)

    def locked(self) -> AbstractContextManager[Presence]:
        """Hold the folder alone. Raises Refused if another process is in it."""
        return present(self.path, must_be_alone=True)

    def entered(self) -> AbstractContextManager[Presence]:
        """Train into the folder, alone or with others. Raises Refused if one has it to itself."""
        return present(self.path)


def _difference(held: Sweep, asked: Sweep) -> str | None:
    """Why `asked` does not grow out of `held`, or None."""
    if held.study != asked.study:
        return f"study {held.study!r}, not {asked.study!r}"
    if held.scale != asked.scale:
        return f"scale {held.scale!r}, not {asked.scale!r}"
    for name, grid in asked.arms.items():
        if name in held.arms:
            difference = _base_difference(held.arms[name], grid)
            if difference is not None:
                return f"arm {name!r} has {difference}"
    return None


def _base_difference(held: Grid, asked: Grid) -> str | None:
    free = {*held.axes, *asked.axes}

    def fixed(grid: Grid) -> dict[str, Any]:
        tree = plain(grid.base)
        tree["phases"][-1]["tokens"] = None  # a longer last phase begins with the shorter one
        return {k: v for k, v in _leaves(tree).items() if not _covered(k, tree, free)}

    before, now = fixed(held), fixed(asked)
    for path in [*before, *now]:
        if before.get(path) != now.get(path):
            return f"{path} = {before.get(path)!r}, not {now.get(path)!r}"
    return None


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Plain values of a JSON tree by dotted path, phases by name."""
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, list):
        pairs = {
            str(one.get("name", k)) if isinstance(one, dict) else str(k): one
            for k, one in enumerate(tree)
        }.items()
    else:
        return {path.removeprefix("phases."): tree}
    found: dict[str, Any] = {}
    for key, one in pairs:
        found.update(_leaves(one, f"{path}.{key}" if path else key))
    return found


def _covered(path: str, tree: Any, axes: set[str]) -> bool:
    """Whether an axis sets the value at `path`."""
    for axis in axes:
        phase, _, last = axis.rpartition(".")
        if last == "ratio" and path.startswith(f"{phase}.mixture.") and path.endswith("weight"):
            return True
        if (
            last in ("peak_lr", "end_lr")
            and path.startswith(f"{phase}.schedule.")
            and (path.endswith("to_lr"))
        ):
            return True
        if path == axis or path.startswith(f"{axis}."):
            return True
    return False
