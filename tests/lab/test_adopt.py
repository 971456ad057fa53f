"""A checkpoint is taken in whole and checked, or refused in one line; a run goes on from it."""

import dataclasses
import itertools
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.adopt import Told, adopt, adopted_state, known_digests, open_adopted, provenance
from lab.arrays import array_shapes, summed, write_file
from lab.errors import Failed, Refused
from lab.home import home
from lab.identity import Path as RunPath
from lab.mixture import Stream
from lab.origin import Origin, Read, Weighed
from lab.schedule import exact
from lab.spec import ModelSpec, OptimizerSpec, decay, hold, warm
from tests.lab.building import LR, STEP, TINY, counting_corpus, few, phase, run_of, shares
from tests.lab.test_arrays import held

Arrays = dict[str, Any]
A, B = f"{'a':0>32}", f"{'b':0>32}"


def arrays_of(moments: Any = "adamw", model: ModelSpec = TINY, seed: int = 0) -> Arrays:
    """Every array that a file of this model has; second moments are positive."""
    draw = np.random.default_rng(seed)
    arrays = {
        name: np.abs(draw.normal(size=shape)).astype(np.float32)
        for name, shape in array_shapes(model, moments).items()
    }
    return arrays | ({"optimizer.count": np.asarray(5, np.int32)} if moments else {})


def origin_of(arrays: Arrays, moments: Any = "adamw", **more: Any) -> Origin:
    fields: dict[str, Any] = {
        "model": TINY, "optimizer": moments, "lr": LR, "seed": 0, "read": (Read(A, 6),),
        "mixture": (Weighed(A, 2**32),), "windows": 6, "arrays": summed(arrays),
    }  # fmt: skip
    return Origin(**(fields | more))


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A file that says what it is."""
    arrays = arrays_of()
    write_file(tmp_path / "trunk.npz", origin_of(arrays), {"study": "mine"}, arrays, False)
    return tmp_path / "trunk.npz"


def saved(folder: Path, arrays: Arrays) -> Path:
    """A user's own file."""
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def test_what_was_adopted_is_there_by_its_digest(described: Path) -> None:
    origin = adopt(described, Told())
    assert origin == origin_of(arrays_of())
    assert origin.digest in known_digests()
    assert open_adopted(origin.digest) == origin
    assert provenance(origin.digest) == {"study": "mine"}
    state = adopted_state(origin, held(TINY, "adamw"))
    np.testing.assert_array_equal(
        state["optimizer"]["nu"]["norm"]["gain_D"], arrays_of()["optimizer.nu.norm.gain_D"]
    )
    assert int(state["optimizer"]["count"]) == 5


def test_adopting_twice_is_adopting_once(described: Path) -> None:
    first = adopt(described, Told())
    content = (home() / "adopted" / f"{first.digest}.npz").read_bytes()
    before = known_digests()
    assert adopt(described, Told()).digest == first.digest
    assert known_digests() == before
    assert (home() / "adopted" / f"{first.digest}.npz").read_bytes() == content


def test_whatever_a_run_takes_over_changes_the_digest_and_whence_it_came_does_not() -> None:
    arrays = arrays_of()
    other = arrays | {"params.norm.gain_D": arrays["params.norm.gain_D"] + 1}
    kinds = [
        origin_of(arrays),
        origin_of(other),
        origin_of(arrays, model=dataclasses.replace(TINY, heads=1)),
        origin_of(arrays, lr=2 * LR),
        origin_of(arrays, seed=1),
        origin_of(arrays, read=(Read(A, 7),)),
        origin_of(arrays, read=(Read(B, 6),)),
        origin_of(arrays, windows=5),
        origin_of(arrays, mixture=(Weighed(B, 2**32),)),
    ]
    assert len({one.digest for one in kinds}) == len(kinds)


def test_own_arrays_need_a_model_and_start_afresh(tmp_path: Path) -> None:
    arrays = arrays_of("")
    path = saved(tmp_path, {name: one.astype(np.float64) for name, one in arrays.items()})
    with pytest.raises(Refused, match="says nothing of its model: give --model"):
        adopt(path, Told())
    origin = adopt(path, Told(TINY))
    assert (origin.optimizer, origin.lr, origin.seed, origin.read) == ("", 0.0, None, ())
    assert origin.arrays == summed(arrays)
    assert provenance(origin.digest) == {"file": "own.npz"}
    state = adopted_state(origin, held(TINY, "muon"))
    np.testing.assert_array_equal(state["params"]["norm"]["gain_D"], arrays["params.norm.gain_D"])
    assert not np.any(state["optimizer"]["mu"]["blocks"][0]["mlp"]["up_DF"])
    told = Told(TINY, 3e-4, (Read(A, 9),))
    again = adopt(path, told)
    assert (again.lr, again.read) == (3e-4, (Read(A, 9),))


