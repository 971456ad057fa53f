"""A state is what went into its steps: no more (names, future, cuts), and no less."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import identity
from lab.errors import Refused
from lab.identity import Path
from lab.spec import ModelSpec, OptimizerSpec, RunSpec, canonical, decay, hold, warm
from tests.lab.building import LR, STEP, TINY, few, mixtures, phase, run_of, run_specs, shares

DIGESTS = {"a": "a" * 32, "b": "b" * 32, "c": "c" * 32}
TRUNK = phase("trunk", 10, shares(a=1.0))


def ids(run: RunSpec, digests: dict[str, str] = DIGESTS) -> list[str]:
    path = Path(run, digests)
    return [path.state_id(step) for step in range(run.steps + 1)]


def test_every_step_has_an_identity_of_its_own() -> None:
    found = ids(run_of(TRUNK))
    assert len(set(found)) == 11
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)


def test_a_longer_hold_begins_with_the_shorter_one() -> None:
    assert ids(run_of(phase("long", 20, shares(a=1.0))))[:11] == ids(run_of(TRUNK))


def test_the_same_tokens_written_open_or_closed_are_one_path() -> None:
    closed = phase("p", 10, shares(a=1.0), warm(STEP, LR), hold(9 * STEP))
    assert ids(run_of(closed)) == ids(run_of(TRUNK))


@few
@given(st.data(), mixtures(), st.integers(2, 8), st.integers(1, 8), st.integers(1, 4))
def test_a_phase_cut_in_two_is_the_same_path(
    data: st.DataObject, mixture: Any, rising: int, holding: int, after: int
) -> None:
    total = rising + holding
    cut = data.draw(st.integers(rising, total - 1))
    begin = (warm(rising * STEP, LR), hold()) if cut > rising else (warm(rising * STEP, LR),)
    whole = phase("p", total, mixture, warm(rising * STEP, LR), hold())
    tail = phase("tail", after, shares(c=1.0), decay(None, 0.0))
    halves = (phase("q", cut, mixture, *begin), phase("r", total - cut, mixture, hold()))
    assert ids(run_of(*halves, tail)) == ids(run_of(whole, tail))
    # hold(t) for any shorter t as well
    assert ids(run_of(phase("s", cut, mixture, *begin))) == ids(run_of(whole))[: cut + 1]


def test_what_has_weight_zero_is_no_part_of_the_path() -> None:
    padded = run_of(dataclasses.replace(TRUNK, mixture=shares(a=1.0, b=0.0)))
    assert ids(padded, {"a": DIGESTS["a"]}) == ids(run_of(TRUNK))
    control = phase("control", 5, shares(b=0.0, a=1.0), hold())
    assert ids(run_of(TRUNK, control)) == ids(run_of(phase("p", 15, shares(a=1.0))))


@few
@given(run_specs())
def test_names_of_phases_and_corpora_are_no_part(run: RunSpec) -> None:
    phases = tuple(
        dataclasses.replace(
            phase,
            name=f"other{k}",
            mixture=tuple(
                dataclasses.replace(share, corpus=share.corpus.upper()) for share in phase.mixture
            ),
        )
        for k, phase in enumerate(run.phases)
    )
    renamed = dataclasses.replace(run, phases=phases)
    digests = {name.upper(): digest for name, digest in DIGESTS.items()}
    assert ids(renamed, digests) == ids(run)


CHANGES: dict[str, RunSpec] = {
    "seed": run_of(TRUNK, seed=1),
    "width": run_of(TRUNK, model=dataclasses.replace(TINY, width=32)),
    "tied": run_of(TRUNK, model=dataclasses.replace(TINY, tied_embedding=True)),
    "vocabulary": run_of(TRUNK, model=dataclasses.replace(TINY, vocabulary=33)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_model_and_seed_change_every_state(what: str) -> None:
    assert not set(ids(CHANGES[what])) & set(ids(run_of(TRUNK)))


LATER: dict[str, RunSpec] = {
    "muon": run_of(TRUNK, optimizer=OptimizerSpec(name="muon")),
    "weight decay": run_of(TRUNK, optimizer=OptimizerSpec(weight_decay=0.2)),
    "b1": run_of(TRUNK, optimizer=OptimizerSpec(b1=0.8)),
    "clip": run_of(TRUNK, optimizer=OptimizerSpec(clip_norm=2.0)),
    "batch": run_of(phase("p", 20, shares(a=1.0), warm(2 * STEP, LR), hold()), batch=4),
    "corpus": run_of(phase("p", 10, shares(b=1.0))),
    "ratio": run_of(phase("p", 10, shares(a=0.75, b=0.25))),
    "rate": run_of(phase("p", 10, shares(a=1.0), warm(STEP, 2 * LR), hold())),
}


@pytest.mark.parametrize("what", LATER)
def test_what_only_acts_in_a_step_leaves_state_0_alone(what: str) -> None:
    changed, same = ids(LATER[what]), ids(run_of(TRUNK))
    assert changed[0] == same[0]
    assert not set(changed[1:]) & set(same)


def test_a_corpus_is_its_contents() -> None:
    other = DIGESTS | {"a": "d" * 32}
    assert ids(run_of(TRUNK))[0] == ids(run_of(TRUNK), other)[0]
    assert not set(ids(run_of(TRUNK))[1:]) & set(ids(run_of(TRUNK), other))


def test_ratios_that_differ_little_differ() -> None:
    near = [run_of(phase("p", 2, shares(a=w, b=1 - w))) for w in (0.25, 0.25 + 2**-31)]
    assert ids(near[0])[1] != ids(near[1])[1]


@few
@given(st.integers(1, 12), st.floats(0.01, 0.99))
def test_a_rate_changed_at_one_step_changes_only_what_follows(step: int, share: float) -> None:
    same = ids(run_of(phase("p", 16, shares(a=1.0))))
    dip = (warm(STEP, LR), hold(step * STEP), decay(STEP, share * LR), warm(STEP, LR), hold())
    changed = ids(run_of(phase("p", 16, shares(a=1.0), *dip)))
    last = 1 + step  # the state before the step of the lower rate
    assert changed[: last + 1] == same[: last + 1]
    assert not set(changed[last + 1 :]) & set(same)


def test_what_comes_after_a_state_does_not_touch_it() -> None:
    ends = [
        phase("r", 5, shares(b=0.5, a=0.5), hold()),
        phase("r", 5, shares(b=0.25, a=0.75), warm(None, 3 * LR)),
        phase("r", 5, shares(a=1.0), decay(None, 0.0)),
        phase("r", 5, shares(a=1.0), hold(), reset_optimizer=True),
    ]
    found = [ids(run_of(TRUNK, end)) for end in ends]
    assert all(one[:11] == ids(run_of(TRUNK)) for one in found)
    assert len({one[k] for one in found for k in (11, 15)}) == 8


def test_a_reset_counts_where_there_is_something_to_reset() -> None:
    at_start = dataclasses.replace(TRUNK, reset_optimizer=True)
    assert ids(run_of(at_start)) == ids(run_of(TRUNK))
    more = phase("more", 4, shares(a=1.0), hold(), reset_optimizer=True)
    stretches = Path(run_of(TRUNK, more), DIGESTS).stretches
    assert [(s.start, s.stop, s.reset_optimizer) for s in stretches] == [
        (0, 10, False),
        (10, 14, True),
    ]


def test_rereading_counts_where_something_was_read() -> None:
    branch = phase("cpt", 4, shares(b=0.5, a=0.5), hold())
    literal = dataclasses.replace(branch, reread=("a",))
    same, found = ids(run_of(TRUNK, branch)), ids(run_of(TRUNK, literal))
    assert found[:11] == same[:11]
    assert not set(found[11:]) & set(same)
    # nothing of b was read, and a phase before all others has nothing to read again
    assert ids(run_of(TRUNK, dataclasses.replace(branch, reread=("b",)))) == same
    assert ids(run_of(dataclasses.replace(TRUNK, reread=("a",)), branch)) == same
    # a phase cut in two reads on, unless its second half begins anew once more
    whole = dataclasses.replace(literal, tokens=8 * STEP)
    tail = dataclasses.replace(branch, name="tail")
    again = dataclasses.replace(literal, name="tail")
    plain = run_of(TRUNK, dataclasses.replace(branch, tokens=8 * STEP))
    assert ids(run_of(TRUNK, branch, tail)) == ids(plain)
    ends = [ids(run_of(TRUNK, *two))[-1] for two in ((whole,), (literal, again), (literal, tail))]
    assert len(set(ends)) == 3


def test_numerics_and_precision_change_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    same = ids(run_of(TRUNK))
    assert not set(ids(run_of(TRUNK, precision="bfloat16"))) & set(same)
    monkeypatch.setattr(identity, "NUMERICS", identity.NUMERICS + 1)
    assert not set(ids(run_of(TRUNK))) & set(same)


def test_two_names_of_one_text_in_a_mixture_are_refused() -> None:
    run = run_of(phase("p", 4, shares(a=0.5, b=0.5)))
    with pytest.raises(Refused, match="phase 'p': mixture"):
        ids(run, {"a": "same", "b": "same"})


def test_the_written_form_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    # If this fails, every state on everybody's disk is orphaned: is that worth it?
    monkeypatch.setattr(identity, "NUMERICS", 1)
    model = ModelSpec(width=8, layers=1, heads=1, mlp_width=8, context=4, vocabulary=16)
    run = run_of(phase("p", 2, shares(b=0.25, a=0.75)), model=model, batch=4, seed=3)
    assert ids(run) == [
        "66a252852ae75b68a0392b2d009d3a24",
        "ecd80ec095b5e119d5d7646468240215",
        "e07f3937452e6855e44516a9d1ef9007",
    ]


@few
@given(run_specs())
def test_the_written_form_is_what_it_was_before_it_was_written_piece_by_piece(run: RunSpec) -> None:
    path = Path(run, DIGESTS)
    model, optimizer = json.loads(canonical(run.model)), json.loads(canonical(run.optimizer))
    for step in range(run.steps + 1):
        head = {"numerics": 1, "precision": run.precision, "model": model, "seed": run.seed}
        written = canonical(head).encode()
        if step > 0:
            chain = [
                [s.start, min(s.stop, step), [list(share) for share in s.shares], s.reset_optimizer]
                for s in path.stretches
                if s.start < step
            ]
            written += canonical({"optimizer": optimizer}).encode()
            written += canonical({"batch": run.batch, "chain": chain}).encode()
            written += path.lr[:step].astype("<f4").tobytes()
        assert path.state_id(step) == hashlib.sha256(written).hexdigest()[:32]


def test_a_spec_that_only_compares_equal_to_one_that_was_written_is_still_refused() -> None:
    run = run_of(TRUNK)
    assert ids(run)
    numbered: Any = 0  # equal to the False of the run above, and no truth value
    loose = dataclasses.replace(TINY, tied_embedding=numbered)
    assert loose == TINY
    with pytest.raises(Refused, match="tied_embedding = 0: must be true or false"):
        ids(dataclasses.replace(run, model=loose))
