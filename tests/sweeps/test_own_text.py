"""Studies on text of the user's own, from its files to the report, with its tokenizer's ids."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.corpora import open_corpus
from lab.errors import Refused
from lab.evaluation_set import EvaluationSet
from lab.prepare import Recipe, prepare
from lab.sources import Columns
from sweeps.commands import data
from sweeps.grid import Grid
from sweeps.plan import Plan, make_plan
from sweeps.run import open_corpora
from sweeps.study import ask, find_study
from sweeps.sweep import Sweep
from sweeps.vocabulary import with_vocabulary
from tests.sweeps.small import small_sweep

Lab = Callable[..., tuple[int, str, str]]
NO_TOKENIZERS = "the package tokenizers is not installed"


def write(path: Path, letters: str, seed: int, documents: int = 500) -> str:
    """Records of made-up words of some letters, with a score."""
    draw = np.random.default_rng(seed)
    words = ["".join(draw.choice(list(letters), 2 + k % 5)) for k in range(200)]
    with path.open("w") as file:
        for k in range(documents):
            text = " ".join(draw.choice(words, 300))
            file.write(json.dumps({"body": text, "score": k % 10}) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "mine": write(folder / "mine.jsonl", "aeioustrnl", 1),
        "law": write(folder / "law.jsonl", "aeioustrnl", 2),
    }


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))


def prepared(sources: dict[str, str], *tokenizers: str) -> None:
    for (name, source), told in zip(sources.items(), tokenizers, strict=False):
        labels = (("score", "score"),)
        prepare(name, Recipe((source,), Columns("body", labels), told))


def plan_of(study: str, scale: str, *sets: str) -> Plan:
    _, sweep = ask(find_study(study), scale, sets)
    return make_plan(sweep, open_corpora(sweep))


OWN = {
    "cmr": ("general=mine", "domain=law"),
    "chinchilla": ("corpus=mine",),
    "lr_schedule": ("corpus=mine",),
    "lr_transfer": ("corpus=mine",),
    "curriculum_decay": ("text=mine",),
    "stability_gap": ("general=mine", "domain=law"),
    "cmr_full": ("general=mine", "far=law", "near=docs"),
    "rewarm": ("general=mine", "weak=law", "strong=docs"),
}
DAMAGE = ("curriculum_decay", "stability_gap")  # of bytes


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("scale", ["smoke", "small"])
@pytest.mark.parametrize("study", OWN)
def test_every_study_is_planned_on_own_bytes(
    sources: dict[str, str], study: str, scale: str
) -> None:
    prepared(sources, "bytes", "bytes")
    plan = plan_of(study, scale, *OWN[study], "windows=8")
    read = {name for run in plan.runs for name in run.path.run.corpora()}
    assert any(name.endswith("mine") for name in read)
    assert {run.path.run.model.vocabulary for run in plan.runs} == {256}


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
@pytest.mark.parametrize("study", [one for one in OWN if one not in DAMAGE])
def test_models_have_the_vocabulary_of_the_tokenizer(
    sources: dict[str, str], study: str, scale: str
) -> None:
    pytest.importorskip("tokenizers", reason=NO_TOKENIZERS)
    prepared(sources, "bpe:300", "like:mine")
    third = [one.replace("docs", "mine+law") for one in OWN[study]]
    plan = plan_of(study, scale, *third, "windows=8")
    assert {run.path.run.model.vocabulary for run in plan.runs} == {300}
    larger = plan_of(study, scale, *third, "windows=8", "model.vocabulary=320")
    assert {run.path.run.model.vocabulary for run in larger.runs} == {320}
    with pytest.raises(Refused, match=r"model\.vocabulary = 256: corpus '.*' needs 300"):
        plan_of(study, scale, *third, "windows=8", "model.vocabulary=256")


@pytest.mark.usefixtures("own_home")
def test_what_somebody_said_and_what_was_adopted_keep_their_vocabulary(
    sources: dict[str, str],
) -> None:
    pytest.importorskip("tokenizers", reason=NO_TOKENIZERS)
    prepared(sources, "bpe:300")
    (grid,) = small_sweep().arms.values()
    swept = {**grid.axes, "model.vocabulary": (320, 384)}
    adopted = dataclasses.replace(grid.base, start="0" * 64)
    arms = {"own": grid, "swept": Grid(grid.base, swept), "adopted": Grid(adopted, grid.axes)}
    evaluate = dataclasses.replace(small_sweep().evaluate, corpora=("mine",))
    sweep = Sweep("small", "tiny", arms, evaluate)
    found = {name: one.base.model.vocabulary for name, one in with_vocabulary(sweep).arms.items()}
    assert found == {"own": 300, "swept": 256, "adopted": 256}
    assert with_vocabulary(sweep, ["model.vocabulary"]) is sweep
    assert with_vocabulary(small_sweep()) == small_sweep()


def test_progress_is_plain_lines_where_output_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "PLAIN_SECONDS", 0.0)
    for quiet in (False, True):
        progress = data._Progress(quiet)
        progress.told("reading", 1_000_000, 4_000_000)
        progress.told("tokenising", 4_000_000, 4_000_000)
        progress.end()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("lab: reading 1 of 4 MB, about ")
    assert second == "lab: tokenising 4 of 4 MB, about 0 s left"


@pytest.mark.usefixtures("own_home")
def test_a_corpus_is_listed_before_the_next_is_made(
    sources: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def opened(name: str) -> Any:
        shown.append(capsys.readouterr().out)
        return open_corpus("code")

    monkeypatch.setattr(data, "known_names", lambda: ["code", "docs"])
    monkeypatch.setattr(data, "made_best", lambda: [])
    monkeypatch.setattr(data, "open_corpus", opened)
    data.list_corpora(argparse.Namespace(json=False))
    before, between = shown
    assert before.startswith("name ")
    assert len(between.splitlines()) == 1
    assert "standard library source" in between


def test_what_a_tokenizer_does_not_allow_is_one_line(sources: dict[str, str]) -> None:
    pytest.importorskip("tokenizers", reason=NO_TOKENIZERS)
    prepared(sources, "bpe:300", "bytes")
    with pytest.raises(Refused, match="'mine' has bpe:300, 'law' has bytes; prepare one of them"):
        plan_of("cmr", "smoke", *OWN["cmr"])
    with pytest.raises(Refused, match=r"'mine' has bpe:300: damage replaces bytes"):
        plan_of("curriculum_decay", "smoke", *OWN["curriculum_decay"])


@pytest.mark.usefixtures("own_home")
def test_a_phase_can_be_ordered_by_the_users_own_score(sources: dict[str, str]) -> None:
    prepared(sources, "bytes", "bytes")
    told = (*OWN["cmr"], "windows=8", "pretrain.order=ascending", "pretrain.score=score")
    plan = plan_of("cmr", "smoke", *told)
    assert plan.runs[0].path.stretches[0].order is not None
    with pytest.raises(Refused, match=r"has no score 'taste'; it has score, compression"):
        plan_of("cmr", "smoke", *told[:-1], "pretrain.score=taste")


@pytest.mark.usefixtures("own_home")
def test_from_files_to_a_report_with_a_tokenizer_trained_here(
    lab_command: Lab, told_json: Callable[..., Any], sources: dict[str, str]
) -> None:
    pytest.importorskip("tokenizers", reason=NO_TOKENIZERS)
    columns = ["--text-column", "body", "--keep", "quality=score", "--processes", "1"]
    code, out, _ = lab_command("data", "prepare", "mine", sources["mine"], *columns,
                               "--tokenizer", "bpe:300")  # fmt: skip
    assert code == 0
    assert "(bpe:300, 300 ids), 500 documents, 0 exact duplicates dropped" in out
    again = told_json(
        "data", "prepare", "mine", sources["mine"], *columns, "--tokenizer", "bpe:300"
    )
    assert again["made"] is False
    made = told_json("data", "prepare", "law", sources["law"], *columns, "--tokenizer", "like:mine")
    assert (made["made"], made["tokenizer"], made["vocabulary"]) == (True, "bpe:300", 300)
    told = ["--scale", "smoke", "--set", "general=mine", "--set", "domain=law",
            "--set", "windows=16", "--out", "out", "--stack", "2"]  # fmt: skip
    assert told_json("run", "cmr", *told)["trained_tokens"] > 0
    assert Path("out/report.html").exists()
    rows = told_json("results", "out")
    assert {row["corpus"] for row in rows} == {"mine", "law"}
    last = max(row["step"] for row in rows)
    for row in rows:
        stands_for = EvaluationSet(open_corpus(row["corpus"]), 16, 32).bytes_per_token
        assert stands_for > 1
        bits = row["loss_nats"] / np.log(2) / stands_for
        assert row["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert row["step"] < last or row["loss_nats"] < np.log(300)
    listed = {one["name"]: one for one in told_json("data", "list")}
    assert listed["law"]["digest"] == made["digest"]
    assert listed["law"]["tokenizer"] == "bpe:300"
