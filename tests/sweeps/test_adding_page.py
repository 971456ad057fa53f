"""The page on adding a law, an axis and a study: its blocks are run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import sweeps.axes
from tests.sweeps.small import ROOT

Lab = Callable[..., tuple[int, str, str]]
PAGE = ROOT / "notebooks" / "pages" / "adding.md"
SMALL = 40  # lines


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of every block under a heading."""
    text = PAGE.read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```(\w+)\n(.*?)^```", part, re.DOTALL | re.MULTILINE)


@pytest.fixture
def run_blocks(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, Path]]:
    """Write the files and run the commands of a heading, in the page's order; the files by name.

    `lab` runs in this process, where the folder's own `sweeps/axes` counts among the installed.
    """
    monkeypatch.setattr(sweeps.axes, "__path__", [*sweeps.axes.__path__, "sweeps/axes"])
    sweeps.axes.named_axes.cache_clear()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}

    def run(heading: str) -> dict[str, Path]:
        files = {}
        for language, text in blocks(heading):
            if language == "python":
                (name,) = re.findall(r"\A# (\S+\.py)\n", text)
                files[name] = tmp_path / name
                files[name].parent.mkdir(parents=True, exist_ok=True)
                files[name].write_text(text)
                sweeps.axes.named_axes.cache_clear()
                continue
            for line in text.splitlines():
                words = shlex.split(line)
                if words[0] == "lab":
                    code, _, err = lab_command(*words[1:])
                    assert code == 0, (line, err)
                    continue
                words[0] = sys.executable if words[0] == "python" else words[0]
                assert words[0] == sys.executable or words[0] == "sed"
                subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=200)
        return files

    return run


@pytest.fixture(autouse=True)
def fresh_axes() -> object:
    yield
    sweeps.axes.named_axes.cache_clear()
    sys.modules.pop("sweeps.axes.all_lr", None)


def small(path: Path) -> bool:
    return sum(bool(line.strip()) for line in path.read_text().splitlines()) <= SMALL


def test_a_law_is_one_small_file_and_a_test(
    run_blocks: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    files = run_blocks("A law")
    assert list(files) == ["my_law.py", "test_my_law.py"]
    assert all(map(small, files.values()))
    predicted = pd.read_csv(tmp_path / "predicted.csv")
    error = (predicted["predicted"] / predicted["loss_nats"] - 1).abs()
    assert error.median() < 0.02
    assert (tmp_path / "fit.pdf").stat().st_size > 5_000


def test_an_axis_is_one_small_file(
    run_blocks: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    files = run_blocks("An axis")
    assert list(files) == ["sweeps/axes/all_lr.py"]
    assert small(files["sweeps/axes/all_lr.py"])
    results = pd.read_csv(tmp_path / "losses.csv")
    assert sorted(results["pretrain_all_lr"].unique()) == [1 / 256, 1 / 128, 1 / 64, 1 / 32]
    ends = results[results["step"] == results["step"].max()]
    share = ends["lr"] / ends["pretrain_all_lr"]
    # the end rate follows the axis: the last step, one short of the end, is a little above it
    assert share.groupby(ends["arm"]).std().max() < 1e-6
    assert (share > 0.1).all()


def test_a_study_is_one_file_that_is_written_for_you(
    run_blocks: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    assert run_blocks("A study") == {}
    assert (tmp_path / "rates.pdf").stat().st_size > 5_000
    assert "a linear fall ends lower than a cosine" in (tmp_path / "report.html").read_text()
