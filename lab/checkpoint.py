"""A state on disk: orbax writes and reads it, our manifest says whether it is still the same.

orbax restores flipped bytes without a word and an empty folder as an empty state (both tried), so
every file of a state is listed with size and SHA-256, and checked before orbax sees it. Leaves are
stored flat, by name (`params.blocks.0.attention.qkv_D3D`), whatever container held them.

States on the way of a stretch are many and small, and take one NumPy file each: orbax takes .1 s
and 10 files for what a NumPy file takes 2 ms (a state of 79,000 numbers, two cores).
"""

import hashlib
import logging
import os
import sys
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lab.errors import Failed

Manifest = dict[str, dict[str, Any]]  # relative path -> {"bytes": int, "sha256": str}
_READ = 2**22


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)


def _leaves(state: Any) -> Any:
    """Leaves of a state with their paths, and its structure."""
    import jax  # here, since whoever only reads manifests needs none of it

    return jax.tree.flatten_with_path(state)


def flatten(state: Any) -> dict[str, np.ndarray]:
    """A state as {name: array on the host}."""
    leaves, _ = _leaves(state)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def named_leaves(abstract: Any) -> dict[str, Any]:
    """Leaves of a state, or of its shapes, by name."""
    return {_name(path): leaf for path, leaf in _leaves(abstract)[0]}


def unflatten(abstract: Any, named: Mapping[str, Any]) -> Any:
    """Arrays by name, in the containers of `abstract`. Raises Failed on another set of arrays."""
    leaves, structure = _leaves(abstract)
    out = []
    for path, want in leaves:
        have = named.get(_name(path))
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            got = "nothing" if have is None else f"{have.dtype}{list(have.shape)}"
            raise Failed(
                f"stored state: {_name(path)} is {got}, not {want.dtype}{list(want.shape)}"
            )
        out.append(have)
    return structure.unflatten(out)


@cache
def _hush() -> None:
    """Keep off the terminal what tensorstore's writes tell orbax's loop after orbax gave up."""
    before = sys.unraisablehook

    def hook(seen: "sys.UnraisableHookArgs") -> None:
        if str(seen.exc_value) != "Event loop is closed":
            before(seen)

    sys.unraisablehook = hook


def _checkpointer() -> Any:
    """Of this host alone: orbax waits for no other, whether others are training along or not.

    Folders are made before its threads start: on a full disk they would wait for theirs, and the
    process for them, for minutes. What it cannot do it raises, and need not log.
    """
    import jax
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    _hush()
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix="alone"
    )
    at_once = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.StandardCheckpointer(async_options=at_once, multiprocessing_options=alone)


def save(folder: Path, state: Any) -> None:
    """Write a state into `folder` (must not exist). Returns when it is on disk."""
    with _checkpointer() as checkpointer:
        checkpointer.save(folder.resolve(), flatten(state))
        checkpointer.wait_until_finished()


def restore(folder: Path, abstract: Any) -> Any:
    """Read a state back, on the host. Check it against its manifest first. Raises Failed."""
    like = {
        name: np.empty(leaf.shape, leaf.dtype)
        for name, leaf in ((_name(p), x) for p, x in _leaves(abstract)[0])
    }
    try:
        with _checkpointer() as checkpointer:
            named = checkpointer.restore(folder.resolve(), like)
    except Exception as error:  # orbax raises what its many readers raise
        why = str(error).partition("\n")[0]
        raise Failed(f"state in {folder} cannot be read: {why}") from error
    return unflatten(abstract, named)


def save_file(file: Path, state: Any) -> None:
    """Write a state into one file (must not exist)."""
    file.parent.mkdir(exist_ok=True)
    with file.open("xb") as out:
        np.savez(out, **flatten(state))  # type: ignore[arg-type]


def restore_file(file: Path, abstract: Any) -> Any:
    """Read back what `save_file` wrote. Check it against its manifest first. Raises Failed."""
    kinds = {_name(path): x.dtype for path, x in _leaves(abstract)[0]}
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            # NumPy's files forget the names of types that it does not know, such as bfloat16
            named = {
                name: one.view(kinds.get(name, one.dtype)) if one.dtype.kind == "V" else one
                for name, one in stored.items()
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = str(error).partition("\n")[0]
        raise Failed(f"state in {file} cannot be read: {why}") from error
    return unflatten(abstract, named)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ):
            digest.update(block)
    return digest.hexdigest()


def make_manifest(folder: Path) -> Manifest:
    """Size and checksum of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in files
    }


def damage(folder: Path, manifest: Manifest, checksums: bool = True) -> str | None:
    """What is wrong with the files of `manifest`, or None. Sizes alone unless `checksums`."""
    root = os.fspath(folder)
    for name, expected in manifest.items():
        path = f"{root}/{name}"  # a Path a file would take longer than looking at it
        try:
            wrong = _other_size(name, os.stat(path).st_size, expected)
            if wrong is None and checksums:
                wrong = _other_bytes(name, file_digest(path), expected)
        except OSError as error:
            wrong = f"{name}: {error.strerror}"
        if wrong is not None:
            return wrong
    return None


def read_checked(folder: Path, name: str, manifest: Manifest) -> bytes:
    """A file of `manifest`: the bytes that were checked, not read again. Raises Failed."""
    if name not in manifest:
        raise Failed(f"manifest.json lists no {name}")
    try:
        with open(f"{os.fspath(folder)}/{name}", "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            wrong = _other_size(name, size, manifest[name])
            content = b"" if wrong is not None else file.read()
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}") from error
    if wrong is None:
        wrong = _other_bytes(name, hashlib.sha256(content).hexdigest(), manifest[name])
    if wrong is not None:
        raise Failed(wrong)
    return content


def _other_size(name: str, size: int, expected: Mapping[str, Any]) -> str | None:
    return (
        f"{name} has {size} bytes, not {expected['bytes']}" if size != expected["bytes"] else None
    )


def _other_bytes(name: str, digest: str, expected: Mapping[str, Any]) -> str | None:
    return f"{name} is not what was written (checksum)" if digest != expected["sha256"] else None
