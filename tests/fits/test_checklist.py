"""The checklist: what fits know is read off them, and nothing is made up."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fits import Fit, fit
from fits.checklist import COLLECTION, NO_LAW, NOT_KNOWN, TRAINING, Item, checklist

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


@pytest.fixture(scope="module")
def one() -> Fit:
    loss = 1.9 - 0.4 * RATIOS**0.3 + 1e-3 * np.random.default_rng(0).normal(size=6)
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": loss})
    return fit("cmr-ratio", table, holdout="ratio_domain == 1/3", pin={"beta": 1.9})


def answers(items: list[Item]) -> dict[str, str]:
    return {item.question: " | ".join(item.answer) for item in items}


def test_what_a_fit_knows(one: Fit) -> None:
    said = answers(checklist([one], {}))
    assert one.law.formula in said["What is the form?"]
    assert "loss_nats (nats/token) in ratio_domain (1)" in " ".join(said.values())
    assert said["Which parameters are fitted?"] == "cmr-ratio: alpha, s; pinned: beta = 1.9"
    assert said["Which objective?"].startswith("cmr-ratio: squares, summed over points")
    assert f"{one.starts} starts" in said["How is it initialised?"]
    assert f"at worst {one.agree} of {one.starts}" in said["How is it initialised?"]
    assert said["Were all points used?"] == (
        "cmr-ratio: 5 points a fit, 1 row held out; none left out"
    )
    (checked,) = (text for key, text in said.items() if key.startswith("How is the fit checked"))
    assert f"worst error of a held-out row {100 * one.max_relative_error:.2g} %" in checked  # type: ignore[operator]
    assert "95 %, profile" in said["How are intervals found?"]


def test_several_fits_of_a_law_are_one_line_with_their_range(one: Fit) -> None:
    other = replace(one, starts=9, agree=1, exclusions=("2 rows: diverged",), held_out=())
    said = answers(checklist([one, other], {}))
    assert said["What is the form?"].count("(2 fits)") == 1
    assert "at worst 1 of 9" in said["How is it initialised?"]
    assert "left out: 2 rows: diverged" in said["Were all points used?"]
    assert "1 few starts agree" in " ".join(said.values())


def test_questions_that_nobody_answered_say_so(one: Fit) -> None:
    told = {"models": "3 models", "metric": ""}
    items = {item.question: item for item in checklist([one], told)}
    assert items[TRAINING["models"]].answer == ("3 models",)
    for key in {*TRAINING, *COLLECTION} - {"models"}:
        item = items[{**TRAINING, **COLLECTION}[key]]
        assert item.answer == (NOT_KNOWN,)
        assert not item.known


def test_without_a_law_the_headings_of_laws_say_so() -> None:
    items = checklist([], {})
    assert len(items) == len(TRAINING) + len(COLLECTION) + 2
    assert {item.answer for item in items if item.known} == {(NO_LAW,)}
