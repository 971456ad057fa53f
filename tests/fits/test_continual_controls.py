"""Controls of a continual pre-training sweep, on tables made by hand."""

import math
from typing import Any

import pandas as pd
import pytest

from fits import Refused
from fits.continual import token_laws
from fits.continual_controls import (
    both_criteria,
    branch_losses,
    end_losses,
    falls_at_critical,
    mean_and_sd,
    trunk_losses,
    turning_by_laws,
)

RATIOS = (0.0, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
TOKENS = (100, 200, 400, 600, 800, 1000, 1200)


def table_of(change: Any, units: int = 2) -> pd.DataFrame:
    rows = [
        {
            "n_params": 1000,
            "unit": unit,
            "ratio": ratio,
            "corpus": corpus,
            "tokens": tokens,
            "loss_before": before + unit,
            "change": change(corpus, ratio, tokens),
        }
        for unit in range(units)
        for ratio in RATIOS
        for corpus, before in (("prose", 1.5), ("code", 6.0))
        for tokens in TOKENS
    ]
    table = pd.DataFrame(rows)
    return table.assign(loss_nats=table["loss_before"] + table["change"])


def turns(corpus: str, ratio: float, tokens: int) -> float:
    """General loss peaks at 400 tokens for R < 1/2 and at the end for more; 0 at R = 1/4."""
    if corpus == "code":
        return -ratio * tokens / 1000
    fall = (tokens - 400) / 1000
    return ratio - 0.25 + (fall if ratio > 0.4 else -abs(fall))


def test_the_distance_is_the_loss_of_each_trunk_once() -> None:
    found = trunk_losses(table_of(turns)).set_index("corpus")
    assert found.loc["code", "loss_nats"] == pytest.approx(6.5)
    assert found.loc["code", "sd_over_seeds"] == pytest.approx(math.sqrt(0.5))
    assert list(found["seeds"]) == [2, 2]


def test_the_fall_is_that_of_the_units_own_critical_ratio() -> None:
    table = table_of(lambda corpus, ratio, tokens: ratio * (1.0 - tokens / 2000))
    critical = {0: (0.3, 0.3), 1: (0.75, 1.0)}
    falls = falls_at_critical(table, "prose", 1000, critical, 400, 1200)
    assert falls[0] == pytest.approx((0.3 * 0.4, 0.3 * 0.4))
    assert falls[1] == (-math.inf, math.inf)


def test_both_criteria_stand_apart_and_the_lesser_binds() -> None:
    found = both_criteria(table_of(turns), "prose", 1200, [0.0, 2.0]).set_index("eps")
    assert list(found["turning_point"]) == ["1/4", "1/4"]
    assert found.loc[2.0, "tolerance"] == "> 3/4"
    assert found.loc[2.0, "binds"] == "turning point"
    assert found.loc[2.0, "critical_ratio"] == "0.250"
    rises = both_criteria(table_of(lambda c, r, t: r - 0.3 - 1 / t), "prose", 1200, [0.0])
    assert list(rises["turning_point"]) == ["none"]  # it rises for every ratio
    falls = both_criteria(table_of(lambda c, r, t: r - 0.3 + 1 / t), "prose", 1200, [0.0])
    assert list(falls["turning_point"]) == ["not binding"]
    assert list(falls["binds"]) == ["tolerance"]


def test_losses_of_branches_and_of_ends_are_by_unit() -> None:
    table = table_of(turns)
    losses = branch_losses(table, "code", 1000, 0.5, 1000)
    assert losses == pytest.approx({0: 5.5, 1: 6.5})
    moved = branch_losses(table, "code", 1000, 0.5, 1000, "change")
    assert moved == pytest.approx({0: -0.5, 1: -0.5})
    ends = pd.DataFrame(
        [
            {"arm": "s", "corpus": "code", "seed": seed, "run": f"r{seed}", "step": step,
             "status": status, "loss_nats": loss}
            for seed, status in ((0, "done"), (1, "diverged"), (2, "done"))
            for step, loss in ((20, 2.0 + seed), (10, 9.0))
        ]
    )  # fmt: skip
    assert end_losses(ends, "s", "code") == {0: 2.0, 2: 4.0}
    twice = pd.concat([ends, ends.assign(run="other")])
    with pytest.raises(Refused, match="arm s has several runs of a seed"):
        end_losses(twice, "s", "code")
    assert mean_and_sd({0: 2.0, 2: 4.0}) == {
        "loss_nats": 3.0,
        "sd_over_seeds": pytest.approx(math.sqrt(2.0)),
        "seeds": 2,
    }
    assert mean_and_sd({})["seeds"] == 0


def test_turning_points_of_the_laws_are_those_that_made_the_curves() -> None:
    def change(corpus: str, ratio: float, tokens: int) -> float:
        t = tokens / 0.2e9
        if corpus == "code":
            return -0.5 * (tokens / 1000) ** 0.5
        return ratio * (2.0 * (t * 1e6) ** 0.4 - 0.5 * (t * 1e6) ** 0.9 + 0.1)

    fits = token_laws(table_of(change), "prose", "code", after=0)
    found = turning_by_laws(fits, 1000, [1e6], 1200)
    assert set(found["ratio"]) == {1 / 8, 1 / 4, 1 / 2, 3 / 4}
    peak = (2.0 * 0.4 / (0.5 * 0.9)) ** (1 / 0.5) * 0.2e9 / 1e6
    assert 100 < peak < 1200
    assert found["within_horizon"].all()
    for text in found["turns"]:
        assert float(text.split()[2]) == pytest.approx(peak, rel=0.02)
    assert turning_by_laws(fits, 2000, [1e6], 1200).empty
