"""A folder holds one sweep, which may grow; anything else is refused and nothing is touched."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps.presence
from lab.errors import Refused
from lab.spec import Share, hold, warm
from sweeps.folder import Folder
from sweeps.grid import Grid, with_fields
from sweeps.run import open_corpora, run_sweep
from sweeps.sweep import Sweep
from tests.sweeps.small import (
    BRANCH,
    GENERAL,
    PEAK,
    STEP,
    cooled,
    files_below,
    small_sweep,
    trained,
)

SWEEP = small_sweep()
DIGESTS = {name: corpus.digest for name, corpus in open_corpora(SWEEP).items()}


def held_by(path: Path, sweep: Sweep = SWEEP) -> Folder:
    """A folder that says it holds a sweep; nothing is trained."""
    folder = Folder(path)
    folder.write(sweep, {"windows": 8}, DIGESTS, stack=2)
    return folder


def with_base(sweep: Sweep, **fields: Any) -> Sweep:
    (arm,) = sweep.arms.items()
    values = {path.replace("__", "."): value for path, value in fields.items()}
    grid = Grid(with_fields(arm[1].base, values), arm[1].axes)
    return dataclasses.replace(sweep, arms={arm[0]: grid})


def refusal(folder: Folder, sweep: Sweep) -> str:
    """Why the folder refuses to train the sweep; nothing in it changes."""
    before = files_below(folder.path)
    with pytest.raises(Refused) as refused:
        run_sweep(sweep, folder.path, quiet=True)
    assert files_below(folder.path) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_written_is_held(tmp_path: Path) -> None:
    held = held_by(tmp_path / "a").held()
    assert held is not None
    assert (held.sweep, held.settings, held.digests, held.stack) == (
        SWEEP,
        {"windows": 8},
        DIGESTS,
        2,
    )


def test_an_absent_or_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert Folder(tmp_path / "absent").held() is None
    (tmp_path / ".lock").touch()
    assert Folder(tmp_path).held() is None
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (dataclasses.replace(SWEEP, study="large"), "study 'small', not 'large'"),
        (dataclasses.replace(SWEEP, scale="smoke"), "scale 'tiny', not 'smoke'"),
        (with_base(SWEEP, model__width=16), "model.width = 8, not 16"),
        (with_base(SWEEP, optimizer__b1=0.8), "optimizer.b1 = 0.9, not 0.8"),
        (with_base(SWEEP, batch=2), "batch = 4, not 2"),
        (with_base(SWEEP, pretrain__tokens=5 * STEP), "pretrain.tokens = 256, not 320"),
        (with_base(SWEEP, pretrain__peak_lr=2 * PEAK), "pretrain.schedule.0.to_lr = 0.01, not"),
        (with_base(SWEEP, cpt__mixture__1__corpus="code"), f"cpt.mixture.1.corpus = '{GENERAL}'"),
        (with_base(SWEEP, cpt__reset_optimizer=True), "cpt.reset_optimizer = False, not True"),
        (with_base(SWEEP, cpt__schedule=cooled()), "cpt.schedule.0.to_lr = 0.005, not 0.01"),
        (with_base(SWEEP, pretrain__name="trunk"), "pretrain.name = 'pretrain', not None"),
    ],
)
def test_another_sweep_is_refused_with_the_first_difference(
    tmp_path: Path, other: Sweep, difference: str
) -> None:
    message = refusal(held_by(tmp_path / "a"), other)
    assert message.startswith(f"{tmp_path / 'a'} holds another sweep: ")
    assert message.endswith("; choose another --out")
    assert difference in message


def test_a_trained_folder_is_left_alone_by_another_sweep(tmp_path: Path) -> None:
    trained(tmp_path, SWEEP)
    assert "optimizer.eps" in refusal(Folder(tmp_path), with_base(SWEEP, optimizer__eps=1e-6))


def test_another_text_under_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = held_by(tmp_path / "a")
    folder.write(SWEEP, None, {GENERAL: "0" * 32}, stack=2)
    assert f"corpus '{GENERAL}' was another text (00000000)" in refusal(folder, SWEEP)


@pytest.mark.parametrize(
    "grown",
    [
        small_sweep(seeds=(3,), ratios=(0.25,)),
        small_sweep(optimizer__weight_decay=(0.0, 0.2)),
        small_sweep(branch=BRANCH + 2, horizons=(2, BRANCH + 2)),
        small_sweep(cpt__peak_lr=(PEAK / 4, PEAK / 2)),
        small_sweep(cpt__schedule=((warm(STEP, PEAK), hold()),)),
        with_base(SWEEP, seed=9),
        with_base(SWEEP, cpt__mixture=({"corpus": "synthetic-markov", "weight": 0.25},
                                       {"corpus": GENERAL, "weight": 0.75})),
        dataclasses.replace(SWEEP, arms={"only": SWEEP.arms["only"], "more": SWEEP.arms["only"]}),
        dataclasses.replace(SWEEP, evaluate=dataclasses.replace(SWEEP.evaluate, windows=9)),
    ],
)  # fmt: skip
def test_a_sweep_may_grow(tmp_path: Path, grown: Sweep) -> None:
    folder = held_by(tmp_path)
    folder.refuse_another(grown, DIGESTS)
    folder.write(grown, None, DIGESTS, stack=2)
    folder.refuse_another(SWEEP, DIGESTS)


def test_digests_of_corpora_that_are_asked_for_no_more_stay(tmp_path: Path) -> None:
    folder = held_by(tmp_path)
    folder.write(SWEEP, None, {"code": "c" * 32}, stack=2)
    held = folder.held()
    assert held is not None
    assert held.digests == {**DIGESTS, "code": "c" * 32}


# What is no sweep's folder -------------------------------------------------------------------


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("Chapter 1")
    assert "no sweep's folder (no sweep.json)" in refusal(Folder(tmp_path), SWEEP)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with pytest.raises(Refused, match="is not a folder"):
        run_sweep(SWEEP, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "text"


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def edit(text: bytes) -> bytes:
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree).encode()

    return edit


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: b"", "cannot be read as a sweep"),
        (lambda text: text[: len(text) // 2], "cannot be read as a sweep"),
        (lambda text: b"\xff\xfe\x00garbage", "cannot be read as a sweep"),
        (lambda text: b"[]", "cannot be read as a sweep"),
        (lambda text: b"null", "cannot be read as a sweep"),
        (edited(lambda tree: tree.pop("digests")), "cannot be read as a sweep: 'digests'"),
        (edited(lambda tree: tree.update(digests=[])), "cannot be read as a sweep"),
        (edited(lambda tree: tree.update(stack="two")), "cannot be read as a sweep"),
        (edited(lambda tree: tree.update(settings=3)), "cannot be read as a sweep"),
        (edited(lambda tree: tree.update(sweep={})), "not a sweep"),
        (edited(lambda tree: tree["sweep"]["arms"][0].pop()), "not a sweep"),
        (edited(lambda tree: tree.update(schema=0)), "has schema 0, this lab 1"),
        (edited(lambda tree: tree.update(numerics=0)), "was trained with numerics 0"),
    ],
)
def test_a_spoilt_description_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    folder = held_by(tmp_path)
    file = tmp_path / "sweep.json"
    file.write_bytes(spoil(file.read_bytes()))
    assert said in refusal(folder, SWEEP)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        (with_base(SWEEP, pretrain__mixture=(Share("novels", 1.0),)), "unknown corpus 'novels'"),
        (small_sweep(model__vocabulary=(9,)), "model.vocabulary = 9"),
        (small_sweep(pretrain__tokens=(2**26,)), "(at most 4): prepare a larger corpus"),
        (small_sweep(horizons=(BRANCH + 1,)), "lies behind phase 'cpt'"),
        (dataclasses.replace(SWEEP, evaluate=dataclasses.replace(SWEEP.evaluate, windows=10**9)),
         "evaluate fewer, or prepare more text"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_the_folder_is_made(
    tmp_path: Path, sweep: Sweep, said: str
) -> None:
    assert said in refusal(Folder(tmp_path / "a"), sweep)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_without_lanes_is_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="stack = 0"):
        run_sweep(SWEEP, tmp_path / "a", stack=0)
    assert list(tmp_path.iterdir()) == []


def test_the_stack_of_a_folder_is_kept(tmp_path: Path) -> None:
    held_by(tmp_path)
    assert run_sweep(SWEEP, tmp_path, quiet=True).stack == 2


# Writing -------------------------------------------------------------------------------------


def test_a_process_that_has_the_folder_to_itself_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.presence, "PATIENCE_SECONDS", 0.2)
    folder = held_by(tmp_path)
    with folder.locked():
        assert "another process is training into" in refusal(folder, SWEEP)
        assert Folder(tmp_path).held() is not None
    with folder.locked():
        pass
