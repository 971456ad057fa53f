"""A state that was exported and adopted elsewhere is the trunk it was, to the bit."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.continual import changes
from lab.adopt import Told, adopt, known_digests, open_adopted
from lab.arrays import ABOUT, array_shapes
from lab.errors import Failed, Refused
from lab.home import home
from lab.spec import OptimizerSpec, Phase, RunSpec, Share, hold
from lab.store import Index
from sweeps.commands.states import parse_lr, parse_model
from sweeps.export import export_state, find_state
from sweeps.folder import Folder
from sweeps.foresight import other_orders
from sweeps.grid import Grid
from sweeps.results import step_table
from sweeps.run import Outcome
from sweeps.sweep import Evaluations, Sweep, sweep_from_json
from tests.sweeps.small import (
    BRANCH,
    DOMAIN,
    GENERAL,
    MODEL,
    PEAK,
    STEP,
    TRUNK,
    Stopped,
    csv,
    files_below,
    planned,
    small_run,
    small_sweep,
    stop_after,
    study_file,
    trained,
    use_engine,
)

Lab = Callable[..., tuple[int, str, str]]
MEASURED = ["loss_nats", "bits_per_byte", "accuracy", "lr", "epochs"]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Trunks of two seeds, with branches off them; and its folder."""
    out = tmp_path_factory.mktemp("direct")
    return out, trained(out, small_sweep(seeds=(0, 1)))


def exported(direct: tuple[Path, Outcome], to: Path, name: str, step: int | None = None) -> str:
    """The state of the direct sweep as a file; the digest that it will have."""
    folder, outcome = direct
    store = Folder(folder).store
    index = store.load(set_aside=False)
    found = find_state(outcome.plan, index, name, step)
    return export_state(outcome.plan, index, store, found, to).digest


def branches(starts: Iterable[str], seeds: Iterable[int] = (0,), **more: Any) -> Sweep:
    """Only the branches, each off an adopted trunk."""
    base = small_run()
    run = dataclasses.replace(base, phases=base.phases[1:], start=next(iter(starts)), **more)
    axes = {"start": tuple(starts), "seed": tuple(seeds), "cpt.ratio": (0.0, 0.5)}
    evaluate = Evaluations((GENERAL, DOMAIN), 8, "cpt", (BRANCH * STEP,))
    return Sweep("small", "tiny", {"only": Grid(run, axes)}, evaluate)


def adopted(direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab, seed: int) -> str:
    """The trunk of a seed, exported from one folder and adopted by the command."""
    rows = direct[1].results
    trunk = rows[rows["seed"] == seed]["trunk"].iloc[0]
    file = tmp_path / f"{seed}.npz"
    code, out, _ = lab_command("export", direct[0], "--run", trunk, "--to", file)
    assert code == 0
    assert f"at step {TRUNK}, moments of adamw -> {file}" in out
    code, out, _ = lab_command("adopt", file)
    assert code == 0
    digest = next(line for line in out.splitlines() if line.startswith("start = "))[8:]
    assert digest in known_digests()
    return digest


# Bits ----------------------------------------------------------------------------------------


def of_branches(frame: pd.DataFrame, seed: int, steps_before: int) -> pd.DataFrame:
    """What was measured from the branch point on, by ratio, step of the branch and corpus."""
    rows = frame[(frame["seed"] == seed) & (frame["step"] >= steps_before)]
    rows = rows.assign(step=rows["step"] - steps_before)
    return rows.set_index(["cpt_ratio", "step", "corpus"])[MEASURED]


def test_branches_off_an_adopted_trunk_are_those_off_the_trunk(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab
) -> None:
    for seed in (0, 1):
        digest = adopted(direct, tmp_path, lab_command, seed)
        elsewhere = trained(tmp_path / f"out{seed}", branches([digest], [seed]))
        assert elsewhere.trained_tokens == 2 * BRANCH * STEP  # the trunk is not trained again
        here = of_branches(direct[1].results, seed, TRUNK)
        pd.testing.assert_frame_equal(
            of_branches(elsewhere.results, seed, 0), here, check_exact=True
        )
        first = elsewhere.results[elsewhere.results["step"] == 0]
        assert set(first["phase"]) == {"adopted"}
        assert set(elsewhere.results["trunk"]) == {elsewhere.plan.runs[0].path.state_id(0)[:12]}
        logs = [steps_of(one, seed) for one in ((tmp_path / f"out{seed}", elsewhere), direct)]
        assert len(logs[0]) == 2 * BRANCH
        pd.testing.assert_frame_equal(*logs, check_exact=True)


