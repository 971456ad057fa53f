"""A fit as a value: JSON there and back, tampering refused, predictions with intervals."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Fit, Refused, fit, load_fits, save_fits
from fits.errors import Failed
from fits.result import HeldOut
from fits.saved import SCHEMA, from_dict, to_dict

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def ratio_table(seed: int = 0) -> pd.DataFrame:
    noise = 1e-3 * np.random.default_rng(seed).normal(size=len(RATIOS))
    return pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise})


@pytest.fixture(scope="module")
def profiled() -> Fit:
    group = {"n_params": np.int64(1000), "corpus": "code"}
    table = ratio_table()
    return fit("cmr-ratio", table, holdout="ratio_domain == 1/3", group=group, name="a name")


@pytest.fixture(scope="module")
def drawn() -> Fit:
    return fit("cmr-ratio", ratio_table(), interval="bootstrap", draws=30, pin={"beta": 1.9})


def same(one: Fit, other: Fit) -> bool:
    return to_dict(one) == to_dict(other) and one.pinned == other.pinned


def test_fits_are_read_back_as_they_were_written(profiled: Fit, drawn: Fit, tmp_path: Path) -> None:
    units = replace(profiled, unit_params=(profiled.params, profiled.params), notes=("<a>",))
    save_fits([profiled, drawn, units], tmp_path / "fit.json")
    again = load_fits(tmp_path / "fit.json")
    assert all(same(*pair) for pair in zip(again, [profiled, drawn, units], strict=True))
    for one, other in zip(again, [profiled, drawn, units], strict=True):
        pd.testing.assert_frame_equal(one.predict(ratio_table()), other.predict(ratio_table()))
        assert one.summary() == other.summary()
    save_fits(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "fit.json").read_bytes()


def test_json_holds_no_infinity_where_a_side_is_open(tmp_path: Path) -> None:
    table = pd.DataFrame({"cpt_tokens": np.geomspace(1e9, 2e10, 5), "change_nats": 0.1})
    table["change_nats"] += [0.0, 0.01, -0.01, 0.01, 0.0]
    table.loc[4, "change_nats"] = 0.0  # a held-out change of 0 has no relative error
    open_sided = fit("cmr-domain-tokens", table, holdout="change_nats == 0")
    assert any(one.low is None or one.high is None for one in open_sided.intervals.values())
    assert open_sided.held_out[0].relative_error == np.inf
    save_fits([open_sided], tmp_path / "fit.json")

    def never(name: str) -> Any:
        raise AssertionError(f"{name} in JSON")

    tree = json.loads((tmp_path / "fit.json").read_text(), parse_constant=never)
    assert tree["fits"][0]["holdout"]["max_relative_error"] is None
    assert same(load_fits(tmp_path / "fit.json")[0], open_sided)


def test_what_is_not_a_number_is_not_written(profiled: Fit, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_fits([replace(profiled, objective_value=float("nan"))], tmp_path / "fit.json")
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_keys_that_scripts_lean_on(profiled: Fit) -> None:
    tree = to_dict(profiled)
    assert {"law", "params", "objective", "starts", "agree", "holdout"} <= set(tree)
    assert set(tree["params"]) == {"alpha", "s", "beta"}
    assert {"value", "low", "high"} <= set(tree["params"]["s"])
    assert {"rows", "max_relative_error"} == set(tree["holdout"])
    assert tree["group"] == {"n_params": 1000, "corpus": "code"}


def drop(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda tree: tree.pop(key)


def put(*path: Any) -> Callable[[dict[str, Any]], Any]:
    *places, last, value = path

    def change(tree: Any) -> None:
        for place in places:
            tree = tree[place]
        tree[last] = value

    return change


TAMPERED = [
    *(drop(key) for key in ("law", "params", "objective", "level", "data", "draws", "notes")),
    put("law", "chinchila"),
    put("law", None),
    put("params", []),
    put("params", "s", "value", "three"),
    put("params", "s", "value", float("nan")),
    put("params", "s", "value", 10**400),
    put("params", "s", "low", float("-inf")),
    put("params", "extra", {"value": 1, "low": 0, "high": 2, "method": "profile", "note": ""}),
    put("objective", "name", "cubes"),
    put("objective", "value", None),
    put("level", 95),
    put("starts", "many"),
    put("group", 3),
    put("data", "response", [1.0]),
    put("data", "response", "abc"),
    put("data", "variables", {}),
    put("data", "variables", "ratio_domain", [[1.0]] * 6),
    put("holdout", "rows", [{"observed": 1}]),
    put("draws", [{"s": 1.0}]),
    put("draws", [{"alpha": 1.0, "s": "x", "beta": 1.0}]),
    put("unit_params", [3]),
    put("units", 1),
    put("units", "many"),
    put("notes", 3),
    put("notes", "abc"),
    put("exclusions", [3]),
    put("params", "s", "tied", "s"),
    put("params", "s", "tied", "gamma"),
    put("params", "beta", "tied", "s"),
    put("params", "s", "low", 2.0),
    put("bounds", {"s": [2.0, 1.0]}),
    put("bounds", {"gamma": [1.0, 2.0]}),
    put("group", {"n_params": [1, 2]}),
    put("unit_params", [{"alpha": 1.0, "s": 1.0, "beta": 1.0}]),
    put("data", "response", [-1.0] * 6),
    put("data", "response", [None] * 6),
    put("data", "variables", "ratio_domain", [0.0] * 6),
    put("data", {"variables": {"ratio_domain": []}, "response": []}),
    put("shared", {"per": "n_params", "groups": [1, 2], "parameters": ["s"]}),
    put("shared", []),
]


@pytest.mark.parametrize("tamper", TAMPERED)
def test_a_tampered_fit_is_refused_in_one_line(
    tamper: Callable[[dict[str, Any]], Any], drawn: Fit, tmp_path: Path
) -> None:
    tree = copy.deepcopy(to_dict(drawn))
    from_dict(tree)
    tamper(tree)
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({"schema": SCHEMA, "fits": [tree]}))
    with pytest.raises(Refused) as no:
        load_fits(path)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"fits"',
        '{"schema": 1, "fits": []}',
        '{"schema": 2}',
        '{"schema": 2, "fits": 3}',
        '{"schema": 2, "fits": ["x"]}',
        '{"schema": 2, "fits": [[]]}',
        "[" * 100_000,
        "\x80\x04\x95.",
    ],
)
def test_what_is_no_file_of_fits_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused) as no:
        load_fits(tmp_path / "fit.json")
    assert "\n" not in str(no.value)


def test_a_missing_file_is_refused_and_a_folder_in_the_way_is_a_failure(
    profiled: Fit, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="cannot read"):
        load_fits(tmp_path / "none.json")
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failed, match="cannot write"):
        save_fits([profiled], tmp_path / "file" / "fit.json")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_band_of_a_straight_line_is_the_textbook_one() -> None:
    table = ratio_table()
    one = fit("cmr-ratio", table, pin={"s": 1.0})
    at = np.array([0.2, 0.7])
    line = stats.linregress(RATIOS, table["loss_nats"])
    scatter = np.sqrt(np.sum((table["loss_nats"] - line.intercept - line.slope * RATIOS) ** 2) / 4)
    spread = 1 / 6 + (at - RATIOS.mean()) ** 2 / np.sum((RATIOS - RATIOS.mean()) ** 2)
    for band, new in (("curve", 0), ("new", 1)):
        middle, low, high = one.band({"ratio_domain": at}, band)
        half = stats.t.ppf(0.975, 4) * scatter * np.sqrt(spread + new)
        np.testing.assert_allclose(middle, line.intercept + line.slope * at, rtol=1e-10)
        np.testing.assert_allclose(high - middle, half, rtol=1e-6)
        np.testing.assert_allclose(middle - low, half, rtol=1e-6)


def test_band_over_units_is_t_over_their_curves_and_wider_for_one_more(profiled: Fit) -> None:
    units = tuple({**profiled.params, "beta": profiled.params["beta"] + d} for d in (0.0, 0.1, 0.2))
    one = replace(profiled, unit_params=units)
    x = {"ratio_domain": np.array([0.5])}
    for band, factor in (("curve", 1 / 3), ("new", 4 / 3)):
        middle, low, high = one.band(x, band)
        half = stats.t.ppf(0.975, 2) * 0.1 * np.sqrt(factor)
        assert (middle - low, high - middle) == (pytest.approx(half), pytest.approx(half))


def test_predictions_keep_the_rows_of_the_table(profiled: Fit, drawn: Fit) -> None:
    table = pd.DataFrame({"R": [0.2, 0.4]}, index=[7, 9])
    for one in (profiled, drawn):
        curve = one.predict(table, band="curve", columns={"ratio_domain": "R"})
        row = one.predict(table, columns={"ratio_domain": "R"})
        assert row.index.tolist() == [7, 9]
        assert (curve["predicted"] == row["predicted"]).all()
        assert (row["low"] < curve["low"]).all()
        assert (curve["low"] <= curve["predicted"]).all()
        assert (curve["predicted"] <= curve["high"]).all()
        assert (curve["high"] < row["high"]).all()
    with pytest.raises(Refused, match="needs ratio_domain: the table has no column"):
        profiled.predict(table)


def test_a_band_without_scatter_is_unbounded() -> None:
    one = fit("cmr-ratio", ratio_table().iloc[:3])
    row = one.predict(ratio_table())
    assert np.isneginf(row["low"]).all()
    assert np.isposinf(row["high"]).all()


def test_an_interval_is_asked_for_by_name(drawn: Fit) -> None:
    assert drawn.interval("s") == drawn.intervals["s"]
    with pytest.raises(Refused, match="beta is pinned"):
        drawn.interval("beta")
    with pytest.raises(Refused, match="no parameter 'gamma': alpha, s, beta"):
        drawn.interval("gamma")


def test_the_summary_says_how_it_was_fitted(profiled: Fit, drawn: Fit) -> None:
    text = profiled.summary()
    assert text.startswith("a name [n_params 1000, corpus code]   L = alpha R^s + beta")
    assert "data      5 points\n" in text
    assert "objective squares = " in text
    assert "5 of 5 starts agree" in text
    assert "held out ratio_domain 0.333333" in text
    assert "bootstrap of 30" in drawn.summary()
    assert "beta   1.9  pinned" in drawn.summary()


def test_relative_error_has_the_sign_of_what_was_predicted_too_much() -> None:
    assert HeldOut({}, -2.0, -1.0, None, None).relative_error == 0.5
    assert HeldOut({}, 2.0, 1.0, None, None).relative_error == -0.5
    assert HeldOut({}, 0.0, 0.0, None, None).relative_error == 0.0
