"""A law in a file of one's own: run where it is named, tried once, a slip said in a line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fits
from fits import Refused

LAW = """
import numpy as np
from fits.form import Law, Parameter, Variable

LAW = Law(
    name="mine",
    title="A power law",
    formula="L = E + A / N^a",
    response=Variable("loss_nats", "nats/token", "loss"),
    variables=(Variable("n_params", "parameters", "size"),),
    parameters=(
        Parameter("E", "least", 0.0),
        Parameter("A", "coefficient", 0.0),
        Parameter("a", "exponent", 0.01, 3.0, (0.2, 0.5)),
    ),
    source="a test",
    predict=lambda p, x: p["E"] + p["A"] * x["n_params"] ** -p["a"],
    linear=("E", "A"),
)
"""
TRUTH = {"E": 1.5, "A": 300.0, "a": 0.3}


@pytest.fixture
def table() -> pd.DataFrame:
    n = np.geomspace(1e6, 1e9, 8)
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["a"]
    return pd.DataFrame({"n_params": n, "loss_nats": loss})


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def test_a_law_is_named_by_its_file(tmp_path: Path, table: pd.DataFrame) -> None:
    path = written(tmp_path, LAW)
    found = fits.fit(path, table)
    assert found.params == pytest.approx(TRUTH, rel=1e-4)
    assert found.law_name == "mine"
    again = fits.Fit.from_json(found.to_json(), [fits.law(path)])
    assert again.params == found.params
    with pytest.raises(Refused, match=r"unknown law 'mine': .*--law FILE\.py"):
        fits.Fit.from_json(found.to_json())


def test_a_saved_fit_never_runs_a_file(tmp_path: Path, table: pd.DataFrame) -> None:
    marker = tmp_path / "it-ran"
    path = written(tmp_path, LAW)
    text = fits.fit(path, table).to_json()
    written(tmp_path, f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{LAW}")
    with pytest.raises(Refused, match="unknown law"):
        fits.Fit.from_json(text.replace('"law": "mine"', f'"law": "{path}"'))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("LAW = Law(", "law = Law(", "defines no LAW"),
        ("import numpy", "import numppy", "mine.py, line 2: ModuleNotFoundError"),
        ('x["n_params"]', 'x["n"]', "predict fails, KeyError: 'n'; it must be operators"),
        ("** -p", "** -np.sin(p", "SyntaxError"),
        ('** -p["a"]', '** -np.arctan(p["a"])', "predict fails, TypeError"),
        ('name="mine"', 'name="chinchilla"', "chinchilla is a law of the library"),
        ('linear=("E", "A")', 'linear=("E", "B")', "linear names 'B', which is no parameter"),
        ('linear=("E", "A")', 'linear=("E",)', "parameter A needs starts"),
        ('p["E"] + p', 'p["E"] ** 2 + p', "E, A: not linear"),
        ('p["E"] + p', '1.0 + p["E"] + p', "E, A: not linear"),
        ('** -p["a"]', '** -p["a"] * np.ones(3)', "predict fails, ValueError"),
        ('p["E"] + p', 'np.ones((4, 1)) * p["E"] + p', "an array of shape (4, 2)"),
    ],
)
def test_a_slip_is_said_in_a_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in LAW
    with pytest.raises(Refused) as no:
        fits.law(written(tmp_path, LAW.replace(old, new)))
    assert said in str(no.value)
    assert "mine.py" in str(no.value)
    assert "\n" not in str(no.value)


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused, match=r"no file nowhere\.py"):
        fits.law("nowhere.py")