def steps_of(trained_into: tuple[Path, Outcome], seed: int) -> pd.DataFrame:
    """Every training step of the branches of a seed, one branch after another."""
    folder, outcome = trained_into
    log = step_table(outcome.plan, outcome.index, Folder(folder).store)
    ends = [
        outcome.plan.segments[run.segments[-1]].end_id[:12]
        for run in outcome.plan.runs
        if run.values["seed"] == seed
    ]
    rows = pd.concat([log[log["segment"] == end] for end in ends])
    return rows[["loss_nats", "lr", "grad_norm"]].reset_index(drop=True)


def test_several_trunks_are_units_of_their_own(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab
) -> None:
    digests = [adopted(direct, tmp_path, lab_command, seed) for seed in (0, 1)]
    sweep = branches(digests)
    assert sweep_from_json(sweep.to_json()) == sweep
    outcome = trained(tmp_path / "out", sweep)
    assert set(outcome.results["start"]) == set(digests)
    assert outcome.results["trunk"].nunique() == 2
    table = changes(outcome.results, "cpt", "cpt_ratio")
    assert table["unit"].nunique() == 2
    assert table["change"].notna().all()
    assert trained(tmp_path / "out", sweep).trained_tokens == 0
    # the first trunk's changes are those that the direct sweep reads
    there = changes(direct[1].results.query("seed == 0"), "cpt", "cpt_ratio")
    unit = outcome.results.query("start == @digests[0]")["trunk"].iloc[0]
    columns = ["ratio", "corpus", "tokens", "change"]
    here = table[table["unit"] == unit][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(here, there[columns], check_exact=True)


def test_a_hold_goes_on_within_a_mixture_without_a_seam(
    direct: tuple[Path, Outcome], tmp_path: Path
) -> None:
    whole = direct[1].results.query("seed == 0 and cpt_ratio == .5")
    for step in (TRUNK + 1, TRUNK + 2):
        file = tmp_path / f"{step}.npz"
        digest = exported(direct, file, whole["run"].iloc[0], step)
        assert adopt(file, Told()).digest == digest
        left = TRUNK + BRANCH - step
        mixture = (Share(DOMAIN, 0.5), Share(GENERAL, 0.5))
        rest = Phase("rest", left * STEP, mixture, (hold(),))
        run = RunSpec(MODEL, OptimizerSpec(), (rest,), seed=0, batch=4, start=digest)
        evaluate = Evaluations((GENERAL, DOMAIN), 8, "rest", (left * STEP,))
        sweep = Sweep("small", "tiny", {"only": Grid(run, {})}, evaluate)
        got = trained(tmp_path / f"out{step}", sweep).results
        columns = [*MEASURED, "corpus"]
        ends = [frame[frame["step"] == frame["step"].max()][columns] for frame in (got, whole)]
        pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in ends),
                                      check_exact=True)  # fmt: skip


def test_a_kill_does_not_touch_the_bits(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = adopted(direct, tmp_path, lab_command, 0)
    undisturbed = trained(tmp_path / "whole", branches([digest]))
    with monkeypatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, 5)
        with pytest.raises(Stopped):
            trained(tmp_path / "out", branches([digest]))
    again = trained(tmp_path / "out", branches([digest]))
    assert 0 < again.trained_tokens < 2 * BRANCH * STEP
    assert csv(again) == csv(undisturbed)