@pytest.mark.parametrize("moments", ["", "adamw", "muon"])
def test_whose_moments_a_file_has_is_read_off_its_names(tmp_path: Path, moments: Any) -> None:
    assert adopt(saved(tmp_path, arrays_of(moments)), Told(TINY)).optimizer == moments


def changed(name: str, value: Any) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: value}


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: one for key, one in arrays.items() if key != name}


GAIN = "params.norm.gain_D"
WRONG = [
    (without(GAIN), r"params\.norm\.gain_D is missing; it must be \[16\]"),
    (without("optimizer.count"), r"optimizer\.count is missing; it must be \[\]"),
    (without("optimizer.mu.norm.gain_D"), r"optimizer\.mu\.norm\.gain_D is missing"),
    (changed(GAIN, np.ones((4, 4), np.float32)), r"gain_D is \[4, 4\], not \[16\]"),
    (changed(GAIN, np.ones(16, np.int64)), "gain_D is int64; it must be one of float16, float32"),
    (changed(GAIN, np.ones(16, np.complex64)), "gain_D is complex64"),
    (changed(GAIN, np.array(["x"] * 16)), "gain_D is <U1"),
    (changed(GAIN, np.array([None] * 16)), "gain_D holds Python objects"),
    (changed(GAIN, np.array([np.nan] * 16, np.float32)), "gain_D has values that are not finite"),
    (changed(GAIN, np.full(16, 1e300)), "gain_D has values that are not finite in float32"),
    (changed("optimizer.count", np.float32(5)), "count is float32; it must be a whole number"),
    (changed("optimizer.count", np.int64(-1)), "count = -1: must be in 0.."),
    (changed("optimizer.count", np.uint64(2**63)), "must be in 0.."),
    (changed("optimizer.nu.norm.gain_D", np.full(16, -1.0)), "has negative values"),
    (changed("params.blocks.1.mlp.up_DF", np.ones(3)), "unknown array 'params.blocks.1.mlp.up_DF'"),
    (changed("head", np.ones(3)), "unknown array 'head'; lab adopt --names lists the names"),
    (changed("../../head", np.ones(3)), "unknown array '../../head'"),
]


@pytest.mark.parametrize(("change", "why"), WRONG)
def test_a_wrong_array_is_named_and_nothing_is_taken_in(
    tmp_path: Path, change: Callable[[Arrays], Arrays], why: str
) -> None:
    before = known_digests()
    with pytest.raises(Refused, match=why) as refused:
        adopt(saved(tmp_path, change(arrays_of())), Told(TINY))
    assert "\n" not in str(refused.value)
    assert known_digests() == before


def test_the_first_wrong_array_is_named(tmp_path: Path) -> None:
    arrays = arrays_of() | {"params.head_DV": np.ones(3), "params.embedding_VD": np.ones(3)}
    with pytest.raises(Refused, match=r"embedding_VD is \[3\], not \[32, 16\]"):
        adopt(saved(tmp_path, arrays), Told(TINY))


def test_a_wrong_shape_is_refused_before_the_array_is_read(tmp_path: Path) -> None:
    # 2^40 numbers by its header, which nobody must make room for
    head = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as out:
        out.writestr("params.embedding_VD.npy", head + len(text).to_bytes(2, "little") + text)
    with pytest.raises(Refused, match=r"is \[1099511627776\], not \[32, 16\]"):
        adopt(tmp_path / "a.npz", Told(TINY))


