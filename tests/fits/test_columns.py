"""A law's variables by arithmetic on columns: parsed, never evaluated."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fits
from fits import Refused
from fits.columns import computed, with_columns

FRAME = pd.DataFrame(
    {
        "step": [1, 2],
        "val/loss": [3.0, 2.0],
        "val": [10.0, 20.0],
        "loss": [2.0, 4.0],
        "train loss": [5.0, 6.0],
        "n-embd": [7.0, 8.0],
        "n": [1.0, 1.0],
        "embd": [0.5, 0.5],
        "size": ["70", "x"],
        "1e3": [0.0, 0.0],
    }
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("step*524288", [524288.0, 1048576.0]),
        ("step * 16 * 1_024", [16384.0, 32768.0]),
        ("step*1e3", [1000.0, 2000.0]),  # a number, although a column is called so
        (".5*step", [0.5, 1.0]),
        ("val/loss*2", [6.0, 4.0]),  # the longest name
        ("val / loss", [5.0, 5.0]),
        ("n-embd+1", [8.0, 9.0]),
        ("n - embd", [0.5, 0.5]),
        ("train loss/2", [2.5, 3.0]),
        ("val-loss*step", [8.0, 12.0]),
        ("val/loss/step-1", [2.0, 0.0]),
        ("2*3", [6.0, 6.0]),
    ],
)
def test_arithmetic_means_what_it_says(text: str, values: list[float]) -> None:
    assert computed(text, FRAME).tolist() == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step*", "ends where a column or a number must follow"),
        ("step**2", "'' is neither a number nor a column"),
        ("step*(2+1)", "'(2' is neither a number nor a column"),
        ("step 2", "'step 2' is neither"),
        ("stp*2", "did you mean 'step'?"),
        ("step*2 loss", "'loss' follows where one of * / + - must"),
        ("__import__('os').system('x')*2", "is neither a number nor a column"),
        ("step/0", "a division by 0"),
        ("step*2x", "'2x' is neither"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(Refused) as no:
        computed(text, FRAME)
    assert said in str(no.value)
    assert "\n" not in str(no.value)


numbers = st.floats(0.5, 8).map(lambda value: f"{value:.3f}")
names = st.sampled_from(["step", "val", "loss"])


@given(st.lists(st.tuples(st.sampled_from("*/+-"), numbers | names), min_size=1, max_size=6), names)
@settings(deadline=None, database=None, max_examples=80)
def test_precedence_is_pythons(parts: list[tuple[str, str]], first: str) -> None:
    text = first + "".join(f" {sign} {one}" for sign, one in parts)
    row: dict[str, Any] = {name: float(FRAME[name].iloc[1]) for name in ("step", "val", "loss")}
    expected = eval(text, {"__builtins__": {}}, row)  # noqa: S307  # a text made above
    assert computed(text, FRAME).iloc[1] == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_mapped_names_stand_for_their_columns_in_conditions() -> None:
    mapped = with_columns(FRAME, {"n_tokens": "step*10", "loss_nats": "val/loss", "loss": "val"})
    assert mapped["n_tokens"].tolist() == mapped["step*10"].tolist() == [10.0, 20.0]
    assert mapped["loss_nats"].tolist() == [3.0, 2.0]
    assert mapped["loss"].tolist() == [2.0, 4.0]  # the table's own column keeps its name
    assert with_columns(FRAME, {"n_tokens": "step"})["n_tokens"].tolist() == [1, 2]
    assert with_columns(FRAME, None) is FRAME
    assert with_columns(FRAME, {"x": "nothing"}) is FRAME  # refused by who needs it


def table() -> pd.DataFrame:
    """Chinchilla's law exactly, in columns as a trainer has them."""
    law = fits.law("chinchilla")
    n, d = (axis.ravel() for axis in np.meshgrid([1e7, 1e8, 1e9], [1e8, 1e9, 1e10, 1e11]))
    loss = law.predict(law.published["2404.10102"], {"n_params": n, "n_tokens": d})
    columns = {"size (M)": n / 1e6, "_step": d / 524288, "val/bits": loss / np.log(2)}
    return pd.DataFrame(columns)


COLUMNS = {
    "n_params": "size (M)*1e6",
    "n_tokens": "_step*524288",
    "loss_nats": "val/bits*0.6931471805599453",
}


def test_a_fit_through_arithmetic_is_the_fit_of_the_columns() -> None:
    raw = table()
    plain = raw.assign(**{name: computed(text, raw) for name, text in COLUMNS.items()})
    told: dict[str, Any] = {"interval": "none", "holdout": "n_params > 5e8 and n_tokens > 5e10"}
    mapped = fits.fit("chinchilla", raw, columns=COLUMNS, **told)
    direct = fits.fit("chinchilla", plain, **told)
    assert mapped.params == direct.params
    assert mapped.params["E"] == pytest.approx(1.8172, rel=1e-3)
    assert len(mapped.held_out) == 1
    again = mapped.predict(raw, columns=COLUMNS)
    assert again["predicted"].to_numpy() == pytest.approx(plain["loss_nats"].to_numpy(), rel=1e-6)
    assert fits.compare(
        ["chinchilla", "power-mean"], raw, columns=COLUMNS, by="n_params"
    ).best.law.name in ("chinchilla", "power-mean")
    rolled = fits.hold_out("chinchilla", raw, columns=COLUMNS, rolling="n_tokens")
    assert rolled.how.endswith("cuts of n_tokens")


def test_a_frontier_reads_arithmetic_too() -> None:
    law = fits.law("chinchilla")
    rows = [(c, n, c / (6 * n)) for c in (1e19, 1e20, 1e21) for n in np.geomspace(2e7, 2e10, 25)]
    raw = pd.DataFrame(rows, columns=["C", "n", "d"])
    raw["loss"] = law.predict(
        law.published["2404.10102"], {"n_params": raw["n"], "n_tokens": raw["d"]}
    )
    raw["n (M)"] = raw["n"] / 1e6
    columns = {"n_params": "n (M)*1e6", "budget_flop": "C", "loss_nats": "loss"}
    found = fits.isoflop(raw.drop(columns=["n", "d"]), "akima", columns)
    assert found.exponent() == pytest.approx(0.5139, abs=1e-3)