def test_arrays_of_others_are_a_trunk(tmp_path: Path, lab_command: Lab) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        name: draw.normal(size=shape) * 0.02 + name.endswith("gain_D")
        for name, shape in array_shapes(MODEL, "").items()
    }
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    model = "width=8,layers=1,heads=1,mlp_width=16,context=16"
    read = f"{GENERAL}=1_000"
    told = ["adopt", "own.npz", "--model", model, "--lr", PEAK / 10, "--read", read, "--json"]
    code, out, _ = lab_command(*told)
    assert code == 0
    value = json.loads(out)
    assert (value["optimizer"], value["lr"], value["seed"]) == ("", PEAK / 10, None)
    assert list(value["windows_read"].values()) == [1_000 // 16]
    sweep = branches([value["digest"]], optimizer=OptimizerSpec(name="muon"))
    assert "read its text in an order that is not that of seed 0" in other_orders(planned(sweep))[0]
    rows = trained(tmp_path / "out", sweep).results
    assert (rows["status"] == "done").all()
    first = rows[(rows["step"] == 0) & (rows["corpus"] == GENERAL)]
    assert abs(first["loss_nats"].iloc[0] - np.log(256)) < 0.1  # of small weights
    assert (rows[rows["step"] == BRANCH]["loss_nats"] < first["loss_nats"].iloc[0]).all()


# Refusals ------------------------------------------------------------------------------------


def test_exporting_only_reads(direct: tuple[Path, Outcome], tmp_path: Path) -> None:
    before = files_below(direct[0])
    run = direct[1].results["run"].iloc[0]
    exported(direct, tmp_path / "a.npz", run)
    exported(direct, tmp_path / "b.npz", run)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert files_below(direct[0]) == before


def test_what_is_exported_says_what_it_is(direct: tuple[Path, Outcome], tmp_path: Path) -> None:
    rows = direct[1].results
    digest = exported(direct, tmp_path / "a.npz", rows["trunk"].iloc[0])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        about = json.loads(file[ABOUT])
        assert file["params.norm.gain_D"].shape == (8,)
    came = about["provenance"]
    assert (came["step"], came["tokens"]) == (TRUNK, TRUNK * STEP)
    assert came["state"].startswith(rows["trunk"].iloc[0])
    assert set(came["corpora"]) == {GENERAL}  # what it has read
    assert came["trained_on"]["stack"] == 2
    assert came["spec"]["model"]["width"] == 8
    assert len(digest) == 64
    assert str(tmp_path) not in json.dumps(about)


def test_states_that_cannot_be_had_are_refused(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab
) -> None:
    run = direct[1].results["run"].iloc[0]
    end = TRUNK + BRANCH
    cases = [
        (["--run", "zzzz"], "no run, trunk or segment of this sweep"),
        (["--run", run[:3]], "give at least 4 of its digits"),
        (["--run", run, "--step", end + 1], f"has the steps 0..{end}"),
        (["--run", run, "--step", -1], f"has the steps 0..{end}"),
        (["--run", run, "--step", 0], "it is drawn from the seed, or adopted"),
        (["--run", run, "--step", 7], f"is stored at step 7; there are 1, 2, {TRUNK}, 5, 6, 8, 10"),
        (["--run", run, "--to", "t.txt"], "a checkpoint ends in .npz"),
    ]
    for told, why in cases:
        to = [] if "--to" in told else ["--to", "a.npz"]
        code, out, err = lab_command("export", direct[0], *told, *to)
        assert (code, out) == (2, "")
        assert why in err
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.npz").write_bytes(b"mine")
    code, _, err = lab_command("export", direct[0], "--run", run, "--to", "a.npz")
    assert code == 2
    assert "a.npz is there already" in err
    assert (tmp_path / "a.npz").read_bytes() == b"mine"
    told = ["export", direct[0], "--run", run, "--to", "a.npz", "--overwrite", "--parameters"]
    code, out, _ = lab_command(*told)
    assert code == 0
    assert "no moments" in out
    assert (tmp_path / "a.npz").read_bytes() != b"mine"


def test_a_damaged_state_is_not_exported_and_stays_where_it_is(tmp_path: Path) -> None:
    outcome = trained(tmp_path / "out", small_sweep(ratios=(0.0,), branch=2))
    trunk = outcome.results["trunk"].iloc[0]
    (segment,) = (tmp_path / "out" / "segments").glob(f"{trunk}*")
    file = max((segment.glob("attempt-*/state/**/*")), key=lambda one: one.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = files_below(tmp_path / "out")
    with pytest.raises(Failed, match=r"cannot export: state .* is damaged"):
        exported((tmp_path / "out", outcome), tmp_path / "a.npz", trunk)
    assert not (tmp_path / "a.npz").exists()
    assert files_below(tmp_path / "out") == before


def test_nothing_trained_is_nothing_to_export() -> None:
    made = planned(small_sweep())
    name = made.segments[0].end_id
    with pytest.raises(Refused, match="none yet: lab run trains them"):
        find_state(made, Index(), name, None)
    gone = Index(dropped={name})
    with pytest.raises(Refused, match="lab gc removed it"):
        find_state(made, gone, name, None)


ADOPT = [
    ("adopt nowhere.npz", "no file nowhere.npz"),
    ("adopt text.npz", "cannot be read as an .npz file"),
    ("adopt own.npz", "says nothing of its model: give --model"),
    ("adopt own.npz --model width=8", "model: key 'layers' is missing"),
    ("adopt own.npz --model width", "No such file or directory; give KEY=VALUE"),
    ("adopt own.npz --model width=8,width=9", "with each key once"),
    ("adopt own.npz --model OK,tied_embedding=no", "must be true or false"),
    ("adopt own.npz --model width=8,depth=1", "unknown key 'depth'"),
    ("adopt own.npz --model text.npz", "not JSON"),
    ("adopt own.npz --model OK", "params.embedding_VD is [3], not [256, 8]"),
    ("adopt own.npz --model OK --lr fast", "--lr fast: must be a finite number"),
    ("adopt own.npz --model OK --lr -1", "--lr -1: must be a finite number, not negative"),
    ("adopt own.npz --model OK --read prose", "must read NAME=TOKENS"),
    ("adopt own.npz --model OK --read novels=5", "unknown corpus 'novels'"),
    ("plan mine.py --set start=abc", "start = 'abc': must be the digest that lab adopt printed"),
    (f"plan mine.py --set start={'0' * 64}", "no such checkpoint was adopted here"),
]


@pytest.mark.parametrize(("told", "why"), ADOPT)
def test_a_mistake_is_one_line(lab_command: Lab, tmp_path: Path, told: str, why: str) -> None:
    (tmp_path / "text.npz").write_text("words")
    np.savez(tmp_path / "own.npz", **{"params.embedding_VD": np.ones(3)})  # type: ignore[arg-type]
    study_file(tmp_path)
    before, known = files_below(tmp_path), known_digests()
    good = "width=8,layers=1,heads=1,mlp_width=16,context=16"
    code, out, err = lab_command(*told.replace("OK", good).split())
    assert (code, out) == (2, "")
    assert why in err
    assert err.startswith("lab: ")
    assert err.count("\n") == 1
    assert (files_below(tmp_path), known_digests()) == (before, known)


def test_a_sweep_that_does_not_fit_its_checkpoint_is_refused(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab
) -> None:
    digest = adopted(direct, tmp_path, lab_command, 0)
    study_file(tmp_path)
    told = ["plan", "mine.py", "--set", f"start={digest}"]
    assert lab_command(*told)[0] == 0  # its trunk's phase comes first: it is trained further
    code, _, err = lab_command(*told, "--set", "model.mlp_width=24")
    assert code == 2
    assert f"model.mlp_width = 24: start = {digest[:12]}... is a checkpoint with 16" in err
    with pytest.raises(Refused, match="has the moments of adamw"):
        planned(branches([digest], optimizer=OptimizerSpec(name="muon")))


def test_damage_since_fails_in_one_line_and_nothing_is_trained(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab
) -> None:
    digest = adopted(direct, tmp_path, lab_command, 0)
    file = home() / "adopted" / f"{digest}.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Failed, match="is damaged, adopt its file again"):
        trained(tmp_path / "out", branches([digest]))
    assert lab_command("adopt", tmp_path / "0.npz")[0] == 0
    assert trained(tmp_path / "out", branches([digest])).trained_tokens == 2 * BRANCH * STEP


# What is listed ------------------------------------------------------------------------------


def test_names_are_those_that_a_file_needs(told_json: Callable[..., Any]) -> None:
    model = "width=8,layers=1,heads=1,mlp_width=16,context=16,vocabulary=32,tied_embedding=true"
    names = told_json("adopt", "--names", "--model", model)
    assert names["adamw"]["params.embedding_VD"] == [32, 8]
    assert "params.head_DV" not in names["adamw"]
    assert "optimizer.nu.blocks.0.mlp.up_DF" not in names["muon"]


def test_what_was_adopted_is_listed(
    direct: tuple[Path, Outcome], tmp_path: Path, lab_command: Lab, told_json: Callable[..., Any]
) -> None:
    digest = adopted(direct, tmp_path, lab_command, 1)
    row = next(one for one in told_json("adopt") if one["digest"] == digest)
    assert row["provenance"]["step"] == TRUNK
    assert row["seed"] == 1
    assert open_adopted(digest).model == MODEL
    assert f"{digest}  width 8, layers 1; small at step {TRUNK}" in lab_command("adopt")[1]


def test_a_model_is_typed_or_read_from_a_file(tmp_path: Path) -> None:
    typed = parse_model("width=8, layers=1, heads=1, mlp_width=16, context=16")
    assert typed == MODEL
    (tmp_path / "model.json").write_text(json.dumps(dataclasses.asdict(MODEL)))
    assert parse_model(str(tmp_path / "model.json")) == MODEL
    assert parse_lr("3e-4") == 3e-4
