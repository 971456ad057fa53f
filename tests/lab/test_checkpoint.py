"""A state comes back bit for bit, or what is wrong with its files is said."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lab import checkpoint
from lab.errors import Failed
from lab.mesh import lanes
from lab.spec import Shape
from lab.train import Trainer
from tests.lab.building import BATCH, TINY


def state() -> Any:
    """Values that a sloppy writer would lose: -0, the smallest, infinities, not a number."""
    odd = np.array([0.0, -0.0, 1e-45, -np.inf, np.nan, 1 / 3], np.float32)
    return {
        "params": {"blocks": {0: {"w": odd.reshape(2, 3)}, 1: {"w": -odd.reshape(3, 2)}}},
        "optimizer": {"count": np.asarray(7, np.int32), "mu": np.arange(50, dtype=np.float32)},
    }


def abstract() -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "state"
    checkpoint.save(folder, state())
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "state"))


def same_bits(one: Any, two: Any) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def test_a_state_comes_back_bit_for_bit(saved: Path) -> None:
    assert same_bits(checkpoint.restore(saved, abstract()), state())


def test_the_state_of_a_trainer_comes_back_bit_for_bit(tmp_path: Path) -> None:
    trainer = Trainer(Shape(TINY, BATCH), lanes(1), 1)
    made = trainer.initial(3)
    checkpoint.save(tmp_path / "state", made)
    back = checkpoint.restore(tmp_path / "state", trainer.abstract())
    assert same_bits(jax.tree.map(np.asarray, back), jax.tree.map(np.asarray, made))


def test_leaves_are_stored_by_name() -> None:
    assert sorted(checkpoint.flatten(state())) == [
        "optimizer.count",
        "optimizer.mu",
        "params.blocks.0.w",
        "params.blocks.1.w",
    ]
    assert same_bits(checkpoint.unflatten(abstract(), checkpoint.flatten(state())), state())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizer.mu": None}, r"optimizer.mu is nothing, not float32\[50\]"),
        ({"optimizer.mu": np.zeros(49, np.float32)}, r"float32\[49\], not float32\[50\]"),
        ({"optimizer.mu": np.zeros(50)}, r"float64\[50\], not float32\[50\]"),
    ],
)
def test_another_set_of_arrays_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Failed, match=says):
        checkpoint.unflatten(abstract(), checkpoint.flatten(state()) | change)


def test_a_state_of_another_model_is_refused(saved: Path) -> None:
    other = abstract()
    other["optimizer"]["mu"] = jax.ShapeDtypeStruct((51,), np.float32)
    with pytest.raises(Failed) as said:
        checkpoint.restore(saved, other)
    assert "\n" not in str(said.value)


def test_a_manifest_lists_every_file_and_finds_nothing_wrong(saved: Path) -> None:
    manifest = checkpoint.make_manifest(saved)
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert set(manifest) == {path.relative_to(saved).as_posix() for path in files}
    assert sum(entry["bytes"] for entry in manifest.values()) > 0
    assert checkpoint.damage(saved, manifest) is None


def test_damage_of_any_file_is_found_and_named(copy: Path) -> None:
    manifest = checkpoint.make_manifest(copy)
    for name in manifest:
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])  # truncated
        assert f"{name} has {len(whole) - 1} bytes" in checkpoint.damage(copy, manifest, False)
        path.write_bytes(b"")  # emptied
        assert f"{name} has 0 bytes" in checkpoint.damage(copy, manifest, False)
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])  # a bit flipped
        assert f"{name} is not what was written" in checkpoint.damage(copy, manifest)
        assert checkpoint.damage(copy, manifest, checksums=False) is None
        path.unlink()  # missing
        assert f"{name}: No such file" in checkpoint.damage(copy, manifest, False)
        path.mkdir()  # something else
        assert name in checkpoint.damage(copy, manifest)
        path.rmdir()
        path.write_bytes(whole)
    assert checkpoint.damage(copy, manifest) is None


def test_what_orbax_cannot_read_is_said_in_one_line(copy: Path) -> None:
    for path in copy.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(Failed, match="cannot be read") as said:
        checkpoint.restore(copy, abstract())
    assert "\n" not in str(said.value)
    with pytest.raises(Failed, match="cannot be read"):
        checkpoint.restore(copy.with_name("none"), abstract())


def test_a_file_is_digested_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_READ", 4)  # several blocks
    path = tmp_path / "file"
    path.write_bytes(b"abcdefghij")
    assert checkpoint.file_digest(path) == (
        "72399361da6a7754fec986dca5b7cbaf1c810a28ded4abaf56b2106d06cb78b0"
    )


# One file a state ----------------------------------------------------------------------------


def test_a_file_gives_back_every_bit_of_every_kind(tmp_path: Path) -> None:
    state = {
        "params": {"w": np.linspace(-1, 1, 7, dtype=np.float32)},
        "half": np.asarray(jnp.linspace(-1, 1, 7, dtype=jnp.bfloat16)),
        "count": np.int32(3),
    }
    checkpoint.save_file(tmp_path / "stops" / "a.npz", state)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    back = checkpoint.restore_file(tmp_path / "stops" / "a.npz", abstract)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        assert (before.dtype, before.tobytes()) == (after.dtype, after.tobytes())
    with pytest.raises(FileExistsError):
        checkpoint.save_file(tmp_path / "stops" / "a.npz", state)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", None])
def test_a_file_that_holds_no_state_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(Failed) as failed:
        checkpoint.restore_file(tmp_path / "a.npz", {"w": jax.ShapeDtypeStruct((1,), np.float32)})
    assert "\n" not in str(failed.value)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.array([{}], dtype=object))
    with pytest.raises(Failed, match="cannot be read"):
        checkpoint.restore_file(tmp_path / "a.npz", {"w": jax.ShapeDtypeStruct((1,), np.float32)})
