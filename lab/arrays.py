"""Checkpoints in one file: arrays by name, and what they are, as an .npz that anyone can read.

An exported state and a user's own arrays are the same kind of file. Names do not depend on how the
lab holds a model: every layer has its own.

    params.embedding_VD [V, D]                        params.head_DV [D, V], unless it is tied
    params.blocks.<layer>.attention_norm.gain_D [D]   params.blocks.<layer>.mlp_norm.gain_D [D]
    params.blocks.<layer>.attention.qkv_D3D [D, 3 D]  params.blocks.<layer>.attention.out_DD [D, D]
    params.blocks.<layer>.mlp.gate_DF, .up_DF [D, F]  params.blocks.<layer>.mlp.down_FD [F, D]
    params.norm.gain_D [D]
    optimizer.count []    optimizer.mu.<parameter>    optimizer.nu.<parameter>

A matrix is [in, out]; the columns of qkv_D3D are query, key, value, each head by head; rotary
positions turn channel k of a head with channel k + K/2 (`lab.model` is the whole arithmetic). The
moments may be left out. A member `about.json` holds an `Origin` and where it came from; files of
others have none, and whoever adopts them says the model.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lab import checkpoint
from lab.blocks import UNROLLED_LAYERS
from lab.errors import Failed, Refused
from lab.origin import Moments, Origin, Summed
from lab.parametrisation import HIDDEN
from lab.spec import ModelSpec, canonical

ABOUT = "about.json"
FORMAT = 1
LONGEST_ABOUT = 2**24  # bytes
Arrays = dict[str, np.ndarray]
# What reading a zip file raises that is none, or is damaged.
UNREADABLE = (
    OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, LookupError
)  # fmt: skip


# Names ---------------------------------------------------------------------------------------


def parameter_shapes(model: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its name in a file, without `params.`, in the model's order."""
    wide, hidden = model.width, model.mlp_width
    shapes: dict[str, tuple[int, ...]] = {"embedding_VD": (model.vocabulary, wide)}
    for layer in range(model.layers):
        block = f"blocks.{layer}"
        shapes[f"{block}.attention_norm.gain_D"] = (wide,)
        shapes[f"{block}.attention.qkv_D3D"] = (wide, 3 * wide)
        shapes[f"{block}.attention.out_DD"] = (wide, wide)
        shapes[f"{block}.mlp_norm.gain_D"] = (wide,)
        shapes[f"{block}.mlp.gate_DF"] = (wide, hidden)
        shapes[f"{block}.mlp.up_DF"] = (wide, hidden)
        shapes[f"{block}.mlp.down_FD"] = (hidden, wide)
    shapes["norm.gain_D"] = (wide,)
    if not model.tied_embedding:
        shapes["head_DV"] = (wide, model.vocabulary)
    return shapes


