"""`lab plan` beside a folder that stands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.folder import Folder
from sweeps.studies.cmr import STUDY
from sweeps.study import ask


def test_a_plan_says_that_its_folder_holds_another_sweep(told_json: Callable[..., Any]) -> None:
    """`lab run` would refuse it: so it is said where the run is weighed."""
    settings, sweep = ask(STUDY, "smoke")
    Path("here").mkdir()
    Folder(Path("here")).write(sweep, settings, {}, 2)
    plan = ("plan", "cmr", "--scale", "smoke", "--out", "here")
    other = told_json(*plan, "--set", "domain=synthetic-words")["warnings"]
    (said,) = [one for one in other if "holds another sweep" in one]
    assert said.startswith("here ")
    assert said.endswith("; lab run will refuse")
    for grown in (plan, (*plan, "--axis", "cpt.ratio+=.6")):
        assert not [one for one in told_json(*grown)["warnings"] if "another sweep" in one]