def rewritten(path: Path, change: Callable[[Any], None]) -> Path:
    """The file with another description."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    about = json.loads(members["about.json"])
    change(about["origin"])
    members["about.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


LIES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda o: o["arrays"][3].update(sha256="0" * 64), "is not what about.json says"),
    (lambda o: o["arrays"].pop(), "is not what about.json says"),
    (lambda o: o.update(optimizer="muon"), "optimizer is not what about.json says"),
    (lambda o: o["model"].update(width=8), r"embedding_VD is \[32, 16\], not \[32, 8\]"),
    (lambda o: o["model"].update(heads=3), "model.heads = 3: must divide"),
    (lambda o: o.update(lr=-1.0), "lr = -1.0: must not be negative"),
    (lambda o: o.update(lr="fast"), "lr = 'fast': must be a finite number"),
    (lambda o: o.update(path="/etc"), "unknown key 'path'"),
    (lambda o: o.pop("windows"), "key 'windows' is missing"),
    (lambda o: o["read"][0].update(windows=-1), "must not be negative"),
    (lambda o: o["read"][0].update(corpus="../x"), "corpus = '../x': must be its digest"),
    (lambda o: o["read"].append(o["read"][0]), "names a corpus twice"),
    (lambda o: o.update(seed=-1), "seed = -1: must be in"),
]


@pytest.mark.parametrize(("lie", "why"), LIES)
def test_a_description_that_does_not_fit_is_refused(
    described: Path, lie: Callable[[Any], Any], why: str
) -> None:
    before = known_digests()
    with pytest.raises(Refused, match=why) as refused:
        adopt(rewritten(described, lie), Told())
    assert "\n" not in str(refused.value)
    assert known_digests() == before


@pytest.mark.parametrize("told", [Told(TINY), Told(lr=0.0), Told(read=())])
def test_a_file_that_says_what_it_is_is_told_nothing(described: Path, told: Told) -> None:
    with pytest.raises(Refused, match="says its own in about"):
        adopt(described, told)


# Adopted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["", "0" * 63, "../" * 21 + "x", "A" * 64, "0" * 64 + "\n"])
def test_only_a_digest_is_looked_up(digest: str) -> None:
    with pytest.raises(Refused, match="must be the digest"):
        open_adopted(digest)


def test_what_was_not_adopted_is_refused() -> None:
    with pytest.raises(Refused, match=r"start = 000000000000\.\.\.: no such checkpoint was"):
        open_adopted("0" * 64)


def test_damage_since_is_found_before_anything_is_trained(described: Path) -> None:
    origin = adopt(described, Told())
    place = home() / "adopted" / f"{origin.digest}.npz"
    sound = place.read_bytes()

    rewritten(place, lambda o: o.update(lr=1.0))
    with pytest.raises(Failed, match="is damaged, adopt its file again: its digest is another"):
        open_adopted(origin.digest)

    other = arrays_of() | {GAIN: np.zeros(16, np.float32)}
    write_file(place, origin, {}, other, True)  # sound as a zip file, but not what was adopted
    assert open_adopted(origin.digest) == origin
    with pytest.raises(Failed, match="its arrays are not what was adopted"):
        adopted_state(origin, held(TINY, "adamw"))

    for content in (b"", sound[:-100], sound[: len(sound) // 2]):
        place.write_bytes(content)
        with pytest.raises(Failed, match="is damaged, adopt its file again"):
            open_adopted(origin.digest)

    adopt(described, Told())
    assert place.read_bytes() == sound


def test_a_disk_without_room_takes_nothing_in(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((home() / "adopted").glob("*")) if known_digests() else []
    arrays = arrays_of(seed=9)
    write_file(described, origin_of(arrays), {}, arrays, True)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match="disk full"):
        adopt(described, Told())
    assert sorted((home() / "adopted").glob("*")) == before


# Going on ------------------------------------------------------------------------------------

DIGESTS = {"a": A, "b": B}
CORPORA = {A: counting_corpus("a", 40), B: counting_corpus("b", 24)}


def after(path: RunPath, step: int) -> Origin:
    """What is left of a run at a step; its arrays are of no matter here."""
    stream = Stream(path, CORPORA)
    mixture, windows = stream.stopped_in(step)
    before = path.origin.lr if path.origin is not None else 0.0
    return origin_of(
        {},
        lr=float(exact(path.run, before)[step - 1]),
        seed=path.run.seed,
        read=tuple(Read(*one) for one in sorted(stream.places(step).items())),
        mixture=tuple(Weighed(*one) for one in mixture),
        windows=windows,
    )


steps = st.integers(1, 6)
mixtures = st.sampled_from(
    [shares(a=1.0), shares(b=1.0), shares(b=0.3, a=0.7), shares(b=0.5, a=0.5), shares(a=0.5, b=0.5)]
)
stages = st.sampled_from(
    [(hold(),), (warm(STEP, 3 * LR), hold()), (decay(None, LR / 7, "cosine"),)]
)


@few
@given(
    st.lists(
        st.tuples(steps, mixtures, stages, st.booleans(), st.booleans()), min_size=2, max_size=4
    )
)
def test_cut_anywhere_and_adopted_the_same_windows_come_at_the_same_rates(parts: Any) -> None:
    warmed = [(n, m, s if k else (warm(STEP, LR), hold()), r, again)
              for k, (n, m, s, r, again) in enumerate(parts)]  # fmt: skip
    warmed[0] = (max(2, warmed[0][0]), *warmed[0][1:])
    phases = [
        phase(
            f"p{k}", n + (len(s) > 1), m, *s,
            reset_optimizer=r, reread=(m[-1].corpus,) if again else (),
        )
        for k, (n, m, s, r, again) in enumerate(warmed)
    ]  # fmt: skip
    whole = RunPath(run_of(*phases), DIGESTS)
    ends = list(itertools.accumulate(whole.run.phase_steps()))
    cut, origin, path = 0, None, whole
    for k, end in enumerate(ends[:-1]):  # adopted again and again
        origin = after(path, end - cut)
        path = RunPath(run_of(*phases[k + 1 :], start=origin.digest), DIGESTS, origin)
        cut = end
        np.testing.assert_array_equal(path.lr, whole.lr[cut:], strict=True)
        going, all_ = Stream(path, CORPORA), Stream(whole, CORPORA)
        rest = whole.steps - cut
        np.testing.assert_array_equal(going.tokens(0, rest), all_.tokens(cut, rest))
        for step in range(rest + 1):
            then = {d: n for d, n in all_.places(cut + step).items() if n}
            assert {d: n for d, n in going.places(step).items() if n} == then


def test_states_of_an_adopted_start_are_its_own() -> None:
    first, second = origin_of({}), origin_of({}, lr=2 * LR)
    trunk = phase("p", 4, shares(a=1.0), hold())

    def ids(origin: Origin | None, **more: Any) -> list[str]:
        start = origin.digest if origin is not None else ""
        path = RunPath(run_of(trunk, start=start, **more), DIGESTS, origin)
        return [path.state_id(step) for step in range(path.steps + 1)]

    both = [ids(first), ids(second), ids(None)]
    assert len({one for found in both for one in found}) == 15
    # the adopted state is there whatever is done with it; what follows differs
    others: list[dict[str, Any]] = [
        {"seed": 1}, {"optimizer": OptimizerSpec(weight_decay=0.2)}, {"batch": 1},
    ]  # fmt: skip
    for more in others:
        found = ids(first, **more)
        assert found[0] == both[0][0]
        assert not set(found[1:]) & set(both[0])


def test_a_path_without_its_checkpoint_is_refused() -> None:
    origin = origin_of({})
    run = run_of(phase("p", 4, shares(a=1.0), hold()), start=origin.digest)
    for wrong in (None, origin_of({}, lr=1.0)):
        with pytest.raises(Refused, match="is not the checkpoint that was opened"):
            RunPath(run, DIGESTS, wrong)
    with pytest.raises(Refused, match="is not the checkpoint that was opened"):
        RunPath(dataclasses.replace(run, start=""), DIGESTS, origin)


def test_a_reset_counts_at_the_first_step_of_an_adopted_start() -> None:
    origin = origin_of({})
    found = []
    for reset in (False, True):
        one = phase("p", 4, shares(a=1.0), hold(), reset_optimizer=reset)
        path = RunPath(run_of(one, start=origin.digest), DIGESTS, origin)
        assert path.stretches[0].reset_optimizer is reset
        found.append(path.state_id(1))
    assert found[0] != found[1]


def test_a_run_that_cannot_start_there_is_refused() -> None:
    origin = origin_of({})
    one = phase("p", 4, shares(a=1.0), hold())
    origin.refuse_unlike(run_of(one, start=origin.digest))
    wider = dataclasses.replace(TINY, mlp_width=48)
    with pytest.raises(Refused, match=r"model\.mlp_width = 48: .* a checkpoint with 24"):
        origin.refuse_unlike(run_of(one, model=wider))
    muon = OptimizerSpec(name="muon")
    with pytest.raises(Refused, match=r"moments of adamw; set p\.reset_optimizer=true"):
        origin.refuse_unlike(run_of(one, optimizer=muon))
    fresh = dataclasses.replace(one, reset_optimizer=True)
    origin.refuse_unlike(run_of(fresh, optimizer=muon))
    origin_of({}, optimizer="").refuse_unlike(run_of(one, optimizer=muon))
