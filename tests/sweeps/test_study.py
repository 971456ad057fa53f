"""A study is asked for by name or file; every change of it is a setting, a field or an axis."""

from pathlib import Path
from typing import Any

import pytest

from lab.errors import Refused
from sweeps.study import Study, ask, built_in, find_study
from sweeps.sweep import Sweep
from tests.sweeps.small import STUDY_FILE, study_file


@pytest.fixture
def mine(tmp_path: Path) -> Study:
    return find_study(str(study_file(tmp_path)))


def grid(sweep: Sweep) -> Any:
    return sweep.arms["only"]


def refusal(study: Study, **told: Any) -> str:
    with pytest.raises(Refused) as refused:
        ask(study, **told)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Which study ---------------------------------------------------------------------------------


def test_a_built_in_study_is_found_by_its_name() -> None:
    for name in built_in():
        assert find_study(name).name == name
    assert "cmr" in built_in()


def test_a_study_of_ones_own_is_found_by_its_file(mine: Study) -> None:
    assert (mine.name, mine.title) == ("mine", "My study")
    settings, sweep = ask(mine)
    assert (sweep.study, sweep.scale) == ("mine", "tiny")
    assert mine.cautions(settings, sweep) == ["few runs"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "cmrr",
            f"unknown study 'cmrr'; known: {', '.join(built_in())}, or a .py file; "
            "did you mean 'cmr'?",
        ),
        ("zebra", "or a .py file"),
        ("nowhere/mine.py", "no study file nowhere/mine.py"),
        ("", "unknown study ''"),
    ],
)
def test_a_study_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        find_study(name)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "STUDY = 3", STUDY_FILE.replace("STUDY =", "STUDIES =")])
def test_a_file_without_a_study_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "empty.py"
    file.write_text(text)
    with pytest.raises(Refused, match=r"empty\.py defines no STUDY"):
        find_study(str(file))


def test_a_file_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    file = study_file(tmp_path)
    assert find_study(str(file)).title == "My study"
    file.write_text(STUDY_FILE.replace("My study", "My other study"))
    assert find_study(str(file)).title == "My other study"


def test_an_unknown_scale_is_refused(mine: Study) -> None:
    assert refusal(mine, scale="paper") == "unknown scale 'paper'; mine has smoke, tiny"


# Changes -------------------------------------------------------------------------------------


def test_settings_are_set_by_their_type_and_make_the_sweep(mine: Study) -> None:
    told = ["branch=8", "seeds=3,4", "shares=1/4,1", "label=a,b", "loud=True"]
    settings, sweep = ask(mine, sets=told)
    assert (settings.branch, settings.seeds, settings.shares) == (8, (3, 4), (0.25, 1.0))
    assert (settings.label, settings.loud) == ("a,b", True)
    assert grid(sweep).axes == {"seed": (3, 4), "cpt.ratio": (0.25, 1.0)}
    assert grid(sweep).base.phases[1].tokens == 8 * 64


def test_a_list_is_extended_with_what_is_not_in_it_yet(mine: Study) -> None:
    settings, _ = ask(mine, sets=["shares+=.5,1", "shares+=1/8"])
    assert settings.shares == (0.0, 0.5, 1.0, 0.125)


def test_fields_of_a_run_are_set_in_every_arm(mine: Study) -> None:
    _, sweep = ask(mine, sets=["optimizer.weight_decay=0", "cpt.peak_lr=1/500", "batch=2"])
    base = grid(sweep).base
    assert (base.optimizer.weight_decay, base.phases[1].schedule[0].to_lr) == (0.0, 0.002)
    assert base.batch == 2


def test_axes_are_replaced_and_extended_after_the_settings(mine: Study) -> None:
    _, sweep = ask(mine, sets=["seeds=5"], axes=["seed+=6", "cpt.ratio=1", "only:batch=2,4"])
    assert grid(sweep).axes == {"seed": (5, 6), "cpt.ratio": (1.0,), "batch": (2, 4)}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("brunch=8", "did you mean 'branch'?"),
        ("zzz=8", "the study's settings are branch, seeds, shares, label, loud, or a field"),
        ("optimizer.weightdecay=0", "did you mean 'weight_decay'?"),
        ("branch=8.5", "branch = 8.5: must be a whole number"),
        ("branch=eight", "branch = 'eight': must be a number"),
        ("branch=nan", "branch = nan: must be a finite number"),
        ("shares=0,inf", "shares = inf: must be a finite number"),
        ("shares=0,0", "axis cpt.ratio: names a value twice"),
        ("shares=2", "cpt.ratio = 2.0: must be a number in [0, 1]"),
        ("loud=yes", "loud = yes: must be true or false"),
        ("branch+=8", "branch: takes one value; write branch=8"),
        ("optimizer.b1+=.8", "optimizer.b1: takes one value; write optimizer.b1=.8"),
        ("seed=1", "seed is an axis of this sweep: give its values with --axis"),
        ("branch", "'branch': must read --set key=value"),
        ("branch=", "'branch=': must read --set key=value"),
        ("=8", "'=8': must read --set key=value"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(mine: Study, told: str, said: str) -> None:
    def asked() -> None:
        _, sweep = ask(mine, sets=[told])
        list(grid(sweep).points())

    with pytest.raises(Refused) as refused:
        asked()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("cpt.ration=1", "did you mean 'ratio'?"),
        ("small:seed=1", "unknown arm 'small'; the arms are only"),
        ("seed=1,1", "axis seed: names a value twice"),
        ("seed=1,,2", "seed = '': must be a number"),
        ("seed", "'seed': must read --axis path=v1,v2"),
    ],
)
def test_an_axis_that_cannot_be_is_refused_in_one_line(mine: Study, told: str, said: str) -> None:
    assert said in refusal(mine, axes=[told])
