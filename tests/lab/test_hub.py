"""Hugging Face data sets are read by their files: saved ones, folders of files, pieces of rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import hub, prepare, sources
from lab.corpora import TokenStore, open_corpus
from lab.errors import Refused
from lab.prepare import Recipe
from lab.scores import document_scores, document_tokens
from lab.sources import Columns

RECORDS = [
    {"text": f"record {k} é " + "word " * (k % 13), "score": k / 2, "body": f"body {k}"}
    for k in range(60)
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network, and a cache of the test's own."""
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    hub._opened.cache_clear()
    yield
    hub._opened.cache_clear()


def of_records(records: list[Any]) -> Any:
    import datasets

    return datasets.Dataset.from_list(records)


def prepared(name: str, *told: str, **more: Any) -> TokenStore:
    fields: dict[str, Any] = {"columns": Columns(), "labels_told": False} | more
    assert prepare.prepare(name, Recipe(told, **fields))
    return open_corpus(name, verify=True).parts[0]


def digest_of_lines(folder: Path, records: list[Any]) -> str:
    path = folder / "same.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return prepared("lines", str(path)).digest


@pytest.mark.parametrize("size", [500, 2**24])
def test_a_saved_data_set_gives_what_its_records_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(hub, "PIECE_BYTES", size)
    of_records(RECORDS).save_to_disk(tmp_path / "saved")
    store = prepared("mine", f"hf:{tmp_path / 'saved'}")
    assert store.digest == digest_of_lines(tmp_path, RECORDS)
    assert len(document_scores(store, "score")) == len(document_tokens(store))
    assert store.source == "Hugging Face saved, train"
    assert not prepare.prepare(
        "mine", Recipe((f"hf:{tmp_path / 'saved'}",), Columns(), labels_told=False)
    )


def test_rows_that_were_chosen_and_shuffled_are_those_that_are_read(tmp_path: Path) -> None:
    chosen = of_records(RECORDS).shuffle(seed=3).select(range(40))
    chosen.save_to_disk(tmp_path / "saved")
    store = prepared("mine", f"hf:{tmp_path / 'saved'}")
    assert store.digest == digest_of_lines(tmp_path, chosen.to_list())


def test_splits_and_columns_are_those_that_are_told(tmp_path: Path) -> None:
    import datasets

    both = {"train": of_records(RECORDS[:30]), "test": of_records(RECORDS[30:])}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "saved")
    told = f"hf:{tmp_path / 'saved'}"
    assert prepared("first", told).documents == 30
    other = prepared("other", told, split="test", columns=Columns("body"))
    assert b"body 59" in other.train.tobytes() + other.validation.tobytes()
    with pytest.raises(Refused, match="no split 'dev'; it has train, test"):
        prepared("mine", told, split="dev")
    with pytest.raises(Refused, match="no column 'words'; it has text, score, body"):
        prepared("mine", told, columns=Columns("words"))
    with pytest.raises(Refused, match="column 'score' holds double, not text"):
        prepared("mine", told, columns=Columns("score"))


def test_a_folder_of_data_files_is_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    of_records(RECORDS).to_parquet(tmp_path / "files" / "train.parquet")
    store = prepared("mine", f"hf:{tmp_path / 'files'}")
    assert store.digest == digest_of_lines(tmp_path, RECORDS)


def test_code_of_a_data_set_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    mark = tmp_path / "was-run"
    (folder / "files.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(Refused, match=r"hf:.*files cannot be loaded: "):
        prepared("mine", f"hf:{folder}")
    assert not mark.exists()


def test_what_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"hf:nobody/nothing cannot be loaded: ") as refusal:
        prepared("mine", "hf:nobody/nothing@main")
    assert "\n" not in str(refusal.value)
    with pytest.raises(Refused, match="must read hf:OWNER/NAME, or hf:FOLDER"):
        prepared("mine", "hf:")
    assert not (tmp_path / "home" / "corpora").exists()


def test_two_processes_read_what_one_reads(tmp_path: Path) -> None:
    for k in range(3):  # a piece each
        of_records(RECORDS[k * 20 : (k + 1) * 20]).save_to_disk(tmp_path / f"{k}")
    told = tuple(f"hf:{tmp_path / str(k)}" for k in range(3))
    one = prepared("one", *told)
    prepare.prepare("two", Recipe(told, Columns(), labels_told=False), 2)
    assert open_corpus("two").digest == one.digest == digest_of_lines(tmp_path, RECORDS)
    assert sources.HUB in {
        piece.form for piece in hub.HubSource(told[0], "train", "").pieces(Columns())
    }
