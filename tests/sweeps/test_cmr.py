"""The built-in study of the critical mixture ratio, planned at every scale and run at the least."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab.adopt import Told, adopt
from lab.errors import Refused
from sweeps.cli import main
from sweeps.continual_runs import RATIOS
from sweeps.plan import Plan, make_plan
from sweeps.run import open_corpora
from sweeps.studies import cmr
from sweeps.studies.cmr import STUDY
from sweeps.study import ask

SEEDS = {"smoke": 3, "tiny": 5, "small": 5, "paper": 4}


def plan_of(scale: str, *sets: str, axes: Any = ()) -> Plan:
    _, sweep = ask(STUDY, scale, sets, axes)
    return make_plan(sweep, open_corpora(sweep))


@pytest.mark.parametrize("scale", STUDY.scales)
def test_each_trunk_is_trained_once_and_every_ratio_branches_off_it(scale: str) -> None:
    plan = plan_of(scale)
    trunk, branch = (phase.tokens for phase in plan.runs[0].path.run.phases)
    roots = [segment for segment in plan.segments if segment.parent is None]
    assert len(roots) == SEEDS[scale]
    assert all(segment.tokens == trunk for segment in roots)
    assert len(plan.segments) == SEEDS[scale] * (1 + len(RATIOS))
    summary = plan.summary(2)
    assert summary["runs"] == SEEDS[scale] * len(RATIOS)
    assert summary["tokens_naive"] == SEEDS[scale] * len(RATIOS) * (trunk + branch)
    assert summary["tokens_shared"] == SEEDS[scale] * (trunk + len(RATIOS) * branch)


@pytest.mark.parametrize("scale", STUDY.scales)
def test_the_phases_are_what_the_paper_describes(scale: str) -> None:
    for run in plan_of(scale).runs:
        trunk, branch = run.path.run.phases
        assert [stage.shape for stage in trunk.schedule] == ["warm", "hold", "linear"]
        assert [stage.shape for stage in branch.schedule] == ["warm", "hold"]
        peak, rewarmed = trunk.schedule[0].to_lr, branch.schedule[0].to_lr
        assert peak is not None
        assert rewarmed is not None
        assert trunk.schedule[-1].to_lr < rewarmed < peak
        assert not branch.reset_optimizer


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_scales_beyond_the_built_in_corpora_are_planned_and_not_run(scale: str) -> None:
    plan = plan_of(scale)
    with pytest.raises(Refused, match=r"would be read [\d,.]+ times \(at most 4\)"):
        plan.refuse_repeats()


def test_the_sizes_of_the_paper_are_about_what_it_says() -> None:
    billions = [group["parameters"] / 1e9 for group in plan_of("paper").summary(2)["groups"]]
    assert billions == pytest.approx([0.46, 0.94, 1.6, 3.1], rel=0.02)


def test_what_the_design_cannot_identify_is_said_beforehand() -> None:
    def said(*sets: str, axes: Any = ()) -> str:
        settings, sweep = ask(STUDY, "tiny", sets, axes)
        return "; ".join(STUDY.cautions(settings, sweep))

    assert "arms w40, w64: one trunk seed" in said()
    assert "w24" not in said()
    assert "arms w24, w40, w64: 2 ratios in (0, 1)" in said(axes=["cpt.ratio=0,1/4,1/2"])
    assert "arms w24, w40, w64: no control at R = 0" in said(axes=["cpt.ratio=1/8,1/4,1/3,1/2"])
    assert "2 horizons: R_CMR(T)" in said("horizons=163840,327680")


@pytest.mark.parametrize(
    ("reading", "interval", "said"),
    [
        ("0.591", "< 1/8 .. > 3/4", "is not identified: its 95 % interval (< 1/8 .. > 3/4) is the"),
        ("0.591", "< 1/8 .. 0.7", "up to 0.591 domain text (95 % interval < 1/8 .. 0.7)"),
        ("> 3/4", "0.3 .. > 3/4", "up to > 3/4 domain text (95 % interval 0.3 .. > 3/4)"),
        ("0.591", "one seed: none", "up to 0.591 domain text (95 % interval one seed: none)"),
    ],
)
def test_an_interval_as_wide_as_the_grid_identifies_nothing(
    reading: str, interval: str, said: str
) -> None:
    row = {"n_params": 100, "horizon_tokens": 64, "eps": 0.0}
    table = pd.DataFrame([{**row, "reading": reading, "interval": interval}])
    assert said in cmr._headline(table, 0.0, None)


# Read ----------------------------------------------------------------------------------------


def test_smoke_reads_every_size_horizon_and_tolerance(smoke: Path) -> None:
    settings, sweep = ask(STUDY, "smoke")
    written = json.loads((smoke / "fit.json").read_text())
    critical = pd.DataFrame(written["readings"]["critical"])
    assert len(critical) == 2 * len(settings.horizons) * len(settings.eps)
    assert set(critical["horizon_tokens"]) == set(settings.horizons)
    of_size = critical.groupby("n_params")["seeds"].unique().map(list).tolist()
    assert of_size == [[2], [1]]
    assert set(critical[critical["seeds"] == 1]["interval"]) == {"one seed: none"}
    last = critical[critical["horizon_tokens"] == max(settings.horizons)]
    wide = last["interval"].str.startswith("<") & last["interval"].str.contains(">")
    said = {f"up to {reading} domain text" for reading in last[~wide]["reading"]}
    said |= {f"is not identified: its 95 % interval ({one})" for one in last[wide]["interval"]}
    assert any(one in written["headline"] for one in said)
    laws = {fit["law"] for fit in written["fits"]}
    assert {"cmr-ratio", "cmr-domain-tokens", "cmr-general-tokens"} <= laws
    for fit in written["fits"]:
        if fit["law"] == "cmr-ratio":
            (row,) = fit["holdout"]["rows"]
            assert row["variables"]["ratio_domain"] == pytest.approx(1 / 3)
    assert sweep.scale == written["scale"]


def test_smoke_writes_table_figures_with_data_and_a_page_of_its_own(smoke: Path) -> None:
    names = {path.relative_to(smoke).as_posix() for path in smoke.rglob("*") if path.is_file()}
    expected = {"results.csv", "results.parquet", "fit.json", "report.html", "sweep.json"}
    assert expected <= names
    assert {"tables/critical_ratio.csv", "tables/change_and_noise.csv"} <= names
    figures = {name.rpartition(".")[0] for name in names if name.startswith("figures/")}
    assert "figures/critical_ratio" in figures
    assert {
        f"{figure}.{end}" for figure in figures for end in ("svg", "pdf", "png", "csv")
    } <= names
    page = (smoke / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "src=" not in page.replace('src="data:', "")


def test_a_diverged_run_takes_no_part_in_the_reading(smoke: Path) -> None:
    settings, sweep = ask(STUDY, "smoke")
    results = pd.read_csv(smoke / "results.csv")
    ill = (results["seed"] == 1) & (results["cpt_ratio"] == 0.5)
    broken = results.copy()
    broken.loc[ill, "status"] = "diverged"
    broken.loc[ill & (results["phase"] == "cpt"), "loss_nats"] = 1e9
    whole, left = (STUDY.read(frame, settings, sweep) for frame in (results, broken))
    columns = ["n_params", "ratio"]
    before = whole.table("change and noise").groupby(columns)["seeds"].min()
    after = left.table("change and noise").groupby(columns)["seeds"].min()
    smallest = results["n_params"].min()
    assert before[smallest, 0.5] == 2
    assert after[smallest, 0.5] == 1
    assert (before - after).sum() == 1
    readings = left.table("critical ratio")
    assert set(readings[readings["n_params"] == smallest]["seeds"]) == {1}


@pytest.mark.parametrize("horizon", [1000, 2048, 0])
def test_a_horizon_off_the_steps_or_within_the_rewarm_is_refused(horizon: int) -> None:
    with pytest.raises(Refused, match=f"^horizon {horizon}: must be whole steps of 512 tokens, "):
        ask(STUDY, "smoke", [f"horizons={horizon}"])


# Adopted trunks ------------------------------------------------------------------------------


def adopt_trunks(smoke: Path, to: Path) -> list[str]:
    """The trunks of the smoke run's first size, each adopted from a file of its own."""
    rows = pd.read_csv(smoke / "results.csv")
    digests = []
    for trunk in rows[rows["arm"] == "w16"]["trunk"].unique():
        file = to / f"{trunk}.npz"
        assert main(["export", str(smoke), "--run", trunk, "--to", str(file)]) == 0
        digests.append(adopt(file, Told()).digest)
    return digests


