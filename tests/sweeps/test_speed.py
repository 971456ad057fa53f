"""A measured speed is kept, found again, and not believed where it does not belong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import flops
from lab.home import home
from lab.spec import ModelSpec
from sweeps import speed
from tests.sweeps.small import study_file

SMALL, LARGE = ModelSpec(32, 2, 2, 88, 128), ModelSpec(128, 4, 4, 344, 128)
CORES = speed.cores()
Json = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corpora of the tests, and no speed measured yet."""
    own = tmp_path / "own"
    own.mkdir()
    (home() / "corpora").mkdir(exist_ok=True)
    (own / "corpora").symlink_to(home() / "corpora")
    monkeypatch.setenv("LAB_HOME", str(own))


def row(model: ModelSpec, stack: int, rate: float) -> dict[str, Any]:
    per_token = flops.train_flops_per_token(model)
    return {"flops_per_token": per_token, "stack": stack, "flops_per_second": rate}


def test_a_bench_is_read_at_the_model_nearest_in_cost_and_the_stack_that_runs(
    tmp_path: Path,
) -> None:
    rows = [row(SMALL, 1, 1e9), row(SMALL, 2, 2e9), row(LARGE, 1, 3e9), row(LARGE, 2, 5e9)]
    speed.note_bench(rows, CORES)
    two, many = (speed.measured(tmp_path, stack, CORES) for stack in (2, 64))
    one = speed.measured(tmp_path, 1, CORES)
    assert one is not None
    assert two is not None
    assert two == many  # 64 lanes were not timed: the largest that were
    assert two.source == "lab bench step"
    assert [two.flops_per_second(model) for model in (SMALL, LARGE)] == [2e9, 5e9]
    assert two.flops_per_second(ModelSpec(256, 8, 4, 688, 128)) == 5e9
    assert one.flops_per_second(ModelSpec(16, 1, 1, 40, 32)) == 1e9


def test_a_whole_run_into_the_folder_comes_before_the_bench(tmp_path: Path) -> None:
    speed.note_bench([row(SMALL, 2, 2e9)], CORES)
    speed.note_run(tmp_path / "out", LARGE, 7e9, CORES)
    found = speed.measured(tmp_path / "out", 2, CORES)
    assert found is not None
    assert (found.source, found.flops_per_second(SMALL)) == (
        "the last whole run into this folder",
        7e9,
    )


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"cores": %d, "rows": []}', '{"cores": %d, "rows": [{"stack": 1}]}']
)
def test_a_file_that_says_nothing_is_no_speed(tmp_path: Path, text: str) -> None:
    (home() / speed.FILE).write_text(text.replace("%d", str(CORES)))
    assert speed.measured(tmp_path, 2, CORES) is None


def test_neither_another_machine_nor_an_impossible_rate_is_believed(tmp_path: Path) -> None:
    speed.note_bench([row(SMALL, 2, 2e9)], CORES + 1)
    assert speed.measured(tmp_path, 2, CORES) is None
    speed.note_bench([row(SMALL, 2, -1.0)], CORES)
    assert speed.measured(tmp_path, 2, CORES) is None


def test_plan_reckons_hours_with_it_and_says_which(told_json: Json, tmp_path: Path) -> None:
    study = study_file(tmp_path)
    told = ("plan", study, "--out", "out", "--stack", "2")
    value = told_json(*told)
    assert (value["hours_here"], value["speed"]["here"]) == (None, None)
    assert value["speed"]["accelerators"] == "assumed 40% of peak"
    speed.note_bench([row(SMALL, 2, 1e6)], CORES)
    value = told_json(*told, "--budget-hours", "1")
    assert value["speed"]["here"] == "lab bench step"
    assert value["hours_here"] == pytest.approx(value["flops_shared"] / 1e6 / 3600)
    assert value["hours_here"] == pytest.approx(sum(g["hours_here"] for g in value["groups"]))
    assert value["budget"]["cut"] == []
    assert value["budget"]["costs"]["--budget-hours"] == pytest.approx(value["hours_here"])


def test_a_whole_run_leaves_its_speed_and_part_of_one_does_not(
    told_json: Json, tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    value = told_json("run", study, "--out", "out", "--stack", "2")
    found = speed.measured(tmp_path / "out", 2, CORES)
    assert found is not None
    rate = found.flops_per_second(SMALL)
    assert rate >= told_json("plan", study)["flops_shared"] / value["seconds"]
    before = (tmp_path / "out" / ".speed.json").read_bytes()
    told_json("run", study, "--out", "out", "--axis", "cpt.ratio+=1")
    assert (tmp_path / "out" / ".speed.json").read_bytes() == before


# Peaks ---------------------------------------------------------------------------------------


def test_a_cpus_peak_is_the_matrix_product_that_the_bench_measured_on_as_many_cores() -> None:
    unknown = speed.peak_of("cpu", "cpu", 2, CORES)
    assert (unknown.flops_per_second, unknown.shared) == (None, True)
    assert "lab bench step measures it" in unknown.of
    speed.note_bench([row(SMALL, 2, 2e9)], CORES, 1.25e11)
    assert speed.peak_of("cpu", "cpu", 2, CORES).flops_per_second == 1.25e11
    assert speed.peak_of("cpu", "cpu", 2, CORES + 1) == unknown
    speed.note_bench([row(SMALL, 2, 2e9)], CORES)  # of an accelerator: says nothing of the cores
    assert speed.peak_of("cpu", "cpu", 2, CORES) == unknown


@pytest.mark.parametrize(
    ("platform", "kind", "devices", "peak"),
    [
        ("gpu", "NVIDIA H100 80GB HBM3", 1, 989e12),
        ("gpu", "NVIDIA A100-SXM4-80GB", 8, 8 * 312e12),
        ("tpu", "TPU v5 lite", 4, 4 * 197e12),
        ("tpu", "TPU v5p", 4, 4 * 459e12),
        ("gpu", "NVIDIA H100 PCIe", 1, None),  # a slower card of that name
    ],
)
def test_an_accelerators_peak_is_the_data_sheets(
    platform: str, kind: str, devices: int, peak: float | None
) -> None:
    found = speed.peak_of(platform, kind, devices, CORES)
    assert (found.flops_per_second, found.shared) == (peak, False)
    if peak is None:
        assert found.of == f"peak of {kind} not known"


@pytest.mark.parametrize("text", ["", "[]", '{"cores": %d, "matrix_product": -1.0}'])
def test_a_spoilt_file_is_no_peak(text: str) -> None:
    (home() / speed.FILE).write_text(text.replace("%d", str(CORES)))
    assert speed.peak_of("cpu", "cpu", 2, CORES).flops_per_second is None
