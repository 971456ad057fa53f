"""Rival forms of loss against the ratio, on losses that one of them made."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fits.ratio_forms import FORMS, held_out_errors, rank_forms

RATIOS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
MAKERS: dict[str, Callable[[float], float]] = {
    "cmr-ratio": lambda r: 3.0 - 0.8 * r**0.4,
    "data-mixing": lambda r: 2.0 + 0.9 * float(np.exp(-4.0 * r)),
    "ratio-inverse": lambda r: 1.0 + 1.1 * (r or 1e-3) ** -0.2,
}


def table_of(
    domain: Callable[[float], float], units: int = 3, ratios: tuple[float, ...] = RATIOS
) -> pd.DataFrame:
    """Losses by unit: the domain's, and a general one that is the same form of 1 - R."""
    rows = [
        {
            "n_params": 1000,
            "unit": unit,
            "ratio": ratio,
            "corpus": corpus,
            "tokens": 500,
            "loss_nats": domain(share) + 0.01 * unit,
        }
        for unit in range(units)
        for ratio in ratios
        for corpus, share in (("code", ratio), ("prose", 1 - ratio))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("form", FORMS)
def test_the_form_that_made_the_losses_is_best_and_the_others_are_worse(form: str) -> None:
    ranked = rank_forms(table_of(MAKERS[form]), "prose", 500)
    code = ranked[ranked["corpus"] == "code"].set_index("form")
    assert code.loc[form, "verdict"] == "best"
    assert code.loc[form, "rms_nats"] < 1e-6
    others = code.drop(index=form)
    assert set(others["verdict"]) == {"worse"}
    assert (others["rms_nats"] > 1e-3).all()
    assert set(code["ratios"]) == {6}


def test_the_general_loss_is_read_in_its_own_share() -> None:
    ranked = rank_forms(table_of(MAKERS["ratio-inverse"]), "prose", 500)
    prose = ranked[ranked["corpus"] == "prose"].set_index("form")
    assert prose.loc["ratio-inverse", "verdict"] == "best"
    assert prose.loc["ratio-inverse", "rms_nats"] < 1e-6


def test_five_ratios_call_nothing_worse_and_four_are_not_ranked() -> None:
    five = rank_forms(table_of(MAKERS["cmr-ratio"], ratios=RATIOS[1:6]), "prose", 500)
    assert set(five["verdict"]) == {"best", "tie"}
    four = rank_forms(table_of(MAKERS["cmr-ratio"], ratios=RATIOS[1:5]), "prose", 500)
    assert four["rank"].isna().all()
    assert set(four["why"]) == {"4 ratios; ranked from 5 on"}


def test_a_unit_without_a_ratio_takes_no_part() -> None:
    table = table_of(MAKERS["cmr-ratio"])
    ill = (table["unit"] == 2) & (table["ratio"] == 1 / 4)
    broken = table.assign(loss_nats=table["loss_nats"].where(table["unit"] != 2, 9.0))[~ill]
    ranked = rank_forms(broken, "prose", 500)
    best = ranked[(ranked["corpus"] == "code") & (ranked["rank"] == 1)]
    assert list(best["form"]) == ["cmr-ratio"]
    assert (best["rms_nats"] < 1e-6).all()


def test_each_unit_predicts_the_ratio_left_out() -> None:
    table = table_of(MAKERS["cmr-ratio"])
    off = (table["unit"] == 1) & (table["ratio"] == 1 / 4)
    table.loc[off, "loss_nats"] += 0.03
    errors = held_out_errors(table, "code", 1000, 500, 0.26)
    assert errors == pytest.approx({0: 0.0, 1: -0.03, 2: 0.0}, abs=1e-6)
