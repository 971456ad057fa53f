"""muP is the standard parametrisation at its base width, and keeps sizes of layers beyond it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lab.coordinate_check import coordinate_check
from lab.errors import Refused
from lab.identity import Path
from lab.model import Transformer
from lab.optimizer import hyper, initial_state, update
from lab.parametrisation import HIDDEN, scales
from lab.spec import ModelSpec, OptimizerSpec, RunSpec, canonical
from tests.lab.building import TINY, phase, run_of, shares

BASE = ModelSpec(width=32, layers=2, heads=2, mlp_width=88, context=16, vocabulary=32)
WIDTHS = (32, 64, 128, 256)


def wider(width: int, kind: str) -> ModelSpec:
    """Heads of one size, F / D constant."""
    m = width // BASE.width
    named = {"parametrisation": "mup", "base_width": 32, "base_heads": 2} if kind == "mup" else {}
    return dataclasses.replace(BASE, width=width, heads=2 * m, mlp_width=88 * m, **named)


def params_of(spec: ModelSpec) -> dict[str, jax.Array]:
    model = Transformer(spec, jax.random.key(0))
    flat = jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat}


def test_at_its_base_width_mup_is_the_standard_parametrisation_bit_for_bit() -> None:
    tokens = np.arange(32, dtype=np.int32).reshape(2, 16)
    standard, mup = (Transformer(wider(32, kind), jax.random.key(3)) for kind in ("", "mup"))
    assert np.array_equal(standard(jnp.asarray(tokens)), mup(jnp.asarray(tokens)))
    before, after = params_of(wider(32, "")), params_of(wider(32, "mup"))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert set(scales(wider(32, "mup")).rates.values()) == {1.0}


def test_factors_are_those_of_table_8() -> None:
    at = scales(wider(128, "mup"))  # m = 4
    assert at.rates == dict.fromkeys(HIDDEN, 0.25)
    assert at.logits == 0.25
    assert at.attention == pytest.approx(16**-0.5)  # heads of one size
    larger_heads = dataclasses.replace(wider(128, "mup"), heads=2)  # K = 64, K0 = 16
    assert scales(larger_heads).attention == pytest.approx(16**0.5 / 64)
    # initial standard deviations: hidden fan-in^-1/2, embedding and head as at the base
    found = params_of(wider(128, "mup"))
    base = params_of(wider(32, "mup"))
    for name, leaf in found.items():
        if "gain" in name:
            continue
        ratio = float(leaf.std() / base[name].std())
        hidden = any(one in name for one in HIDDEN)
        assert ratio == pytest.approx(0.5 if hidden else 1.0, rel=0.06), name


def test_a_step_of_a_hidden_matrix_is_smaller_and_decay_is_not() -> None:
    params = {"qkv_D3D": jnp.ones((4, 4)), "head_DV": jnp.ones((4, 4))}
    grads = {name: jnp.full((4, 4), 0.1) for name in params}
    spec = OptimizerSpec(weight_decay=0.5, clip_norm=10.0)
    rates = {"qkv_D3D": 0.25}
    after, _ = update(
        params, initial_state(params), grads, jnp.float32(1e-2), hyper(spec), rates=rates
    )
    # Adam's first step is 1 in every place; decay takes off rate x .5
    assert np.asarray(after["head_DV"]) == pytest.approx(1 - 1e-2 * (1 + 0.5), abs=1e-6)
    assert np.asarray(after["qkv_D3D"]) == pytest.approx(1 - 1e-2 * (0.25 + 0.5), abs=1e-6)


def test_the_coordinate_check_passes_under_mup_and_fails_under_the_standard() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 32, (3, 8, 17))
    found = coordinate_check(
        [wider(width, kind) for kind in ("", "mup") for width in WIDTHS], steps, lr=1e-2
    )
    slopes: dict[tuple[str, str], float] = {}
    for kind in ("standard", "mup"):
        for place in {one.place for one in found} - {"embedding"}:
            means = [
                np.mean(
                    [
                        one.change
                        for one in found
                        if (one.parametrisation, one.width, one.place, one.step)
                        == (kind, width, place, 3)
                    ]
                )
                for width in WIDTHS
            ]
            slopes[kind, place] = float(np.polyfit(np.log(WIDTHS), np.log(means), 1)[0])
    for (kind, place), slope in slopes.items():
        if kind == "mup":
            assert slope < 0.2, (place, slope)  # 8 times the width: not half as far again
        elif place == "logits":
            assert slope > 0.35, (place, slope)
        assert math.isfinite(slope)
    assert slopes["standard", "logits"] > slopes["mup", "logits"] + 0.3


def test_identities_of_standard_runs_stay_and_mup_has_its_own() -> None:
    plain = run_of(phase("only", 2, shares(a=1.0)))
    assert "parametrisation" not in canonical(plain)
    assert "base_width" not in canonical(plain)
    mup = dataclasses.replace(TINY, parametrisation="mup", base_width=8)
    other = RunSpec(mup, plain.optimizer, plain.phases, 0, plain.batch)
    assert Path(plain, {"a": "0"}).state_id(1) != Path(other, {"a": "0"}).state_id(1)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"parametrisation": "mu"}, "model.parametrisation = 'mu': one of standard, mup"),
        ({"parametrisation": "mup"}, "model.base_width = 0: mup needs the width"),
        ({"base_width": 8}, "model.base_width = 8: the standard parametrisation has no base"),
        ({"base_heads": 2}, "model.base_heads = 2: the standard parametrisation has no base"),
        ({"parametrisation": "mup", "base_width": 8, "base_heads": 3}, "must divide"),
        ({"parametrisation": "mup", "base_width": 8, "base_heads": -1}, "must divide"),
    ],
)
def test_what_is_no_parametrisation_is_refused(named: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        dataclasses.replace(TINY, **named)


def test_muon_and_checks_that_cannot_be_are_refused() -> None:
    mup = dataclasses.replace(TINY, parametrisation="mup", base_width=8)
    with pytest.raises(Refused, match="has rates for adamw only"):
        run_of(phase("only", 2, shares(a=1.0)), model=mup, optimizer=OptimizerSpec(name="muon"))
    with pytest.raises(Refused, match="windows of 9 tokens hold a context of 8"):
        coordinate_check([BASE], np.zeros((1, 2, 9), np.int32), 1e-2)
    deep = dataclasses.replace(BASE, layers=9)
    with pytest.raises(Refused, match=r"model.layers = 9: must be at most 8"):
        coordinate_check([deep], np.zeros((1, 2, 17), np.int32), 1e-2)
