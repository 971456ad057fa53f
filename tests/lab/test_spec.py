"""A run is written as JSON and read back; what cannot be a run is refused in one line."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Refused
from lab.identity import Path
from lab.spec import ModelSpec, RunSpec, Share, Stage, canonical, from_json, hold, warm
from tests.lab.building import STEP, few, phase, run_of, run_specs, shares

DIGESTS = {name: name * 32 for name in "abc"}
RUN = run_of(
    phase("pretrain", 4, shares(a=1.0)),
    phase("cpt", 6, shares(b=0.25, a=0.75), warm(2 * STEP, 2e-3), hold()),
)


def refusal(text: str) -> str:
    with pytest.raises(Refused) as refused:
        from_json(RunSpec, text)
    message = str(refused.value)
    assert "\n" not in message
    return message


@few
@given(run_specs())
def test_a_run_survives_json_with_its_identity(run: RunSpec) -> None:
    text = canonical(run)
    again = from_json(RunSpec, text)
    assert again == run
    assert canonical(again) == text
    for step in (0, 1, run.steps):
        assert Path(again, DIGESTS).state_id(step) == Path(run, DIGESTS).state_id(step)


def test_one_value_has_one_canonical_text() -> None:
    whole = '{"corpus":"a","weight":1}'
    assert canonical(from_json(Share, whole)) == '{"corpus":"a","weight":1.0}'
    assert canonical(Share("a", 1)) == canonical(Share("a", 1.0))
    zero = from_json(Stage, '{"shape":"linear","tokens":1,"to_lr":-0.0}')
    assert canonical(zero) == '{"shape":"linear","to_lr":0.0,"tokens":1}'


def test_what_has_no_json_is_refused() -> None:
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(Refused, match="canonically"):
            canonical({"value": value})


WRONG: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("model", "layers"), True, "RunSpec.model.layers = True"),
    (("model", "layers"), 2.0, "RunSpec.model.layers = 2.0"),
    (("model", "layers"), None, "RunSpec.model.layers = None"),
    (("model", "tied_embedding"), 1, "RunSpec.model.tied_embedding = 1"),
    (("model", "context"), 0, "model.context = 0"),
    (("model", "heads"), 3, "model.heads = 3: must divide"),
    (("model", "heads"), 16, "model.heads = 16: must leave an even number"),
    (("model", "depth"), 2, "RunSpec.model: unknown key 'depth'"),
    (("model",), [], "RunSpec.model = []"),
    (("optimizer", "weight_decay"), "0.1", "RunSpec.optimizer.weight_decay = '0.1'"),
    (("optimizer", "weight_decay"), float("nan"), "RunSpec.optimizer.weight_decay = nan"),
    (("optimizer", "eps"), float("inf"), "RunSpec.optimizer.eps = inf"),
    (("optimizer", "eps"), -float("inf"), "RunSpec.optimizer.eps = -inf"),
    (("optimizer", "clip_norm"), 0.0, "optimizer.clip_norm = 0.0"),
    (("optimizer", "b2"), 1.0, "optimizer.b2 = 1.0"),
    (("optimizer", "b2"), False, "RunSpec.optimizer.b2 = False"),
    (("optimizer", "name"), "sgd", "RunSpec.optimizer.name = 'sgd': one of adamw, muon"),
    (("optimizer", "momentum"), 0.9, "optimizer.momentum = 0.9: AdamW has none"),
    (("precision",), "float16", "RunSpec.precision = 'float16': one of float32, bfloat16"),
    (("seed",), -1, "seed = -1"),
    (("seed",), 2**32, "seed = 4294967296"),
    (("batch",), 0, "batch = 0"),
    (("phases",), [], "phases = []"),
    (("phases",), "cpt", "RunSpec.phases = 'cpt'"),
    (("phases", 1, "name"), "pretrain", "phases = ['pretrain', 'pretrain']"),
    (("phases", 1, "name"), "two words", "phase.name = 'two words'"),
    (("phases", 1, "tokens"), -STEP, f"phase 'cpt': tokens = {-STEP}"),
    (("phases", 1, "tokens"), 6 * STEP + 1, f"phase 'cpt': tokens = {6 * STEP + 1}"),
    (("phases", 1, "reset_optimizer"), 0, "RunSpec.phases[1].reset_optimizer = 0"),
    (("phases", 1, "schedule", 0, "tokens"), None, "phase 'cpt': schedule = 'tokens null'"),
    (("phases", 1, "schedule", 0, "tokens"), 6 * STEP, "phase 'cpt': schedule tokens = 96"),
    (("phases", 1, "schedule", 1, "tokens"), STEP, "phase 'cpt': schedule tokens = 48"),
    (("phases", 1, "schedule", 0, "tokens"), 7, "phase 'cpt': warm stage tokens = 7"),
    (("phases", 1, "schedule", 0, "shape"), "step", "phases[1].schedule[0].shape = 'step'"),
    (("phases", 1, "schedule", 0, "to_lr"), None, "stage.to_lr = None"),
    (("phases", 1, "schedule", 0, "to_lr"), -1.0, "stage.to_lr = -1.0"),
    (("phases", 1, "schedule", 1, "to_lr"), 1e-3, "stage.to_lr = 0.001"),
    (("phases", 1, "mixture", 0, "weight"), 0.5, "phase 'cpt': mixture weights sum to = 1.25"),
    (("phases", 1, "mixture", 0, "weight"), 1.25, "share of 'b' = 1.25"),
    (("phases", 1, "mixture", 0, "corpus"), "a", "phase 'cpt': mixture = ['a', 'a']"),
    (("phases", 1, "mixture", 0, "corpus"), "", "share.corpus = ''"),
    (("phases", 1, "mixture"), [], "phase 'cpt': mixture = []"),
    (("phases", 1, "reread"), ["d"], "phase 'cpt': reread = ['d']: each once, of the mixture's"),
    (("phases", 1, "reread"), ["a", "a"], "phase 'cpt': reread = ['a', 'a']: each once"),
    (("phases", 1, "reread"), "a", "RunSpec.phases[1].reread = 'a': must be a list"),
]


@pytest.mark.parametrize(("path", "value", "says"), WRONG)
def test_what_cannot_be_a_run_is_refused_by_field(path: tuple, value: Any, says: str) -> None:
    written = json.loads(canonical(RUN))
    place = written
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert says in refusal(json.dumps(written))


def test_a_missing_key_is_named() -> None:
    written = json.loads(canonical(RUN))
    del written["model"]["width"]
    assert "RunSpec.model: key 'width' is missing" in refusal(json.dumps(written))
    assert refusal("[1, 2").startswith("not JSON")


def test_a_number_too_large_for_a_float_is_refused_by_field() -> None:
    for number in ("1e999", "1" + "0" * 400):
        text = canonical(RUN).replace('"clip_norm":1.0', f'"clip_norm":{number}')
        assert "RunSpec.optimizer.clip_norm" in refusal(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@few
@given(st.data())
def test_any_json_in_any_place_is_a_run_or_is_refused(data: st.DataObject) -> None:
    written: Any = json.loads(canonical(RUN))
    place = written
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    try:
        run = from_json(RunSpec, json.dumps(written))
    except Refused:
        refusal(json.dumps(written))
    else:
        assert from_json(RunSpec, canonical(run)) == run


def test_tokens_become_whole_steps() -> None:
    assert RUN.tokens_per_step == STEP
    assert RUN.phase_steps() == [4, 6]
    assert RUN.steps == 10
    with pytest.raises(Refused, match=f"whole steps of {STEP} tokens \\({STEP} or {2 * STEP}\\)"):
        RUN.steps_in(STEP + 1)


def test_a_step_belongs_to_the_phase_that_made_it() -> None:
    found = [(RUN.phase_of(step)[0].name, RUN.phase_of(step)[1]) for step in (0, 4, 5, 10)]
    assert found == [("pretrain", 0), ("pretrain", 4), ("cpt", 1), ("cpt", 6)]
    assert [RUN.phase_start(name) for name in ("pretrain", "cpt")] == [0, 4]
    with pytest.raises(Refused, match="behind the run's end at 10"):
        RUN.phase_of(11)
    with pytest.raises(Refused, match="this run has pretrain, cpt"):
        RUN.phase_start("cooldown")


def test_a_run_reads_only_the_corpora_that_have_weight() -> None:
    run = run_of(phase("p", 2, shares(a=0.0, b=1.0)), phase("q", 2, shares(c=0.5, b=0.5), hold()))
    assert run.corpora() == ["b", "c"]


def test_the_open_stage_takes_the_rest() -> None:
    stages = (warm(STEP, 1e-3), hold(), Stage("linear", 2 * STEP, 0.0))
    assert phase("p", 10, shares(a=1.0), *stages).stage_tokens() == [STEP, 7 * STEP, 2 * STEP]


def test_a_model_may_have_one_head_or_many() -> None:
    for heads in (1, 2, 4, 8):
        assert ModelSpec(16, 1, heads, 24, 8).heads == heads


def test_what_came_later_is_written_only_where_it_says_something() -> None:
    assert "precision" not in canonical(RUN)
    assert canonical(RUN.optimizer).endswith('"eps":1e-08,"weight_decay":0.1}')
    muon = dataclasses.replace(RUN.optimizer, name="muon")
    assert '"name":"muon"' in canonical(muon)
    bf16 = dataclasses.replace(RUN, precision="bfloat16", optimizer=muon)
    assert from_json(RunSpec, canonical(bf16)) == bf16
    assert bf16.shape != RUN.shape
