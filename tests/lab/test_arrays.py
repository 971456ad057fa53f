"""Names in a file are those of the model, whatever holds it; files are read and not believed."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from lab import checkpoint
from lab.arrays import (
    ABOUT,
    ArraysFile,
    array_shapes,
    held_shapes,
    summed,
    to_file,
    to_state,
    write_file,
)
from lab.blocks import UNROLLED_LAYERS
from lab.errors import Failed, Refused
from lab.model import Transformer
from lab.optimizer import initial_state
from lab.origin import Origin
from lab.spec import ModelSpec, OptimizerName
from tests.lab.building import TINY, few


def held(model: ModelSpec, optimizer: OptimizerName) -> Any:
    """Shapes of a state as the trainer holds it (`lab.train.Trainer`)."""

    def fresh() -> Any:
        made = nnx.state(Transformer(model, jax.random.key(0)), nnx.Param)
        params = nnx.to_pure_dict(made)
        return {"params": params, "optimizer": initial_state(params, optimizer)}

    return jax.eval_shape(fresh)


def filled(abstract: Any, seed: int = 0) -> Any:
    """A state of that shape, every value another."""
    draw = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(abstract)
    made = [np.asarray(draw.normal(size=x.shape) * 100).astype(x.dtype) for x in leaves]
    return jax.tree.unflatten(structure, made)


def same_bits(one: Any, two: Any) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


models = st.builds(
    ModelSpec,
    width=st.sampled_from([2, 4, 6]),
    layers=st.sampled_from([1, 2, 3, UNROLLED_LAYERS, UNROLLED_LAYERS + 1, UNROLLED_LAYERS + 3]),
    heads=st.just(1),
    mlp_width=st.integers(1, 5),
    context=st.just(4),
    vocabulary=st.integers(1, 7),
    tied_embedding=st.booleans(),
)
optimizers: Any = st.sampled_from(["adamw", "muon"])


@few
@given(models, optimizers)
def test_names_and_shapes_are_those_of_the_model(model: ModelSpec, optimizer: Any) -> None:
    arrays = to_file(checkpoint.flatten(filled(held(model, optimizer))), model.layers)
    assert {name: one.shape for name, one in arrays.items()} == array_shapes(model, optimizer)


@few
@given(models, optimizers)
def test_what_is_held_is_known_without_a_trainer(model: ModelSpec, optimizer: Any) -> None:
    leaves = checkpoint.named_leaves(held(model, optimizer))
    there = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    here = held_shapes(model, optimizer)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in here.items()} == there


@few
@given(models, optimizers)
def test_a_state_comes_back_from_its_names(model: ModelSpec, optimizer: Any) -> None:
    abstract = held(model, optimizer)
    state = filled(abstract)
    arrays = to_file(checkpoint.flatten(state), model.layers)
    assert same_bits(to_state(arrays, abstract, model.layers), state)


def test_a_layer_of_a_stacked_leaf_has_its_own_place() -> None:
    model = ModelSpec(4, UNROLLED_LAYERS + 1, 1, 3, 4, 5)
    state = filled(held(model, "adamw"))
    arrays = to_file(checkpoint.flatten(state), model.layers)
    stacked = state["params"]["blocks"]["mlp"]["gate_DF"]
    for layer in range(model.layers):
        one = arrays[f"params.blocks.{layer}.mlp.gate_DF"]
        np.testing.assert_array_equal(one, stacked[layer], strict=True)


def test_moments_that_are_not_there_are_zero_and_lacking_parameters_are_said() -> None:
    abstract = held(TINY, "adamw")
    state = filled(abstract)
    arrays = to_file(checkpoint.flatten(state), TINY.layers)
    bare = {name: one for name, one in arrays.items() if name.startswith("params.")}
    back = to_state(bare, abstract, TINY.layers)
    assert same_bits(back["params"], state["params"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(back["optimizer"]))
    with pytest.raises(Failed, match=r"gain_D is float32\[1\], not float32\[16\]"):
        to_state(bare | {"params.norm.gain_D": np.float32([1])}, abstract, TINY.layers)
    del bare["params.norm.gain_D"]
    with pytest.raises(Failed, match=r"params\.norm\.gain_D is nothing"):
        to_state(bare, abstract, TINY.layers)


def test_a_digest_tells_type_shape_and_values_apart() -> None:
    ones = np.ones((2, 3), np.float32)
    others = [ones.T, ones.reshape(6), ones.astype(np.int32), -ones, ones.astype(np.float16)]
    sums = [summed({"a": one})[0].sha256 for one in [ones, *others]]
    assert len(set(sums)) == len(sums)
    turned = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert summed({"a": turned}) == summed({"a": np.ascontiguousarray(turned)})


# Files ---------------------------------------------------------------------------------------

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer.count": np.int32(7)}
ARRAYS = {name: np.asarray(one) for name, one in ARRAYS.items()}
ORIGIN = Origin(TINY, "", 0.0, None, (), (), 0, summed(ARRAYS))


def test_what_is_written_is_read_by_us_and_by_numpy(tmp_path: Path) -> None:
    write_file(tmp_path / "new" / "a.npz", ORIGIN, {"from": "a test"}, ARRAYS, False)
    with ArraysFile(tmp_path / "new" / "a.npz") as file:
        assert file.names == list(ARRAYS)
        for name, one in ARRAYS.items():
            assert file.header(name).shape == one.shape
            np.testing.assert_array_equal(file.array(name), one, strict=True)
        about = file.about()
    assert about is not None
    assert about["provenance"] == {"from": "a test"}
    with np.load(tmp_path / "new" / "a.npz", allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["a"], ARRAYS["a"], strict=True)
        assert json.loads(loaded[ABOUT])["origin"]["lr"] == 0.0
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["a.npz"]


def test_a_file_is_the_same_whenever_it_is_written(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_file(tmp_path / name, ORIGIN, {}, ARRAYS, False)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_that_is_there_stays_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"mine")
    with pytest.raises(Refused, match="is there already: choose another name"):
        write_file(path, ORIGIN, {}, ARRAYS, False)
    assert path.read_bytes() == b"mine"
    write_file(path, ORIGIN, {}, ARRAYS, True)
    assert path.read_bytes() != b"mine"
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


def test_a_disk_without_room_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"mine")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(Failed, match=r"cannot write .*a.npz: disk full") as failed:
        write_file(path, ORIGIN, {}, ARRAYS, True)
    assert "\n" not in str(failed.value)
    assert path.read_bytes() == b"mine"
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    """A zip file of these members."""
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members:
            out.writestr(name, content)
    return path


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no file"):
        ArraysFile(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("words")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("text.npz", "empty.npz", "."):
        with pytest.raises(Refused, match=r"cannot be read as an \.npz file"):
            ArraysFile(tmp_path / name)


def test_objects_are_refused_before_they_are_made(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    fields = np.array([(1, None)], dtype=[("n", "<i4"), ("o", "O")])
    path = zipped(tmp_path / "a.npz", ("a.npy", npy(objects)), ("b.npy", npy(fields)))
    with ArraysFile(path) as file:
        for name in ("a", "b"):
            with pytest.raises(Refused, match=f"{name} holds Python objects"):
                file.header(name)
            with pytest.raises(Refused, match="cannot be read"):
                file.array(name)


def test_damage_is_refused(tmp_path: Path) -> None:
    good = npy(ARRAYS["a"])
    members = {
        "cut.npy": good[:-3],
        "head.npy": good[:9],
        "none.npy": b"words",
        "long.npy": good + b"x",
    }
    path = zipped(tmp_path / "a.npz", *members.items())
    with ArraysFile(path) as file:
        for name in members:
            with pytest.raises(Refused, match=r"a\.npz"):
                file.array(name.removesuffix(".npy"))
    write_file(tmp_path / "b.npz", ORIGIN, {}, ARRAYS, False)
    content = bytearray((tmp_path / "b.npz").read_bytes())
    place = content.index(ARRAYS["a"].tobytes()) + 9
    content[place] ^= 1
    (tmp_path / "b.npz").write_bytes(content)
    with ArraysFile(tmp_path / "b.npz") as file, pytest.raises(Refused, match="Bad CRC-32"):
        file.array("a")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", ("a.npy", npy(1.0)), ("a.npy", npy(2.0)))
    with pytest.raises(Refused, match=r"has two members 'a\.npy'"):
        ArraysFile(path)


@pytest.mark.parametrize("about", [b"{", b"[]", b"7", b'{"format":2}', b"\xff", b"[" * 100_000])
def test_a_description_that_is_none_is_refused(tmp_path: Path, about: bytes) -> None:
    with ArraysFile(zipped(tmp_path / "a.npz", (ABOUT, about))) as file:
        with pytest.raises(Refused, match=r"a\.npz") as refused:
            file.about()
        assert "\n" not in str(refused.value)


def test_arrays_of_others_say_nothing_of_themselves(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **{"params.norm.gain_D": np.ones(3)})
    with ArraysFile(tmp_path / "a.npz") as file:
        assert file.about() is None
        assert file.names == ["params.norm.gain_D"]
        assert file.header("params.norm.gain_D").dtype == np.float64
        assert jnp.asarray(file.array("params.norm.gain_D")).shape == (3,)
