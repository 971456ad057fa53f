"""The Tab key: what is offered is what is taken, in each shell that is here, without JAX."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fits.laws import all_laws
from lab.corpora import known_names
from sweeps import study
from sweeps.cli import parser
from sweeps.commands import answers
from sweeps.verbs import complete
from tests.sweeps.small import ROOT, study_file

pytest.importorskip("argcomplete")
PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
LAB = f'"{sys.executable}" -m sweeps.cli'
HEAVY = ("jax", "scipy", "pandas", "matplotlib", "orbax", "grain", "rich")


def offered(line: str, cwd: Path) -> list[str]:
    """What argcomplete would hand to the shell at the end of a line."""
    answer = cwd / "offered.txt"
    answer.write_text("")
    told = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            open(os.environ["_ARGCOMPLETE_STDOUT_FILENAME"], "w").write("loads " + name)
            os._exit(1)
sys.meta_path.insert(0, Watch())
from sweeps.cli import main
main([])
"""
    env = {**os.environ, **told, "PYTHONPATH": PATH}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, check=False)
    words = [one.strip() for one in answer.read_text().split("\n") if one.strip()]
    answer.unlink()
    return words


def test_names_that_only_the_lab_knows_are_offered(tmp_path: Path) -> None:
    assert set(offered("lab plan ", tmp_path)) >= set(study.built_in())
    assert offered("lab run lr_t", tmp_path) == ["lr_transfer"]
    assert offered("lab fit kaplan,chinc", tmp_path) == ["kaplan,chinchilla"]
    assert offered("lab data scores damaged-c", tmp_path) == ["damaged-code"]
    assert offered("lab plan cmr --scale ", tmp_path) == list(study.SCALES)
    assert offered("lab run cmr --engine s", tmp_path) == ["slurm"]
    assert offered("lab frontier ak", tmp_path) == ["akima"]
    keys = offered("lab plan cmr --set ", tmp_path)
    assert {"eps=", "horizons=", "optimizer.weight_decay=", "model.width=", "seed="} <= set(keys)


def test_what_stands_in_files_is_offered(smoke: Path, losses: Path, tmp_path: Path) -> None:
    figures = offered(f"lab plot {smoke} --figure ", tmp_path)
    assert set(figures) == {file.stem for file in (smoke / "figures").iterdir()}
    assert "cmr-ratio" in offered(f"lab predict {smoke}/fit.json t.csv --name ", tmp_path)
    both = ["n_params", "n_tokens"]
    assert offered(f"lab fit chinchilla {losses} --per n_", tmp_path) == both
    found = offered(f"lab frontier akima {smoke}/results.parquet --per train", tmp_path)
    assert found == ["train_flops"]
    assert offered("lab fit chinchilla loss", tmp_path) == ["losses.csv"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(smoke)
    assert offered("lab status ru", tmp_path) == ["runs/"]
    assert offered("lab status runs/", tmp_path) == ["runs/mine"]


def test_a_study_of_ones_own_is_read_and_not_run(tmp_path: Path) -> None:
    file = Path(study_file(tmp_path))
    file.write_text(file.read_text() + "\nraise SystemExit('the Tab key ran this')\n")
    assert offered("lab plan mi", tmp_path) == ["mine.py"]
    keys = offered("lab plan mine.py --set ", tmp_path)
    assert {"branch=", "shares=", "model.width="} <= set(keys)


def test_what_is_offered_is_what_is_taken() -> None:
    assert complete.SCALES == study.SCALES
    assert complete.METHODS == answers.METHODS
    assert complete.studies() == list(study.built_in())
    assert complete.corpora() == known_names()
    assert complete.laws("") == [one.name for one in all_laws()]
    for name in study.built_in():
        one = study.find_study(name)
        settings = list(vars(one.settings(one.default_scale)))
        keys = complete.setting_keys(argparse.Namespace(study=name))
        assert [key[:-1] for key in keys] == [*settings, *complete._run_fields()]


def test_every_word_that_is_completed_is_one_of_the_command() -> None:
    actions = [action for one in complete.parsers(parser()) for action in one._actions]
    words = {word for action in actions for word in (*action.option_strings, str(action.metavar))}
    assert set(complete.COMPLETERS) <= words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_reads_its_lines(told_json: Callable[..., Any], shell: str) -> None:
    script = told_json("completion", shell)["script"]
    assert "lab" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes(tmp_path: Path) -> None:
    code = f"""
lab() {{ {LAB} "$@"; }}; export -f lab
eval "$(lab completion bash)"
COMP_LINE="lab plan lr_t"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(lab plan lr_t); COMP_CWORD=2
COMP_TYPE=9; _python_argcomplete lab "lr_t" plan; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PYTHONPATH": PATH},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "lr_transfer", json.dumps(done.stderr)
