"""Plan against actual, a row a run, and what the checklist is told of the training."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from fits.checklist import COLLECTION, TRAINING
from lab.store import Index
from sweeps.plan import Plan
from sweeps.results import table
from sweeps.run import Outcome
from sweeps.set_up import set_up
from sweeps.studies.cmr import STUDY
from sweeps.study import ask, command_of
from sweeps.what_ran import planned_and_there, runs_table
from sweeps.write_up import LINE, readable
from tests.sweeps.small import BRANCH, STEP, TRUNK, planned, small_sweep, trained


def plan_of(scale: str) -> Plan:
    return planned(ask(STUDY, scale)[1])


def there(plan: Plan, index: Index) -> pd.DataFrame:
    return planned_and_there(plan, index, table(plan, index)).frame.set_index("what")


def test_a_whole_sweep_has_all_that_was_planned(whole: Outcome) -> None:
    frame = there(whole.plan, whole.index)
    assert (frame["planned"] == frame["there"]).all()
    assert frame.loc["runs", "there"] == "2"
    assert frame.loc["training tokens", "planned"] == f"{(TRUNK + 2 * BRANCH) * STEP / 1e3:.1f} k"
    assert frame.loc["evaluations", "note"] == "all"
    # two corpora; the state before the first step is one of the trunk's
    states = sum(len(segment.stops) for segment in whole.plan.segments)
    assert frame.loc["evaluations", "planned"] == str(2 * states)


def test_nothing_is_there_before_anything_ran(whole: Outcome) -> None:
    frame = there(whole.plan, Index())
    assert set(frame["there"]) == {"0"}
    assert frame.loc["training FLOPs", "note"] == "0 % of it"


def test_a_plan_that_grew_says_how_much_of_it_is_there(whole: Outcome) -> None:
    grown = planned(small_sweep(ratios=(0.0, 0.5, 1.0)))
    frame = there(grown, whole.index)
    assert tuple(frame.loc["runs", ["planned", "there"]]) == ("3", "2")
    share = (TRUNK + 2 * BRANCH) / (TRUNK + 3 * BRANCH)
    assert frame.loc["training tokens", "note"] == f"{100 * share:.3g} % of it"
    runs = runs_table(grown, table(grown, whole.index)).frame
    assert list(runs["status"]) == ["done", "done", "incomplete"]


def test_a_run_that_diverged_is_counted_as_far_as_it_came(tmp_path: Path) -> None:
    wild = small_sweep(cpt__schedule=([{"shape": "warm", "tokens": STEP, "to_lr": 1e30},
                                       {"shape": "hold"}],))  # fmt: skip
    outcome = trained(tmp_path, wild)
    frame = there(outcome.plan, outcome.index)
    assert tuple(frame.loc["runs", ["there", "note"]]) == ("0", "2 diverged")
    assert "2 ended by divergence" in frame.loc["segments", "note"]
    assert frame.loc["training tokens", "note"] != "all"
    runs = runs_table(outcome.plan, outcome.results).frame
    assert set(runs["status"]) == {"diverged"}


def test_a_row_a_run_with_its_losses_at_its_end(whole: Outcome) -> None:
    runs = runs_table(whole.plan, whole.results).frame
    assert list(runs.columns) == [
        "run", "arm", "seed", "cpt_ratio", "parameters", "tokens", "status",
        "loss synthetic-words", "loss synthetic-markov",
    ]  # fmt: skip
    assert list(runs["cpt_ratio"]) == [0.0, 0.5]
    for _, row in runs.iterrows():
        own = whole.results[whole.results["run"] == row["run"]]
        end = own[own["step"] == TRUNK + BRANCH].set_index("corpus")["loss_nats"]
        assert row["loss synthetic-words"] == end["synthetic-words"]
        assert row["loss synthetic-markov"] == end["synthetic-markov"]


def test_a_run_of_several_arms_is_one_row() -> None:
    sweep = small_sweep()
    both = planned(type(sweep)("small", "tiny", {**sweep.arms, "more": sweep.arms["only"]},
                               sweep.evaluate))  # fmt: skip
    runs = runs_table(both, table(both, Index())).frame
    assert list(runs["arm"]) == ["only, more"] * 2
    assert list(runs["status"]) == ["not trained"] * 2


def test_the_checklist_hears_what_the_plan_knows() -> None:
    plan = plan_of("tiny")
    told = set_up(plan, table(plan, Index()))
    assert set(told) == {*TRAINING, *COLLECTION}
    _, sweep = ask(STUDY, "tiny")
    widths = sorted({one.base.model.width for one in sweep.arms.values()})
    assert f"width {', '.join(map(str, widths))} (by size)" in told["shape"]
    assert "layers 2;" in told["shape"]
    assert "35 runs of 3 sizes: 26,232, 60,360, 133,440 parameters" in told["models"]
    assert "weight decay 0.1;" in told["hyperparameters"]
    assert "(by size)" in told["hyperparameters"]  # the peak rate follows the width
    assert told["repeated"] == "No corpus is read more than once"
    assert told["seeds"] == "1 .. 3 an arm"
    assert "256 windows" in told["metric"]
    assert told["checkpoints"].endswith("is not recorded")


def test_repetition_is_said_with_how_often() -> None:
    assert "code" in set_up(plan_of("paper"), pd.DataFrame())["repeated"]


@pytest.mark.parametrize(
    "value", [{}, [], {"a": []}, {"a": {"b": list(range(60)), "c": ["<&>", None, True, 1e-30]}}]
)
def test_json_for_people_is_json_of_short_lines(value: object) -> None:
    text = readable(value)
    assert json.loads(text) == value
    assert all(len(line) <= LINE for line in text.split("\n"))


def test_the_command_of_a_sweep_asks_for_it_again() -> None:
    settings, sweep = ask(STUDY, "smoke", ["domain=docs", "general=prose", "eps=0,.02"])
    words = shlex.split(command_of(STUDY, settings, sweep))
    assert words[:5] == ["lab", "run", "cmr", "--scale", "smoke"]
    sets = [one for one in words[5:] if one != "--set"]
    assert {one.partition("=")[0] for one in sets} == {"domain", "general", "eps"}
    again, other = ask(STUDY, "smoke", sets)
    assert again == settings
    assert other.to_json() == sweep.to_json()
    assert command_of(STUDY, *ask(STUDY, "smoke")) == "lab run cmr --scale smoke"


def test_a_command_that_is_not_all_says_so() -> None:
    changed = ask(STUDY, "smoke", ["domain=docs", "optimizer.weight_decay=.2"])
    command, more = command_of(STUDY, *changed).splitlines()
    assert command == "lab run cmr --scale smoke --set domain=docs"
    assert more.startswith("# ")
    grown = ask(STUDY, "smoke", axes=["cpt.ratio+=.6"])
    assert len(command_of(STUDY, *grown).splitlines()) == 2
