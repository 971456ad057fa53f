"""A fit in words and in LaTeX."""

import re

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Refused, fit, fit_shared
from fits.summary import latex

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def table() -> pd.DataFrame:
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(RATIOS))
    return pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise})


def sizes() -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 5)))
    y = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
    y = y * np.exp(0.01 * np.random.default_rng(0).normal(size=25))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": y})


def test_the_checklist_is_all_there() -> None:
    text = fit("cmr-ratio", table(), where="ratio_domain < 0.8", name="a name").summary()
    for word in ("form", "data", "objective", "optimiser", "status", "level"):
        assert re.search(rf"^  {word}\s+\S", text, re.M), word
    assert "5 points; left out: 1 rows that are not ratio_domain < 0.8" in text
    assert "arXiv 2407.17467" in text
    assert "5 of 5 starts agree within 1e-06" in text


@pytest.mark.parametrize(("level", "said"), [(0.95, "95%"), (0.999, "99.9%"), (0.5, "50%")])
def test_the_level_is_said_to_its_last_digit(level: float, said: str) -> None:
    found = fit("cmr-ratio", table(), level=level)
    assert f"level     {said}\n" in found.summary()
    assert f"; {said} intervals" in found.to_latex()


def test_the_optimiser_is_the_one_that_was_used() -> None:
    text = fit("cmr-ratio", table(), objective="absolute").summary()
    assert "then linear programs" in text
    assert "agree within 0.001" in text


def test_pinned_and_tied_parameters_say_so() -> None:
    found = fit("chinchilla", sizes(), tie={"beta": "alpha"}, pin={"E": 1.8})
    assert re.search(r"^  E +1\.8  pinned$", found.summary(), re.M)
    assert re.search(r"^  beta +\S+  tied to alpha$", found.summary(), re.M)
    assert found.interval("beta") == found.interval("alpha")


def test_a_parameter_tied_to_a_pinned_one_has_no_interval_and_is_saved() -> None:
    found = fit("chinchilla", sizes(), tie={"beta": "alpha"}, pin={"alpha": 0.35})
    with pytest.raises(Refused, match="beta is tied to alpha, which is pinned"):
        found.interval("beta")
    again = Fit.from_json(found.to_json())
    assert (again.tied, again.pinned) == (found.tied, found.pinned)
    assert again.summary() == found.summary()
    assert again.to_latex() == found.to_latex()


def test_latex_has_a_column_a_parameter_and_a_row_a_fit() -> None:
    group = {"corpus": "50%_{a}&b"}
    text = latex([fit("cmr-ratio", table(), group=group), fit("cmr-ratio", table())])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert r"50\%\_\{a\}\&b" in text
    assert r"$\alpha$ & $s$ & $\beta$" in text


def test_open_intervals_are_infinite_in_latex() -> None:
    noise = 0.03 * np.random.default_rng(0).normal(size=len(RATIOS))
    found = fit("cmr-ratio", table().assign(loss_nats=1.9 - 0.4 * RATIOS**0.3 + noise))
    assert r"$\infty$" in found.to_latex()
    assert "inf" not in found.to_latex().replace(r"\infty", "")


def test_symbols_are_mathematics() -> None:
    one = table().assign(corpus="a_b")
    both = pd.concat([one, one.assign(corpus="code")])
    text = fit_shared("cmr-ratio", both, "corpus", ["s"]).to_latex()
    assert r"$\alpha\,[\mathrm{a\_b}]$" in text