def test_adopted_trunks_give_the_critical_ratios_of_the_run_that_trained_them(
    smoke: Path, tmp_path: Path, told_json: Any
) -> None:
    digests = adopt_trunks(smoke, tmp_path)
    assert len(digests) == 2
    out = tmp_path / "off"
    value = told_json(
        "run", "cmr", "--scale", "smoke", "--set", f"trunks={','.join(digests)}",
        "--set", "rewarm_lr=5e-3", "--out", out, "--stack", "2",
    )  # fmt: skip
    assert value["runs"] == 2 * len(RATIOS)
    assert value["trained_tokens"] == 2 * len(RATIOS) * 48 * 512  # no trunk
    known = pd.DataFrame(json.loads((smoke / "fit.json").read_text())["readings"]["critical"])
    size = known["n_params"].min()
    here = known[known["n_params"] == size].reset_index(drop=True)
    # units stand in the order of their names, and sums of floats in theirs
    pd.testing.assert_frame_equal(pd.DataFrame(value["readings"]["critical"]), here, rtol=1e-12)
    assert set(here["seeds"]) == {2}
    page = (out / "report.html").read_text()
    assert "Trunks were adopted, the first ended at a rate of 0.0003" in page
    assert "one trunk seed, so the critical ratio carries no interval" not in page
    settings, sweep = ask(STUDY, "smoke", [f"trunks={','.join(digests)}", "rewarm_lr=5e-3"])
    assert not any("one trunk seed" in line for line in STUDY.cautions(settings, sweep))


def test_what_cannot_be_read_off_adopted_trunks_is_refused(smoke: Path, tmp_path: Path) -> None:
    first, second = adopt_trunks(smoke, tmp_path)

    def said(*sets: str, axes: Any = ()) -> str:
        settings, sweep = ask(STUDY, "smoke", sets, axes)
        return "; ".join(STUDY.cautions(settings, sweep))

    rewarm = "rewarm_lr=5e-3"
    assert "one trunk seed" in said(f"trunks={first}", rewarm)
    with pytest.raises(Refused, match="rewarm_lr = 0: an adopted trunk needs the rate at which"):
        said(f"trunks={first}")
    with pytest.raises(Refused, match=r"rewarm_lr = 0\.0001: .* from 0\.0003, where it ended"):
        said(f"trunks={first}", "rewarm_lr=1e-4")
    with pytest.raises(Refused, match="branches off an adopted trunk are one unit"):
        said(f"trunks={first},{second}", rewarm, axes=["seed=0,1"])
    settings, sweep = ask(STUDY, "smoke", [f"trunks={first},{second}", rewarm])
    with pytest.raises(Refused, match="--until: arms adopted_"):
        STUDY.targets["cmr_width"].refuse(settings, sweep)
    with pytest.raises(Refused, match="must be the digest"):
        said("trunks=../x", rewarm)
