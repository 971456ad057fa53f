"""`lab doctor`: complete, without secrets, and never hanging on a device."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps import diagnosis, self_test

Lab = Callable[..., tuple[int, str, str]]


@pytest.fixture
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"backend": "cpu", "devices": ["cpu"], "relative_error": 0.0, "right": True}
    monkeypatch.setattr(diagnosis, "self_test", lambda: said)


def test_it_says_what_a_bug_report_needs(told_json: Callable[..., Any], tmp_path: Path) -> None:
    found = told_json("doctor")
    assert found["packages"]["jax"] == importlib.metadata.version("jax")
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert {"test", "ray", "slurm", "tensorboard", "wandb"} <= set(found["extras"])
    assert found["cores"]["allowed"] <= found["cores"]["machine"]
    assert 0 < found["memory"]["available_gb"] < found["memory"]["machine_gb"]
    assert found["here"]["path"] == str(tmp_path)
    assert found["here"]["free_gb"] > 0
    assert found["here"]["locks"] == "work"
    assert found["home"]["bytes"]["corpora"] > 0
    assert (found["self_test"]["backend"], found["self_test"]["right"]) == ("cpu", True)
    assert found["self_test"]["relative_error"] < self_test.TOLERANCE
    assert "openblas" in found["blas"].lower() or found["blas"] != ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_self_test")
def test_no_secret_is_shown(lab_command: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hush1")
    monkeypatch.setenv("SLURM_JWT", "hush2")
    monkeypatch.setenv("HF_TOKEN", "hush3")
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:hush4@tracker.example/path")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush5")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    code, out, err = lab_command("doctor")
    assert code == 0
    assert "hush" not in out + err
    assert "WANDB_API_KEY=(set, not shown)" in out
    assert "WANDB_BASE_URL=https://(not shown)@tracker.example/path" in out
    assert "XLA_FLAGS=--xla_cpu_enable_fast_math=false" in out
    assert "AWS" not in out
    assert out.endswith("no problem was found\n")


def test_a_device_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no answer in 0.01 s" in diagnosis.self_test(0.01)["trouble"]
    monkeypatch.setenv("JAX_PLATFORMS", "no_such_thing")
    assert "no_such_thing" in diagnosis.self_test()["trouble"]


@pytest.mark.parametrize(
    ("place", "changed", "said"),
    [
        ("home", {"free_gb": 0.2}, "/home: 0.2 GB are free"),
        ("here", {"locks": "cannot be tried: no"}, "/here: locks cannot be tried: no"),
        ("compiled", {"empty": 3}, "3 compiled programs are empty"),
        ("compiled", {"writable": False}, "cannot be kept"),
        ("packages", {"jax": "missing"}, "package jax is missing"),
        ("self_test", {"trouble": "no answer"}, "self-test: no answer"),
        ("self_test", {"right": False, "relative_error": 0.5}, "off by 0.5"),
        ("self_test", {"right": False, "relative_error": None}, "off by None"),
    ],
)
def test_what_is_in_the_way_is_named(place: str, changed: dict[str, Any], said: str) -> None:
    sound: dict[str, Any] = {
        "packages": {"jax": "1"},
        "home": {"path": "/home", "free_gb": 9.0, "locks": "work"},
        "here": {"path": "/here", "free_gb": 9.0, "locks": "work"},
        "compiled": {"empty": 0, "writable": True},
        "self_test": {"right": True, "relative_error": 0.0},
    }
    assert diagnosis.problems(sound) == []
    (problem,) = diagnosis.problems({**sound, place: {**sound[place], **changed}})
    assert said in problem


def test_locks_that_do_not_hold_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_gets", lambda file: True)
    assert diagnosis.locks(tmp_path).startswith("a second process gets a lock")
    assert "cannot be tried" in diagnosis.locks(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_emptied_programs_are_counted(tmp_path: Path) -> None:
    kind = tmp_path / "compiled" / "0.10-abc"
    kind.mkdir(parents=True)
    (kind / "whole-cache").write_bytes(b"x")
    (kind / "emptied-cache").touch()
    found = diagnosis.compiled(tmp_path)
    assert (found["programs"], found["empty"], found["kinds"]) == (2, 1, 1)


def test_the_commit_of_a_checkout_is_named() -> None:
    root = Path(diagnosis.__file__).parents[1]
    commit = diagnosis._commit(root)
    assert (commit is None) == (not os.path.isdir(root / ".git"))
    assert diagnosis._commit(root / "tests") is None
