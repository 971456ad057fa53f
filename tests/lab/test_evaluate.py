"""Sums over windows are those of a direct computation, whatever is evaluated at once."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lab.evaluate import Scores, lane_evaluation, scores
from lab.evaluation_set import EvaluationSet
from lab.mesh import lanes
from lab.spec import Shape
from lab.train import Trainer
from tests.lab.building import BATCH, TINY, corpus_of

VOCABULARY = 7
TABLE = np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32)
evaluate = jax.jit(lane_evaluation, static_argnums=0)


def bigram(table: jax.Array, tokens_BL: jax.Array) -> jax.Array:
    return table[tokens_BL.reshape(-1)]


def windows(count: int, sets: int = 1, length: int = 6) -> np.ndarray:
    draw = np.random.default_rng(1)
    return draw.integers(0, VOCABULARY, (sets, count, length)).astype(np.int32)


def direct(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = TABLE.astype(np.float64)[text[..., :-1]]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(log_p, text[..., 1:, None], axis=-1)[..., 0]
    return -chosen.sum(axis=-1), (logits.argmax(axis=-1) == text[..., 1:]).sum(axis=-1)


@pytest.mark.parametrize(("count", "sets"), [(1, 1), (32, 1), (33, 2), (37, 1), (64, 3)])
def test_sums_are_those_of_a_direct_computation(count: int, sets: int) -> None:
    text = windows(count, sets)
    got = evaluate(bigram, jnp.asarray(TABLE), text, np.bool_(True))
    nats, correct = direct(text)
    assert got.nats.shape == got.correct.shape == (sets, count)
    assert got.nats.dtype == jnp.float32
    np.testing.assert_allclose(got.nats, nats, rtol=2e-6)
    assert np.array_equal(got.correct, correct)


def test_a_window_does_not_depend_on_those_beside_it() -> None:
    text = windows(37)
    whole = evaluate(bigram, jnp.asarray(TABLE), text, np.bool_(True))
    for first, last in ((0, 32), (5, 6), (11, 33)):
        part = evaluate(bigram, jnp.asarray(TABLE), text[:, first:last], np.bool_(True))
        np.testing.assert_allclose(part.nats, whole.nats[:, first:last], rtol=1e-6)
        assert np.array_equal(part.correct, whole.correct[:, first:last])


def test_an_unwanted_lane_is_zero() -> None:
    got = evaluate(bigram, jnp.asarray(TABLE * np.nan), windows(4), np.bool_(False))
    assert not np.asarray(got.nats).any()
    assert not np.asarray(got.correct).any()
    assert got.nats.dtype == jnp.float32


@pytest.mark.parametrize("batched", [False, True])
def test_a_stack_evaluates_its_wanted_lanes(batched: bool) -> None:
    trainer = Trainer(Shape(TINY, BATCH), lanes(2, batched=batched), 4)
    stack = trainer.empty_stack()
    for lane in range(2):
        stack = trainer.put(stack, lane, trainer.initial(lane))
    draw = np.random.default_rng(2)
    text = draw.integers(0, 32, (2, 5, TINY.context + 1)).astype(np.int32)
    both, first, second = (
        trainer.evaluate(stack, text, np.array(wanted))
        for wanted in ([True, True], [True, False], [False, True])
    )
    assert both.nats.shape == (2, 2, 5)
    for k, (one, other) in enumerate(((first, second), (second, first))):
        assert np.array_equal(one.nats[k], both.nats[k])
        assert np.array_equal(one.correct[k], both.correct[k])
        assert not np.asarray(other.nats)[k].any()
        # and it is the loss that training minimises
        params = trainer.initial(k)["params"]
        loss = float(jax.jit(trainer._loss)(params, jnp.asarray(text[0])))
        assert np.mean(both.nats[k, 0]) / TINY.context == pytest.approx(loss, rel=1e-6)
    assert not np.array_equal(both.nats[0], both.nats[1])


# Scores --------------------------------------------------------------------------------------


def a_set(**changes: Any) -> EvaluationSet:
    tokens = np.arange(500, dtype=np.uint16)
    corpus = corpus_of(changes.pop("name", "a"), tokens, tokens, bytes_per_token=4.0)
    return dataclasses.replace(EvaluationSet(corpus, windows=3, context=8), **changes)


def test_scores_are_means_and_bits_count_bytes_of_text() -> None:
    nats = np.array([8.0, 16.0, 24.0], np.float32)
    got = scores(nats, np.array([2, 3, 1], np.int32), a_set())
    assert got == Scores(loss_nats=48 / 24, bits_per_byte=2 / math.log(2) / 4, accuracy=6 / 24)


def test_a_uniform_guess_over_bytes_costs_eight_bits_a_byte() -> None:
    one = a_set()
    one = dataclasses.replace(one, corpus=corpus_of("a", *[np.arange(99)] * 2, bytes_per_token=1.0))
    got = scores(np.full(3, 8 * math.log(256), np.float32), np.zeros(3, np.int32), one)
    assert got.bits_per_byte == pytest.approx(8, rel=1e-7)


def test_the_identity_of_a_set_is_its_text_and_its_windows() -> None:
    sets = [a_set(), a_set(name="b"), a_set(windows=4), a_set(context=9)]
    assert len({one.set_id for one in sets}) == 4
    assert a_set().set_id == a_set().set_id
    assert len(a_set().set_id) == 16
    assert a_set().tokens().shape == (3, 9)
