"""A sweep read by hand: changes from the branch point, readings, laws, and their figures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from fits import Refused
from fits.continual import (
    changes,
    critical_laws,
    growth,
    pooled_sd,
    ratio_laws,
    readings,
    seed_noise,
    token_laws,
)
from fits.figures import continual_figures

RATIOS = (0.0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
HORIZONS = (100, 200, 300, 400, 500, 600)
BEFORE = {"prose": 2.0, "code": 3.0}


def change_of(corpus: str, ratio: float, tokens: int, shift: float) -> float:
    """General loss crosses 0 at R = 1/5 + tokens / 2000 - shift; domain loss falls as R^.3."""
    if corpus == "prose":
        return ratio - 0.2 - tokens / 2000 + shift
    return -(ratio**0.3) * (1 + tokens / 1000) + shift


def run_rows(
    trunk: str, ratio: float, shift: float = 0.0, size: int = 1000, status: str = "done"
) -> list[dict[str, object]]:
    """What one run contributes to a table of results: its trunk's rows and its own."""
    head = {"n_params": size, "trunk": trunk, "cpt_ratio": ratio, "status": status}
    rows: list[dict[str, object]] = []
    for corpus, before in BEFORE.items():
        for step, loss in ((10, 9.0), (20, before + shift)):
            place = {"phase": "pretrain", "step": step, "tokens_in_phase": 10 * step}
            rows.append({**head, **place, "corpus": corpus, "loss_nats": loss})
        for tokens in HORIZONS:
            place = {"phase": "cpt", "step": 20 + tokens // 10, "tokens_in_phase": tokens}
            loss = before + shift + change_of(corpus, ratio, tokens, shift)
            rows.append({**head, **place, "corpus": corpus, "loss_nats": loss})
    return rows


def results(shifts: Mapping[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            row
            for trunk, shift in shifts.items()
            for r in RATIOS
            for row in run_rows(trunk, r, shift)
        ]
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return changes(results({"a": -0.01, "b": 0.0, "c": 0.01}), "cpt", "cpt_ratio")


def one_row(frame: pd.DataFrame, **values: object) -> pd.Series:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_change_is_counted_from_the_last_loss_of_its_own_trunk(table: pd.DataFrame) -> None:
    assert len(table) == 3 * len(RATIOS) * len(HORIZONS) * len(BEFORE)
    row = one_row(table, unit="a", ratio=0.5, corpus="prose", tokens=200)
    assert row["loss_before"] == pytest.approx(1.99)
    assert row["change"] == pytest.approx(0.5 - 0.2 - 0.1 - 0.01)
    assert row["loss_nats"] == pytest.approx(row["loss_before"] + row["change"])


def test_the_control_is_the_run_without_domain_text_off_the_same_trunk(
    table: pd.DataFrame,
) -> None:
    row = one_row(table, unit="c", ratio=0.5, corpus="prose", tokens=200)
    assert row["against_control"] == pytest.approx(0.5)
    assert (table[table["ratio"] == 0]["against_control"] == 0).all()
    bare = results({"a": 0.0})
    without = changes(bare[bare["cpt_ratio"] > 0], "cpt", "cpt_ratio")
    assert without["against_control"].isna().all()
    assert without["change"].notna().all()


def test_a_trunks_name_may_be_used_again_at_another_size() -> None:
    rows = [row for r in RATIOS for row in run_rows("0", r, 0.0, 1000)]
    rows += [row for r in RATIOS for row in run_rows("0", r, 0.5, 2000)]
    both = changes(pd.DataFrame(rows), "cpt", "cpt_ratio")
    assert len(both) == 2 * len(RATIOS) * len(HORIZONS) * len(BEFORE)
    row = one_row(both, n_params=2000, ratio=0.5, corpus="prose", tokens=200)
    assert row["loss_before"] == pytest.approx(2.5)
    assert row["against_control"] == pytest.approx(0.5)


def test_what_follows_the_phase_is_not_what_stood_before_it() -> None:
    runs = pd.DataFrame(run_rows("a", 0.5))
    after = runs[runs["phase"] == "pretrain"].assign(phase="cooldown", loss_nats=0.1)
    after["step"] += 1000
    both = changes(pd.concat([runs, after], ignore_index=True), "cpt", "cpt_ratio")
    pd.testing.assert_frame_equal(both, changes(runs, "cpt", "cpt_ratio"))


def test_runs_that_diverged_take_no_part_and_their_seed_is_left_out() -> None:
    good = results({"a": -0.01, "b": 0.01})
    ill = [
        row
        for r in RATIOS
        for row in run_rows("c", r, 5.0, status="diverged" if r == 0.75 else "done")
    ]
    with_ill = changes(pd.concat([good, pd.DataFrame(ill)]), "cpt", "cpt_ratio")
    of_c = with_ill[with_ill["unit"] == "c"]
    assert 0.75 not in set(of_c["ratio"])
    assert 0.5 in set(of_c["ratio"])
    without = changes(good, "cpt", "cpt_ratio")
    pd.testing.assert_frame_equal(
        readings(with_ill, "prose", [200], [0.0]).drop(columns="control_change"),
        readings(without, "prose", [200], [0.0]).drop(columns="control_change"),
    )
    for ours, theirs in zip(
        ratio_laws(with_ill, 600, 1 / 3), ratio_laws(without, 600, 1 / 3), strict=True
    ):
        assert ours.params == theirs.params
        assert len(ours.unit_params) == 2


def test_a_table_without_columns_or_without_the_phase_is_refused() -> None:
    rows = results({"a": 0.0})
    with pytest.raises(Refused, match="lacks cpt_ratio, trunk"):
        changes(rows.drop(columns=["trunk", "cpt_ratio"]), "cpt", "cpt_ratio")
    with pytest.raises(Refused, match="no finished run with a phase 'rewarm'"):
        changes(rows, "rewarm", "cpt_ratio")
    with pytest.raises(Refused, match="no finished run"):
        changes(rows.assign(status="diverged"), "cpt", "cpt_ratio")


def test_readings_name_value_interval_censoring_and_control(table: pd.DataFrame) -> None:
    read = readings(table, "prose", [*HORIZONS, 999], [0.0, 0.05, 0.9])
    assert len(read) == 3 * len(HORIZONS)  # a horizon that was not reached is left out
    row = one_row(read, horizon_tokens=400, eps=0.05)
    assert row["critical_ratio"] == pytest.approx(0.45)
    assert row["reading"] == "0.450"
    assert row["censored"] == ""
    assert row["seeds"] == 3
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((0.45 - half, 0.45 + half), abs=1e-3)
    assert row["turning_point"] == "not binding"
    assert row["control_change"] == pytest.approx(-0.4)
    beyond = one_row(read, horizon_tokens=400, eps=0.9)
    assert (beyond["reading"], beyond["interval"], beyond["censored"]) == ("> 3/4", "> 3/4", ">")
    assert np.isnan(beyond["critical_ratio"])


def test_seed_noise_is_the_spread_over_trunks(table: pd.DataFrame) -> None:
    noise = seed_noise(table, 300)
    row = one_row(noise, corpus="code", ratio=0.25)
    assert row["sd_over_seeds"] == pytest.approx(0.01)
    assert row["seeds"] == 3
    assert row["change_nats"] == pytest.approx(change_of("code", 0.25, 300, 0.0))
    assert pooled_sd(noise, "prose") == pytest.approx(0.01)
    assert np.isnan(pooled_sd(seed_noise(table[table["unit"] == "a"], 300), "prose"))


def test_growth_is_paired_over_seeds(table: pd.DataFrame) -> None:
    one = growth(table, "prose", HORIZONS, 0.0)
    assert one is not None
    assert (one.first_tokens, one.last_tokens, one.units) == (100, 600, 3)
    # every seed's ratio grows by 500 / 2000, however far apart the seeds are
    assert (one.low, one.high) == pytest.approx((0.25, 0.25), abs=1e-6)
    assert growth(table[table["unit"] == "a"], "prose", HORIZONS, 0.0) is None
    assert growth(table, "prose", HORIZONS[:1], 0.0) is None
    assert growth(table, "prose", HORIZONS, 0.9) is None


def test_the_ratio_law_is_fitted_to_the_mean_with_t_over_seeds(table: pd.DataFrame) -> None:
    fits = {one.group["corpus"]: one for one in ratio_laws(table, 600, 0.3)}
    assert set(fits) == set(BEFORE)
    code = fits["code"]
    assert code.group == {"n_params": 1000, "corpus": "code", "cpt_tokens": 600}
    assert code.params == pytest.approx({"alpha": -1.6, "s": 0.3, "beta": 3.0}, rel=1e-6)
    assert sorted(code.x["ratio_domain"]) == [1 / 8, 1 / 4, 1 / 2, 3 / 4]  # neither 0 nor 1
    (row,) = code.held_out
    assert row.variables == {"ratio_domain": 1 / 3}  # the nearest to .3
    assert row.relative_error == pytest.approx(0.0, abs=1e-9)
    assert len(code.unit_params) == 3
    # trunks differ by a shift of the loss (twice: before, and change): it shows in beta alone
    beta, s = code.intervals["beta"], code.intervals["s"]
    half = 4.302653 * 0.02 / np.sqrt(3)
    assert (beta.low, beta.high) == pytest.approx((3.0 - half, 3.0 + half), rel=1e-5)
    assert (s.low, s.high) == pytest.approx((0.3, 0.3), rel=1e-4)
    assert (row.low, row.high) == pytest.approx((row.predicted - half, row.predicted + half))
    assert beta.method == "t over 3 units"


def test_one_seed_has_a_profile_and_the_note_that_it_is_no_seed_noise(table: pd.DataFrame) -> None:
    for one in ratio_laws(table[table["unit"] == "b"], 600, 1 / 3):
        assert one.unit_params == ()
        assert {i.method for i in one.intervals.values()} <= {"profile", "none"}
        assert any("not that of seeds" in note for note in one.notes)


def test_too_few_ratios_are_not_fitted(table: pd.DataFrame) -> None:
    few = table[table["ratio"].isin([0, 1 / 8, 1 / 4, 1 / 2, 1])]
    assert ratio_laws(few, 600, 1 / 4) == []


def test_token_laws_leave_out_the_rewarm(table: pd.DataFrame) -> None:
    fits = token_laws(table, "prose", "code", after=0)
    assert {(one.law_name, one.group["ratio_domain"]) for one in fits} == {
        (name, ratio)
        for name in ("cmr-domain-tokens", "cmr-general-tokens")
        for ratio in RATIOS[1:-1]
    }
    later = token_laws(table, "prose", "code", after=100)
    assert all(one.x["cpt_tokens"].min() == 200 for one in later)
    linear = next(one for one in fits if one.law_name == "cmr-domain-tokens")
    assert linear.params["s1"] == pytest.approx(1.0, rel=1e-6)


def test_seeds_along_a_flat_valley_give_no_interval(table: pd.DataFrame) -> None:
    general = [
        one
        for one in token_laws(table, "prose", "code", after=0)
        if one.law_name == "cmr-general-tokens"  # two terms, on a straight line
    ]
    assert len(general) == 5
    for one in general:
        assert all((i.low, i.high) == (None, None) for i in one.intervals.values())
        assert any("not identified" in i.note for i in one.intervals.values())


def test_the_law_of_the_critical_ratio_needs_five_uncensored_horizons(
    table: pd.DataFrame,
) -> None:
    read = readings(table, "prose", HORIZONS, [0.0, 0.38])
    fits, without = critical_laws(read)
    (one,) = fits
    assert one.group == {"n_params": 1000, "eps": 0.0}
    assert one.params["s4"] == pytest.approx(1.0, rel=1e-5)
    assert one.params["b3"] == pytest.approx(0.2, rel=1e-5)
    assert any("share their runs" in note for note in one.notes)
    assert without == [
        "R_CMR(T) at 1,000 parameters, eps 0.38: 3 uncensored horizons, "
        "fitted only through 5 or more"
    ]


def test_the_figures_draw_and_hold_what_they_show(table: pd.DataFrame) -> None:
    read = readings(table, "prose", HORIZONS, [0.0, 0.3])
    laws = ratio_laws(table, 600, 1 / 3)
    critical, _ = critical_laws(read)
    figures = [
        continual_figures.general_loss_figure(table, "prose", [0.0, 0.05]),
        continual_figures.ratio_figure(laws, table, "prose", "code"),
        continual_figures.critical_figure(read, RATIOS, critical),
    ]
    for one in figures:
        assert one.render("png").startswith(b"\x89PNG")
        assert one.caption
        assert len(one.data)
    assert set(figures[0].data["change"]) <= set(table["change"])
    assert set(figures[1].data["tokens"]) == {600}
    pd.testing.assert_frame_equal(figures[2].data, read)


def test_hostile_names_of_corpora_are_drawn_as_they_stand(table: pd.DataFrame) -> None:
    names = {"prose": "$x^$", "code": "<script>\\frac{"}
    renamed = table.assign(corpus=table["corpus"].map(names))
    laws = ratio_laws(renamed, 600, 1 / 3)
    figure = continual_figures.ratio_figure(laws, renamed, names["prose"], names["code"])
    assert figure.render("svg").startswith(b"<?xml")
