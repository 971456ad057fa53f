"""Checkpoints that were taken in: a run may start from one, by its digest.

Adopting checks a file (`lab.arrays`) array by array and copies it to LAB_HOME/adopted/<digest>.npz.
A run finds it there by its digest alone, and by nothing that a spec could make a path of. The
digest covers the arrays and all that a run takes over beside them (`lab.origin`); it is held
against the description when a sweep is planned, and against the arrays when they are read.

In a study file of one's own, branches off a checkpoint are runs without the trunk's phase:

    trunk = open_adopted(digest)
    cpt = Phase("cpt", tokens, (Share("code", 0.5), Share("prose+docs", 0.5)),
                (warm(rewarm, max(trunk.lr, peak)), hold()))
    RunSpec(trunk.model, OptimizerSpec(), (cpt,), seed=trunk.seed or 0, batch=32, start=digest)

Its step 0 is the checkpoint: the first stage starts from the checkpoint's rate, each corpus is read
on from where its trunk stopped (under the same seed: in the same order), and the table calls the
phase of that row `adopted`. Several checkpoints are an axis: `start=DIGEST,DIGEST`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.arrays import ABOUT, Arrays, ArraysFile, array_shapes, summed, to_state, write_file
from lab.errors import Failed, Refused
from lab.home import home
from lab.origin import Moments, Origin, Read
from lab.parametrisation import HIDDEN
from lab.spec import DIGEST, ModelSpec, read

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Told:
    """What the user says of arrays that say nothing of themselves; None: nothing was said."""

    model: ModelSpec | None = None
    lr: float | None = None
    read: tuple[Read, ...] | None = None


def adopt(path: Path, told: Told) -> Origin:
    """Check a file and take it in, so that runs can start from it. Raises Refused, Failed.

    Arrays without `about.json` start with a rate of 0 and unread corpora, unless it is told
    otherwise; arrays without moments start with moments of zero.
    """
    with ArraysFile(path) as file:
        about = file.about()
        origin = None
        if about is not None:
            origin = read(Origin, about.get("origin"), f"{path}: origin")
            for name, value in (("model", told.model), ("lr", told.lr), ("read", told.read)):
                if value is not None:
                    raise Refused(f"--{name}: {path} says its own in {ABOUT}; leave it out")
        model = origin.model if origin is not None else told.model
        if model is None:
            raise Refused(f"{path} says nothing of its model: give --model width=...,layers=...")
        moments = _moments(file.names)
        arrays = _checked(file, array_shapes(model, moments))
    sums = summed(arrays)
    if origin is None:
        origin = Origin(model, moments, told.lr or 0.0, None, told.read or (), (), 0, sums)
    elif origin.optimizer != moments or origin.arrays != sums:
        known = {one.name: one.sha256 for one in origin.arrays}
        wrong = next((one.name for one in sums if known.get(one.name) != one.sha256), "optimizer")
        raise Refused(f"{path}: {wrong} is not what {ABOUT} says (checksum)")
    provenance = about.get("provenance", {}) if about is not None else {"file": path.name}
    place = _place(origin.digest)
    write_file(place, origin, provenance, arrays, overwrite=True)  # heals one that was damaged
    return origin


def _moments(names: list[str]) -> Moments:
    """Whose moments a file has, by the names of its arrays."""
    if not any(name.startswith("optimizer.") for name in names):
        return ""
    second = [name.rpartition(".")[2] for name in names if name.startswith("optimizer.nu.")]
    return "adamw" if any(name in HIDDEN for name in second) else "muon"


def _checked(file: ArraysFile, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """The arrays of a file, float32 and int32, once all are there and as they should be."""
    for name, shape in shapes.items():
        if name not in file.names:
            raise Refused(f"{file.path}: {name} is missing; it must be {_shown(shape)}")
        header = file.header(name)
        counts = name == "optimizer.count"
        if header.shape != shape:
            raise Refused(f"{file.path}: {name} is {_shown(header.shape)}, not {_shown(shape)}")
        if not (header.dtype.kind in "iu" if counts else header.dtype.name in FLOATS):
            allowed = "a whole number" if counts else f"one of {', '.join(FLOATS)}"
            raise Refused(f"{file.path}: {name} is {header.dtype}; it must be {allowed}")
    unknown = next((name for name in file.names if name not in shapes), None)
    if unknown is not None:
        raise Refused(f"{file.path}: unknown array {unknown!r}; lab adopt --names lists the names")
    arrays: Arrays = {}
    for name in shapes:
        stored = file.array(name)
        if name == "optimizer.count":
            if not 0 <= int(stored) < 2**31:
                raise Refused(f"{file.path}: {name} = {int(stored)}: must be in 0..{2**31 - 1}")
            arrays[name] = stored.astype(np.int32)
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            arrays[name] = np.ascontiguousarray(stored, np.float32).reshape(stored.shape)
        if not np.isfinite(arrays[name]).all():
            raise Refused(f"{file.path}: {name} has values that are not finite in float32")
        if name.startswith("optimizer.nu.") and (arrays[name] < 0).any():
            raise Refused(f"{file.path}: {name} has negative values: it is a mean of squares")
    return arrays


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


# Adopted -------------------------------------------------------------------------------------


def _place(digest: str) -> Path:
    if not DIGEST.fullmatch(digest):
        raise Refused(f"start = {digest!r}: must be the digest that lab adopt printed")
    return home() / "adopted" / f"{digest}.npz"


def known_digests() -> list[str]:
    """Digests of the checkpoints that were adopted here."""
    names = (path.stem for path in (home() / "adopted").glob("*.npz"))
    return sorted(name for name in names if DIGEST.fullmatch(name))


def open_adopted(digest: str) -> Origin:
    """What an adopted checkpoint is; its arrays are not read. Raises Refused, Failed."""
    place = _place(digest)
    if not place.exists():
        raise Refused(
            f"start = {digest[:12]}...: no such checkpoint was adopted here; lab adopt FILE takes "
            "one in"
        )
    with _undamaged(digest), ArraysFile(place) as file:
        origin: Origin = read(Origin, (file.about() or {}).get("origin"), "origin")
        if origin.digest != digest:
            raise Refused("its digest is another")
    return origin


def provenance(digest: str) -> dict[str, Any]:
    """Where an adopted checkpoint came from, as its file says. Raises Refused, Failed."""
    with _undamaged(digest), ArraysFile(_place(digest)) as file:
        return dict((file.about() or {}).get("provenance", {}))


def adopted_state(origin: Origin, abstract: Any) -> Any:
    """The state of an adopted checkpoint, on the host, in the containers of `abstract`.

    Moments that it lacks, or that are another optimizer's, are zero. Raises Failed on damage.
    """
    with _undamaged(origin.digest), ArraysFile(_place(origin.digest)) as file:
        arrays = {one.name: file.array(one.name) for one in origin.arrays}
        if summed(arrays) != origin.arrays:
            raise Refused("its arrays are not what was adopted (checksum)")
    return to_state(arrays, abstract, origin.model.layers)


@contextlib.contextmanager
def _undamaged(digest: str) -> Iterator[None]:
    """What is refused of a user's file is damage in one that was taken in."""
    try:
        yield
    except Refused as refusal:
        raise Failed(
            f"adopted checkpoint {digest[:12]}... is damaged, adopt its file again: {refusal}"
        ) from None