def array_shapes(model: ModelSpec, moments: Moments) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a file by name. Muon has no second moment of hidden matrices."""
    params = parameter_shapes(model)
    shapes = {f"params.{name}": shape for name, shape in params.items()}
    if moments:
        shapes["optimizer.count"] = ()
        shapes |= {f"optimizer.mu.{name}": shape for name, shape in params.items()}
        for name, shape in params.items():
            if moments == "adamw" or name.rpartition(".")[2] not in HIDDEN:
                shapes[f"optimizer.nu.{name}"] = shape
    return shapes


def held_shapes(model: ModelSpec, moments: Moments) -> dict[str, Any]:
    """Shape and type of every leaf of a state by name, as the lab holds and stores it."""
    import jax

    shapes = array_shapes(model, moments)
    leaves: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        before, blocks, rest = name.partition(".blocks.")
        if blocks and model.layers > UNROLLED_LAYERS:  # the layers are one leaf
            leaves[f"{before}.blocks.{rest.partition('.')[2]}"] = (model.layers, *shape)
        else:
            leaves[name] = shape
    return {
        name: jax.ShapeDtypeStruct(shape, np.int32 if name == "optimizer.count" else np.float32)
        for name, shape in leaves.items()
    }


def names_of(name: str, layers: int) -> list[str] | None:
    """Names in a file of what the lab holds as one leaf: None, or one a layer of a stacked leaf."""
    before, blocks, rest = name.partition(".blocks.")
    if not blocks or rest[:1].isdigit():
        return None
    return [f"{before}.blocks.{layer}.{rest}" for layer in range(layers)]


def to_file(named: Mapping[str, np.ndarray], layers: int) -> Arrays:
    """A state, flattened by `checkpoint.flatten`, as the arrays of a file."""
    arrays: Arrays = {}
    for name, leaf in named.items():
        names = names_of(name, layers)
        arrays |= {name: leaf} if names is None else dict(zip(names, leaf, strict=True))
    return arrays


def to_state(arrays: Mapping[str, np.ndarray], abstract: Any, layers: int) -> Any:
    """The arrays of a file as a state like `abstract`; moments that are not there start at zero.

    Raises Failed on another set of arrays.
    """
    named: Arrays = {}
    for name, leaf in checkpoint.named_leaves(abstract).items():
        names = names_of(name, layers) or [name]
        if name.startswith("optimizer.") and not any(one in arrays for one in names):
            named[name] = np.zeros(leaf.shape, leaf.dtype)
        elif all(one in arrays for one in names):
            stacked = names != [name]
            named[name] = np.stack([arrays[one] for one in names]) if stacked else arrays[name]
    return checkpoint.unflatten(abstract, named)


def summed(arrays: Mapping[str, np.ndarray]) -> tuple[Summed, ...]:
    """Name and SHA-256 of every array, by name."""
    return tuple(Summed(name, _sha256(arrays[name])) for name in sorted(arrays))


def _sha256(array: np.ndarray) -> str:
    head = canonical([array.dtype.newbyteorder("<").str, list(array.shape)])
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(head.encode() + content.tobytes()).hexdigest()


# Files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """An array in a file before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class ArraysFile:
    """An .npz, open for reading. Nothing in it is run, and no array read, before it is asked for.

    Raises Refused, here and from every method, on what is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise Refused(f"no file {path}") from None
        except UNREADABLE as error:
            raise self._refusal(error) from None
        names = self._zip.namelist()
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            self._zip.close()
            raise Refused(f"{path}: has two members {twice!r}")
        self._members = {name.removesuffix(".npy"): name for name in names if name != ABOUT}

    def __enter__(self) -> "ArraysFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def _refusal(self, error: BaseException) -> Refused:
        why = str(error).partition("\n")[0] or type(error).__name__
        return Refused(f"{self.path} cannot be read as an .npz file: {why}")

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def about(self) -> dict[str, Any] | None:
        """What the file says of itself: `origin` and `provenance`; None where it says nothing."""
        if ABOUT not in self._zip.namelist():
            return None
        try:
            with self._zip.open(ABOUT) as member:
                text = member.read(LONGEST_ABOUT + 1)
            if len(text) > LONGEST_ABOUT:
                raise Refused(f"{self.path}: {ABOUT} is longer than {LONGEST_ABOUT} bytes")
            found = json.loads(text)
        except (*UNREADABLE, RecursionError) as error:
            if isinstance(error, Refused):
                raise
            raise self._refusal(error) from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise Refused(f"{self.path}: {ABOUT} has no format {FORMAT}, the one this lab reads")
        return found

    def header(self, name: str) -> Header:
        """Shape and type of an array."""
        try:
            with self._zip.open(self._members[name]) as member:
                version = np.lib.format.read_magic(member)
                if version == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                elif version == (2, 0):
                    shape, _, dtype = np.lib.format.read_array_header_2_0(member)
                else:
                    raise Refused(f"{self.path}: {name} is in NumPy's format {version}")
        except UNREADABLE as error:
            if isinstance(error, Refused):
                raise
            raise self._refusal(error) from None
        if dtype.hasobject:
            raise Refused(f"{self.path}: {name} holds Python objects; only numbers are read")
        return Header(shape, dtype)

    def array(self, name: str) -> np.ndarray:
        """An array, as it is stored."""
        try:
            with self._zip.open(self._members[name]) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # reads to the end, where the zip's own checksum stands
                    raise Refused(f"{self.path}: {name} has bytes behind its values")
        except UNREADABLE as error:
            if isinstance(error, Refused):
                raise
            raise self._refusal(error) from None
        return array


def write_file(
    path: Path, origin: Origin, provenance: Mapping[str, Any], arrays: Arrays, overwrite: bool
) -> None:
    """Write a checkpoint, whole or not at all. Raises Refused where it is, Failed (a full disk)."""
    about = {"format": FORMAT, "origin": asdict(origin), "provenance": dict(provenance)}
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file, zipfile.ZipFile(file, "w") as out:
            out.writestr(zipfile.ZipInfo(ABOUT), canonical(about))
            for name, array in arrays.items():
                with out.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            out.close()
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, path)
        else:
            os.link(partial, path)
    except FileExistsError:
        raise Refused(f"{path} is there already: choose another name, or say --overwrite") from None
    except OSError as error:
        why = "disk full" if error.errno == errno.ENOSPC else error.strerror
        raise Failed(f"cannot write {path}: {why}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
