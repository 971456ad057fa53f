"""A mistake is one line and exit code 2, whatever it is, and nothing on disk has changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import lab.store
import sweeps.run
from tests.sweeps.small import files_below, study_file

Lab = Callable[..., tuple[int, str, str]]


REFUSED = [
    ("plan cmrr", "did you mean 'cmr'?"),
    ("plan nowhere.py", "no study file nowhere.py"),
    ("plan cmr --scale huge", "cmr has smoke, tiny, small, paper"),
    ("plan cmr --scale tinny", "did you mean 'tiny'?"),
    ("plan cmr --set generl=code", "did you mean 'general'?"),
    ("plan cmr --set general=novels", "unknown corpus 'novels'; known: "),
    ("plan cmr --set general=pros+docs", "did you mean 'prose'?"),
    ("plan cmr --set eps=nan", "eps = nan: must be a finite number"),
    ("plan cmr --axis cpt.rato=.5", "did you mean 'ratio'?"),
    ("plan cmr --axis w25:cpt.ratio=.5", "did you mean 'w24'?"),
    ("plan cmr --axis cpt.ratio=2", "must be a number in [0, 1]"),
    ("run cmr --axis cpt.peak_lr=1e-3,2e-3", "cmr reads only the axes seed and cpt.ratio"),
    ("run cmr --axis cpt.ratio=1/2", "needs two values of cpt.ratio in (0, 1)"),
    ("plan cmr --set model.vocabulary=9", "needs 256"),
    ("plan cmr --stack -1", "stack = -1: must be at least 1 lane"),
    ("plan cmr --mesh rows=2", "must read AXIS=SIZE"),
    ("plan cmr --mesh data=5", "data x fsdp = 5: must divide batch = 32"),
    ("plan cmr --mesh data=16", "needs 16 devices: there are 8"),
    ("plan cmr --mesh data=4 --devices 2", "needs 4 devices: there are 2"),
    ("plan cmr --devices 0", "--devices 0: must be at least 1"),
    ("plan cmr --mesh run=2,data=2 --stack 3", "mesh run=2: must divide the stack of 3"),
    ("plan cmr --accumulate 3", "accumulate = 3: must divide batch = 32"),
    ("plan cmr --set precision=float16", "one of float32, bfloat16"),
    ("plan cmr --set optimizer.name=sgd", "one of adamw, muon"),
    ("run cmr --mesh tensor=4", "tensor = 4: must divide model.heads = 2"),
    ("run cmr --mesh fsdp=32 --scale smoke", "fsdp = 32: must divide batch = 16"),
    ("run cmr --mesh data=16 --scale smoke", "needs 16 devices: there are 8"),
    ("run cmr --accumulate 0", "accumulate = 0: must be at least 1"),
    ("run cmrr", "did you mean 'cmr'?"),
    ("run cmr --scale small", "(at most 4): prepare a larger corpus"),
    ("run cmr --scale paper", "(at most 4): prepare a larger corpus"),
    ("run cmr --set windows=99999", "evaluate fewer, or prepare more text"),
    ("run cmr --set horizons=40000", "must be whole steps of 2048 tokens"),
    ("run cmr --stack 0", "stack = 0: must be at least 1 lane"),
    ("run cmr --out losses.csv", "losses.csv is not a folder"),
    ("run cmr --out .", "no sweep's folder"),
    ("run cmr --scale smoke --out losses.csv/out", "cannot write to losses.csv/out: Not a dir"),
    ("run cmr --scale smoke --out /proc/out", "cannot write to /proc/out: "),
    ("status .", "no sweep's folder"),
    ("gc nowhere", "nowhere holds no sweep"),
    ("gc . --delete", "no sweep's folder"),
    ("merge SMOKE nowhere", "nowhere holds no sweep"),
    ("merge SMOKE SMOKE", "are one folder"),
    ("merge . SMOKE", "no sweep's folder"),
    ("merge SMOKE .", "no sweep's folder"),
    ("merge losses.csv SMOKE", "losses.csv is not a folder"),
    ("merge losses.csv/new SMOKE", "cannot write to losses.csv/new: Not a directory"),
    ("merge /proc/new SMOKE", "cannot write to /proc/new: "),
    ("status nowhere", "nowhere holds no sweep"),
    ("results nowhere", "nowhere holds no sweep"),
    ("results SMOKE --to table.txt", "ends in .csv or .parquet"),
    ("report nowhere --to a.html", "nowhere holds no sweep"),
    ("report SMOKE --to a.pdf", "a report ends in .html or .md"),
    ("plot SMOKE --to a.txt", "svg"),
    ("plot SMOKE --to a.svg --figure zebra", "no figure 'zebra'"),
    ("plot SMOKE --to a.svg --figure critical-ratio", "did you mean 'critical_ratio'?"),
    ("plot nowhere --to a.svg", "cannot read nowhere"),
    ("plot SMOKE/fit.json --to a.svg --figure zebra", "no fit 'zebra'"),
    ("plot SMOKE/fit.json --to a.svg --figure cmr-ration", "did you mean 'cmr-ratio'?"),
    ("fit chinchila losses.csv", "did you mean 'chinchilla'?"),
    ("fit chinchilla nowhere.csv", "cannot read nowhere.csv: "),
    ("fit chinchilla losses.txt", "a table ends in .csv or .parquet"),
    ("fit chinchilla spoilt.parquet", "as a table"),
    ("fit cmr-ratio losses.csv", "the table has no column 'ratio_domain'"),
    ("fit chinchilla nan.csv", "is not a finite number"),
    ("fit chinchilla few.csv", "has 5 free parameters and the table 3 different points"),
    ("fit chinchilla losses.csv --bootstrap -1", "--bootstrap -1: must not be negative"),
    ("fit chinchilla losses.csv --bootstrap x", "invalid int value: 'x'"),
    ("fit chinchilla losses.csv --where n_params", "must read 'column op value'"),
    ("fit chinchilla losses.csv --where width>1", "no column 'width'"),
    ("fit chinchilla losses.csv --holdout n_params>big", "n_params holds numbers"),
    ("fit chinchilla losses.csv --per size", "no column 'size'"),
    ("fit chinchilla losses.csv --per familly", "did you mean 'family'?"),
    ("fit chinchilla losses.csv --where n_param>1", "did you mean 'n_params'?"),
    ("fit chinchilla losses.csv --by size", "no such column"),
    ("fit chinchilla losses.csv --pin E", "must read NAME=VALUE"),
    ("fit chinchilla losses.csv --pin E=low", "--pin 'low': must be a number"),
    ("fit chinchilla losses.csv --pin Z=1", "no parameter 'Z'"),
    ("fit chinchilla losses.csv --pin alpa=1", "did you mean 'alpha'?"),
    ("fit chinchilla losses.csv --objective hubber-log", "did you mean 'huber'?"),
    ("frontier akimma losses.csv", "did you mean 'akima'?"),
    ("fit chinchilla losses.csv --columns tokens=n_tokens", "no variable 'tokens'"),
    ("predict nowhere.json losses.csv", "cannot read nowhere.json"),
    ("predict losses.csv losses.csv", "losses.csv is a table, not a fit"),
    ("predict SMOKE/sweep.json losses.csv", "holds no fits"),
    ("predict SMOKE/fit.json losses.csv", "holds several laws"),
    ("predict SMOKE/fit.json losses.csv --name zebra", "no fit 'zebra'"),
    ("predict SMOKE/fit.json losses.csv --name cmr-rato", "did you mean 'cmr-ratio'?"),
    ("data prepare Mine losses.csv", "small letters, digits, - and _ only"),
    ("data prepare code losses.csv", "corpus 'code' is built in"),
    ("data prepare mine nowhere.txt", "nowhere.txt"),
    ("plann", "did you mean 'plan'?"),
    ("data lst", "did you mean 'list'?"),
    ("data prepare mine losses.csv --tokenizer words", "tokenizer 'words': must be bytes, bpe:"),
    ("data prepare mine losses.csv --keep Score", "label 'Score': small letters"),
    ("data prepare mine losses.csv --keep score", "plain text, which has no columns"),
    ("data prepare mine losses.csv --processes 0", "processes = 0: must be at least 1"),
    ("data prepare mine losses.csv", "needs at least two documents, to hold one out"),
    ("data prepare mine spoilt.parquet", "cannot read spoilt.parquet: "),
    ("data scores code --only taste", "corpus 'code' has no score 'taste'"),
    ("data", "the following arguments are required: VERB"),
    ("", "the following arguments are required: VERB"),
    ("studies --colour", "lab studies: unrecognized arguments: --colour; see lab studies --help"),
    ("plan cmr --scal=tiny --jsno", "unrecognized arguments: --jsno; did you mean '--json'?"),
    ("run cmr --engine slrum", "did you mean 'slurm'?"),
    ("run cmr --track wandb,tensorbord", "did you mean 'tensorboard'?"),
]


@pytest.mark.parametrize(("told", "said"), REFUSED)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_on_disk(
    lab_command: Lab, smoke: Path, losses: Path, tmp_path: Path, told: str, said: str
) -> None:
    frame = pd.read_csv(losses)
    frame.assign(loss_nats=frame["loss_nats"].where(frame.index != 4)).to_csv("nan.csv")
    frame.head(3).to_csv("few.csv")
    Path("spoilt.parquet").write_bytes(b"PAR1")
    before = files_below(tmp_path), files_below(smoke)
    code, out, err = lab_command(*told.replace("SMOKE", str(smoke)).split())
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("lab")
    assert err.count("\n") == 1
    assert (files_below(tmp_path), files_below(smoke)) == before


@pytest.mark.parametrize("told", ["run cmr --scale smoke --out OLD", "status OLD", "results OLD",
                                  "gc OLD --delete", "merge OLD SMOKE", "merge SMOKE OLD",
                                  "report OLD --to a.html", "plot OLD --to a.svg"])  # fmt: skip
def test_a_folder_of_another_schema_version_is_one_line_and_exit_code_2(
    lab_command: Lab, smoke: Path, tmp_path: Path, told: str
) -> None:
    description = json.loads((smoke / "sweep.json").read_text())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.json").write_text(json.dumps(description | {"schema": 0}))
    before = files_below(tmp_path), files_below(smoke)
    words = told.replace("SMOKE", str(smoke)).replace("OLD", "old").split()
    code, out, err = lab_command(*words)
    assert (code, out) == (2, "")
    assert err == "lab: old has schema 0, this lab 1\n"
    assert (files_below(tmp_path), files_below(smoke)) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("told", ["run cmr --scale smoke --out shut", "merge shut SMOKE"])
def test_a_folder_that_may_not_be_written_is_one_line_and_exit_code_2(
    lab_command: Lab, smoke: Path, tmp_path: Path, told: str
) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    code, out, err = lab_command(*told.replace("SMOKE", str(smoke)).split())
    assert (code, out, err) == (2, "", "lab: cannot write to shut: Permission denied\n")
    assert list((tmp_path / "shut").iterdir()) == []


def test_a_full_disk_is_one_line_and_exit_code_1(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lab.store, "_write", full)
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("lab: disk full while writing to out")


def test_an_interrupt_is_one_line_and_exit_code_130(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(sweeps.run.Display):
        def logged(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweeps.run, "Display", Interrupted)
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (130, "", 1)
    assert "run again to go on" in err
