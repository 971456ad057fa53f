"""What the benches measure, not how long it takes: no test here looks at a clock."""

import json
from pathlib import Path

import pytest

from lab import mesh
from lab.errors import Refused
from lab.spec import ModelSpec
from sweeps.bench import device, prepare, step, sweep
from sweeps.cli import main

SMALL = ModelSpec(width=8, layers=1, heads=2, mlp_width=16, context=16)


def test_single_runs_are_the_points_of_the_grid() -> None:
    whole = sweep.grid()
    points = [run for one in whole.arms.values() for _, run in one.points()]
    singles = list(sweep._single_runs(whole))
    assert [run for one in singles for g in one.arms.values() for _, run in g.points()] == points
    assert len(points) == 2 * len(sweep.RATIOS)
    assert all(one.evaluate == whole.evaluate for one in singles)


def test_a_step_is_measured_alone_and_stacked_and_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "SHAPES", (SMALL,))
    monkeypatch.setattr(step, "apart", lambda function, *args: function(*args))
    monkeypatch.setattr(step, "matrix_product_peak", lambda repeats: 1e9)
    value = step.bench_step(1, lanes=2)
    assert [row["stack"] for row in value["rows"]] == [1, 2]
    for row in value["rows"]:
        assert row["flops_per_second"] > row["tokens_per_second"] > 0
        assert row["fraction_of_peak"] == row["flops_per_second"] / 1e9
    parts = {"attention", "projections", "head_and_loss", "optimizer", "input"}
    assert set(value["rows"][0]["shares"]) == parts
    json.dumps(value, allow_nan=False)


def test_preparing_is_measured_on_a_text_that_is_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))  # which each measurement leaves for its own
    monkeypatch.setattr(prepare, "apart", lambda function, *args: function(*args))
    monkeypatch.setattr(prepare, "cores", lambda: 1)
    value = prepare.bench_prepare(2, megabytes=1)
    assert value["prepared_megabytes"] >= 1
    assert value["prepared_megabytes_per_second"] == value["prepared_by_processes"]["1"] > 0
    prepare.write_lines(tmp_path / "one", 1)
    prepare.write_lines(tmp_path / "two", 1)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_repeats_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "data", "--repeats", "0"]) == 2
    assert capsys.readouterr().err == "lab: --repeats 0: must be at least 1\n"


def test_stack_is_one_lane_a_core_on_a_cpu_and_by_memory_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mesh.fitting_lanes(10**12) == mesh.default_lanes()

    class Accelerator:
        platform = "gpu"

        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 10**10}

    monkeypatch.setattr(mesh.jax, "devices", lambda: [Accelerator(), Accelerator()])
    assert mesh.fitting_lanes(10**9) == 2 * 6  # .6 of 10 GB, on two devices
    assert mesh.fitting_lanes(10**12) == 2
    assert mesh.fitting_lanes(1) == 2 * mesh.MAX_LANES


def test_a_stack_of_no_lane_is_refused() -> None:
    with pytest.raises(Refused, match=r"^stack = 0: must be at least 1 lane$"):
        mesh.lanes(0)


def test_a_device_is_held_against_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "MODEL", SMALL)
    monkeypatch.setattr(device, "STEPS", 8)
    monkeypatch.setattr(device, "apart", lambda function, *args: function(*args))
    monkeypatch.setattr(device, "_only_cpu", lambda kind: None)
    monkeypatch.setattr(device, "_smoke", lambda kind: {("w16", 0.0, 1, "code"): 5.0})
    monkeypatch.setattr(device, "bench_step", lambda repeats: {"rows": []})
    value = device.bench_device(1)
    ways = value["ways"]
    assert value["platform"] == "cpu"
    assert ways["float32"]["max_difference_from_cpu"] == 0
    assert 0 < ways["bfloat16"]["max_difference_from_cpu"] < 0.05
    assert all(one["bits_repeat"] and one["reported_bytes"] > 0 for one in ways.values())
    json.dumps(value, allow_nan=False)
