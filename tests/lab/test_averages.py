"""Averages of states: the recursions as they are printed, whatever the trees hold."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.averages import Average, average, averaged
from lab.errors import Refused
from tests.lab.building import few


def states(count: int) -> list[dict[str, object]]:
    draw = np.random.default_rng(count)
    return [
        {"a": draw.normal(size=(3, 4)).astype(np.float32), "b": {"c": np.float32(draw.normal())}}
        for _ in range(count)
    ]


def plain_ema(states: list[dict[str, object]], alpha: float) -> object:
    """M_1 = W_1, M_i = a W_i + (1 - a) M_{i-1}, in float64."""
    whole = [jax.tree.map(lambda x: np.asarray(x, np.float64), one) for one in states]
    mean = whole[0]
    for one in whole[1:]:
        mean = jax.tree.map(lambda w, m: alpha * w + (1 - alpha) * m, one, mean)
    return mean


@few
@given(st.integers(2, 12), st.floats(0.01, 0.99))
def test_ema_is_the_recursion(count: int, alpha: float) -> None:
    found = averaged(states(count), Average("ema", count, alpha).weights)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-7, atol=2e-7),
        found,
        plain_ema(states(count), alpha),
    )


def test_sma_is_the_mean_and_wma_weighs_by_place() -> None:
    members = states(5)
    stacked = np.stack([one["a"] for one in members]).astype(np.float64)  # type: ignore[arg-type]
    for written, weights in (("sma:5", np.ones(5)), ("wma:5", np.arange(1, 6))):
        found = averaged(iter(members), average(written).weights)
        wanted = np.average(stacked, axis=0, weights=weights)
        assert found["a"].dtype == np.float32
        np.testing.assert_allclose(found["a"], wanted, rtol=2e-7, atol=1e-8)


@pytest.mark.parametrize("written", ["sma:2", "wma:7", "ema:6:0.2", "ema:3:0.9"])
def test_weights_sum_to_one_and_equal_states_average_to_themselves(written: str) -> None:
    one = average(written)
    assert one.weights.sum() == pytest.approx(1.0, abs=1e-15)
    assert len(one.weights) == one.count
    (state,) = states(1)
    found = averaged([state] * one.count, one.weights)
    assert np.abs(found["a"] - state["a"]).max() <= 2e-7


def test_the_papers_weights() -> None:
    # alpha = .2 over six states: .8^5, then .2 x .8^4 ... .2
    wanted = [0.8**5, *(0.2 * 0.8**k for k in (4, 3, 2, 1, 0))]
    assert average("ema:6:0.2").weights == pytest.approx(wanted, rel=1e-14)


def test_identities_follow_from_members_their_order_and_the_average() -> None:
    members = ["a" * 32, "b" * 32]
    found = [
        average(written).state_id(asked)
        for written, asked in itertools.product(
            ("sma:2", "wma:2", "ema:2:0.2", "ema:2:0.3"), (members, members[::-1])
        )
    ]
    assert len(set(found)) == 8
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)
    assert average("ema:2:0.20").state_id(members) == found[4]


@pytest.mark.parametrize(
    "written",
    ["", "sma", "sma:1", "sma:0", "sma:6:0.2", "ema:6", "ema:6:0", "ema:6:1", "ema:6:1.5",
     "ema:1:0.5", "ema:6:.", "mean:3", "sma:6 ", "sma:-3"],
)  # fmt: skip
def test_what_is_no_average_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(Refused, match=r"average .*: must be sma:K, wma:K or ema:K:A") as said:
        average(written)
    assert "\n" not in str(said.value)
