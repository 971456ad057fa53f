"""The base law from cooled ends: what is read, what is refused, and what one seed cannot say."""

import numpy as np
import pandas as pd
import pytest

from fits.base_law import (
    COUNTS,
    cooled_ends,
    exponent_table,
    exponents,
    irreducible,
    law_over_units,
    mean_over_units,
    predicted_by_unit,
    predictions,
)
from fits.errors import Refused

LAW = {"E": 1.5, "A": 400.0, "B": 2000.0, "alpha": 0.6, "beta": 0.5}
SIZES = [(6e3, 2e3), (1e4, 4e3), (1.6e4, 8e3), (2.6e4, 1.5e4), (4.2e4, 2.7e4), (7e4, 5e4)]
BUDGETS = (1e11, 2e11, 4e11, 8e11)


def loss(n: float, d: float) -> float:
    return LAW["E"] + LAW["A"] / n ** LAW["alpha"] + LAW["B"] / d ** LAW["beta"]


def results(seeds: int, noise: float = 0.0) -> pd.DataFrame:
    """A table with a row half way along every run, which must not be read."""
    random = np.random.default_rng(3)
    rows = []
    for seed in range(seeds):
        for n, without in SIZES:
            for budget in BUDGETS:
                tokens = round(budget / 6 / n)
                for part in (0.5, 1.0):
                    rows.append(
                        {
                            "arm": f"n{n:g}",
                            "run": f"{n:g}-{budget:g}-{seed}",
                            "seed": seed,
                            "status": "done",
                            "step": int(part * 100),
                            "tokens": part * tokens,
                            "train_flops": part * 6 * n * tokens,
                            "corpus": "text",
                            "epochs": part,
                            "n_params": n,
                            "n_params_non_embedding": without,
                            "loss_nats": loss(n, tokens) / part * np.exp(noise * random.normal()),
                        }
                    )
    return pd.DataFrame(rows)


def test_only_the_ends_of_finished_runs_are_read() -> None:
    table = results(2)
    ends = cooled_ends(table, "text")
    assert len(ends) == 2 * len(SIZES) * len(BUDGETS)
    assert (ends["epochs"] == 1.0).all()
    assert ends["loss_nats"].tolist() == pytest.approx(
        [loss(n, d) for n, d in zip(ends["n_params"], ends["n_tokens"], strict=True)]
    )
    table.loc[table["run"] == "6000-1e+11-0", "status"] = "diverged"
    assert len(cooled_ends(table, "text")) == len(ends) - 1
    assert len(mean_over_units(cooled_ends(table, "text"))) == len(ends) / 2 - 1
    with pytest.raises(Refused, match=r"^the table lacks epochs, seed$"):
        cooled_ends(table.drop(columns=["seed", "epochs"]), "text")
    with pytest.raises(Refused, match=r"^the table has no finished run evaluated on 'other'$"):
        cooled_ends(table, "other")


def test_without_noise_the_law_and_its_exponent_come_back_exactly() -> None:
    ends = cooled_ends(results(2), "text")
    one = law_over_units(ends)
    for name, value in LAW.items():
        assert one.params[name] == pytest.approx(value, rel=1e-4)
    read = exponents(ends)
    truth = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    assert list(read.by_unit["parametric"].values()) == pytest.approx([truth] * 2, rel=1e-4)
    assert list(read.by_unit["isoflop"].values()) == pytest.approx([truth] * 2, abs=0.01)
    assert read.differences("isoflop", "parametric") == pytest.approx(
        [read.by_unit["isoflop"][k] - truth for k in (0, 1)], abs=1e-4
    )
    assert read.why == {}


def test_every_seed_predicts_with_its_own_fit() -> None:
    ends = cooled_ends(results(3, noise=0.003), "text")
    one = law_over_units(ends)
    said = predicted_by_unit(ends, one, 2e5, 1e7)
    assert list(said) == [0, 1, 2]
    assert len(set(said.values())) == 3
    alone = law_over_units(ends[ends["unit"] == 1])
    x = {"n_params": [2e5], "n_tokens": [1e7]}
    assert said[1] == pytest.approx(float(alone.predict(x)["predicted"].iloc[0]), rel=1e-6)


def test_one_seed_has_numbers_and_no_interval_over_seeds() -> None:
    ends = cooled_ends(results(1, noise=0.003), "text")
    table = exponent_table([exponents(ends)]).set_index("approach")
    assert table["low"].isna().all()
    assert table.loc["isoflop", "seeds"] == 1
    assert np.isfinite(table.loc["isoflop", "a"])
    assert table.loc["parametric", "why not"] == "too few seeds"
    assert law_over_units(ends).intervals["E"].method == "profile"


def test_an_approach_that_cannot_read_says_why() -> None:
    ends = cooled_ends(results(2), "text")
    two_sizes = ends[ends["n_params"] < 1.5e4]
    read = exponents(two_sizes)
    assert read.why["isoflop"] == "seed 0: no budget has 3 sizes"
    assert "a power law needs 3: more sizes" in read.why["envelope"]
    one_horizon = ends[ends["budget_flop"] < 1.5e11]
    assert exponents(one_horizon).why["envelope"] == "seed 0: no size has two horizons"
    few = exponents(ends[ends["n_params"] < 8e3])
    assert few.law is None
    assert few.why["parametric"]


def test_predictions_name_their_law_and_the_first_must_speak() -> None:
    ends = cooled_ends(results(3, noise=0.003), "text")
    said = predictions(ends, ("chinchilla", "kaplan"), 2e5, 1e7, "larger")
    assert said["name"].tolist() == ["larger, chinchilla", "larger, kaplan"]
    first = said.iloc[0]
    assert first["low"] < loss(2e5, 1e7) < first["high"]
    sizes = 1e4 * (1 + 1e-3 * np.arange(len(ends)))  # a line, and hardly a range
    losses = [loss(n, 20 * n) for n in sizes]
    line = ends.assign(n_params=sizes, n_tokens=20 * sizes, loss_nats=losses)
    with pytest.raises(Refused, match=r"^law chinchilla gives no interval"):
        predictions(line, ("chinchilla", "kaplan"), 2e5, 4e6, "larger")


def test_irreducible_loss_less_the_truth_is_by_seed() -> None:
    ends = cooled_ends(results(3, noise=0.001), "text")
    one = law_over_units(ends)
    row, gaps, why = irreducible(ends, one, 1.4)
    assert why == ""
    assert gaps == pytest.approx([params["E"] - 1.4 for params in one.unit_params])
    assert np.mean(gaps) == pytest.approx(0.1, abs=0.03)
    assert row["least measured"] == pytest.approx(mean_over_units(ends)["loss_nats"].min())
    single = ends[ends["unit"] == 0]
    assert irreducible(single, law_over_units(single), 1.4)[2].startswith("one seed")


def test_both_counts_of_parameters_are_columns_of_the_ends() -> None:
    assert set(COUNTS.values()) <= set(cooled_ends(results(1), "text").columns)
