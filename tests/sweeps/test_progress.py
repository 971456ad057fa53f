"""What a person sees while a sweep runs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import sweeps.progress
from lab.store import EvaluationRow, Index, StepRow
from sweeps.notes import read_notes
from sweeps.plan import Plan
from sweeps.progress import SHOWN, Display, clock, cost, count, duration, group_table, percent
from sweeps.remaining import Remaining, remaining
from sweeps.speed import Peak, Speed
from sweeps.tally import Group, Tally, expect, make_groups, total_left
from tests.sweeps.small import BRANCH, STEP, TRUNK, planned, small_sweep

TOKENS = (TRUNK + 2 * BRANCH) * STEP


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A trunk and two branches of one shape."""
    return planned(small_sweep())


@pytest.fixture(scope="module")
def two_shapes() -> Plan:
    """The same at two widths."""
    return planned(small_sweep(model__mlp_width=(16, 32)))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(sweeps.progress.time, "monotonic", lambda: now[0])
    return now


def all_of(plan: Plan) -> Remaining:
    return remaining(plan, Index())


def steps(first: int, stop: int) -> list[StepRow]:
    return [StepRow(k, 5.0, 1e-2, 1.0, (k + 1) * STEP) for k in range(first, stop)]


def train(tally: Tally | Display, number: int, diverged: int | None = None) -> None:
    """A piece of work, from its lane to its end."""
    work = (tally if isinstance(tally, Tally) else tally.tally).work[number]
    tally.started(work)
    tally.logged(work, steps(work.start, work.stop if diverged is None else diverged))
    tally.finished(work, diverged)


def text_of(groups: list[Group], width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    console.print(group_table(groups))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (0, "0 s", "0:00"),
        (42.4, "42 s", "0:42"),
        (60, "1 min 00 s", "1:00"),
        (190, "3 min 10 s", "3:10"),
        (3599.6, "1 h 00 min", "1:00:00"),
        (7500, "2 h 05 min", "2:05:00"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str, short: str) -> None:
    assert (duration(seconds), clock(seconds)) == (text, short)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (41_600, "41.6 k"),
        (22_100_000, "22.1 M"),
        (3.1e9, "3.1 B"),
        (2e21, "2e+21"),
    ],
)
def test_counts_are_said_as_people_say_them(number: float, text: str) -> None:
    assert count(number) == text


def test_shares_keep_a_digit_where_they_are_small() -> None:
    assert [percent(one) for one in (0, 0.004, 0.23, 1.04)] == ["0%", "0.4%", "23%", "104%"]


# What is known -------------------------------------------------------------------------------


def test_a_tally_follows_every_segment_to_its_end(plan: Plan) -> None:
    tally = Tally(plan, all_of(plan))
    (group,) = tally.groups

    def counts() -> tuple[int, ...]:
        return group.done, group.running, group.waiting, group.tokens_done, group.tokens_left

    assert (group.segments, group.tokens) == (3, TOKENS)
    assert counts() == (0, 0, 3, 0, TOKENS)
    trunk = tally.work[0]
    tally.started(trunk)
    assert counts() == (0, 1, 2, 0, TOKENS)
    tally.logged(trunk, steps(0, 3))
    assert counts() == (0, 1, 2, 3 * STEP, TOKENS - 3 * STEP)
    tally.logged(trunk, steps(3, TRUNK))
    tally.finished(trunk, None)
    assert counts() == (1, 0, 2, TRUNK * STEP, TOKENS - TRUNK * STEP)
    train(tally, 1)
    train(tally, 2)
    assert counts() == (3, 0, 0, TOKENS, 0)
    assert (group.tokens_spent, group.failed, group.diverged) == (TOKENS, 0, 0)


def test_what_branches_off_a_diverged_trunk_is_diverged_too_and_not_waited_for(plan: Plan) -> None:
    tally = Tally(plan, all_of(plan))
    train(tally, 0, diverged=2)
    (group,) = tally.groups
    assert (group.done, group.running, group.waiting, group.diverged) == (0, 0, 0, 3)
    assert (group.tokens_done, group.tokens_left) == (2 * STEP, 0)
    expect(tally.groups)
    assert total_left(tally.groups) == 0.0


def test_what_was_done_before_counts_as_done_and_costs_nothing(plan: Plan) -> None:
    todo = all_of(plan)
    rest = Remaining(todo.work[2:], done=[0, 1])
    (group,) = Tally(plan, rest).groups
    assert (group.done, group.waiting, group.segments) == (2, 1, 3)
    assert (group.tokens_done, group.tokens_left) == (TOKENS - BRANCH * STEP, BRANCH * STEP)
    assert group.tokens_spent == 0
    assert "brought here, or trained before costs were noted" in cost([group])


def test_what_a_budget_cuts_is_in_no_group(plan: Plan) -> None:
    (group,) = Tally(plan, Remaining(all_of(plan).work[:2])).groups
    assert (group.segments, group.tokens) == (2, (TRUNK + BRANCH) * STEP)


def test_time_left_is_by_flops_at_each_groups_own_speed(two_shapes: Plan) -> None:
    now = [0.0]
    speed = Speed("test", {1: 1e6})
    tally = Tally(two_shapes, all_of(two_shapes), speed, clock=lambda: now[0])
    small, large = tally.groups
    expect(tally.groups)
    assert small.seconds_left == pytest.approx(TOKENS * small.flops_per_token / 1e6)
    work = next(one for one in tally.work if tally.of_segment[one.segment] is small)
    tally.started(work)
    now[0] += 2.0
    tally.logged(work, steps(0, 2))
    expect(tally.groups)
    assert small.tokens_per_second == 2 * STEP / 2.0
    assert small.seconds_left == pytest.approx((TOKENS - 2 * STEP) / STEP)
    assert large.seconds_left == pytest.approx(TOKENS * large.flops_per_token / 1e6)
    assert large.seconds_planned == large.seconds_left


def test_without_a_measured_speed_what_has_not_begun_goes_by_what_is_under_way(
    two_shapes: Plan,
) -> None:
    now = [0.0]
    tally = Tally(two_shapes, all_of(two_shapes), clock=lambda: now[0])
    small, large = tally.groups
    expect(tally.groups)
    assert total_left(tally.groups) is None
    work = next(one for one in tally.work if tally.of_segment[one.segment] is small)
    tally.started(work)
    now[0] += 1.0
    tally.logged(work, steps(0, 4))
    expect(tally.groups)
    rate = 4 * STEP * small.flops_per_token
    assert large.seconds_left == pytest.approx(TOKENS * large.flops_per_token / rate)
    assert large.seconds_planned is None  # a guess is no plan


def test_shapes_are_told_apart_by_what_differs() -> None:
    sweep = small_sweep(model__width=(8, 16), precision=("float32", "bfloat16"))
    labels = [one.label for one in make_groups(planned(sweep), None).values()]
    assert sorted(labels) == ["16x1 bfloat16", "16x1 float32", "8x1 bfloat16", "8x1 float32"]


# How it is shown -----------------------------------------------------------------------------


def test_the_table_has_a_row_a_shape_and_one_for_all(two_shapes: Plan) -> None:
    now = [0.0]
    tally = Tally(two_shapes, all_of(two_shapes), Speed("test", {1: 1e6}), clock=lambda: now[0])
    tally.peak = Peak(1e6, "a matrix product here", True)
    work = next(one for one in tally.work if tally.of_segment[one.segment] is tally.groups[0])
    tally.started(work)
    now[0] += 2.0
    tally.logged(work, steps(0, 4))
    expect(tally.groups)
    head, first, second, total = text_of(tally.groups)
    names = "model done running waiting tokens tokens/s of peak left FLOPs time"
    assert head.split() == names.split()
    small = tally.groups[0]
    share = 128 * small.flops_per_token / 1e6
    assert first.split()[:8] == ["8x1", "mlp", "16", "0/3", "1", "2", "256/1.0", "k"]
    assert first.split()[8:11] == ["128", percent(share), clock((TOKENS - 256) / 128)]
    assert first.split()[11:] == ["25%", f"0:02/{clock(TOKENS * small.flops_per_token / 1e6)}"]
    assert second.split()[:6] == ["8x1", "mlp", "32", "0/3", "0", "3"]
    assert second.split()[8:10] == ["-", "-"]  # no speed yet, so no share of peak
    assert total.split()[:4] == ["all", "0/6", "1", "5"]
    assert max(map(len, (head, first, second, total))) <= 100
    assert all("…" not in line for line in (head, first, second, total))


def test_what_went_wrong_has_columns_when_it_did(plan: Plan) -> None:
    tally = Tally(plan, all_of(plan))
    assert "diverged" not in text_of(tally.groups)[0]
    train(tally, 0, diverged=2)
    head, row = text_of(tally.groups)
    assert head.split()[4] == "diverged"
    assert row.split()[:5] == ["8x1", "0/3", "0", "0", "3"]


def test_of_many_shapes_those_that_are_finished_give_way() -> None:
    sweep = small_sweep(ratios=(0.5,), model__mlp_width=tuple(range(16, 16 + SHOWN + 3)))
    plan = planned(sweep)
    tally = Tally(plan, all_of(plan))
    for number, work in enumerate(tally.work):
        if tally.of_segment[work.segment] in tally.groups[:2]:
            train(tally, number)
    lines = text_of(tally.groups)
    assert len(lines) == 1 + SHOWN + 2
    assert lines[1].startswith("8x1 mlp 18")
    assert lines[-2] == "and 3 more"
    assert lines[-1].split()[:2] == ["all", f"4/{2 * SHOWN + 6}"]


def test_the_cost_says_what_was_trained_again(plan: Plan) -> None:
    (group,) = Tally(plan, all_of(plan)).groups
    group.tokens_spent, group.tokens_done, group.seconds_spent = 400, 300, 65.0
    spent, planned_ = 400 * group.flops_per_token, TOKENS * group.flops_per_token
    assert cost([group]) == (
        f"cost: {spent:.3g} of {planned_:.3g} FLOPs, 25% of them trained again; "
        "1 min 05 s (no speed was measured to plan with)"
    )


def test_the_line_says_tokens_losses_peak_and_the_time_left(
    plan: Plan, tmp_path: Path, moved: list[float]
) -> None:
    peak = Peak(1e6, "a matrix product here", True)
    with Display(plan, all_of(plan), tmp_path, quiet=True, peak=lambda: peak) as display:
        assert display.line() == "0/1.0 k tokens | 0/3 segments"
        work = display.tally.work[0]
        display.started(work)
        moved[0] += 4
        display.evaluated(work, "prose", EvaluationRow("s", 0, "e", 3.25, 4.7, 0.1))
        display.evaluated(work, "prose", EvaluationRow("s", 2, "e", 3.125, 4.5, 0.1))
        display.logged(work, steps(0, 2))
        share = percent(32 * display.tally.groups[0].flops_per_token / 1e6)
        assert display.line() == (
            "128/1.0 k tokens | 0/3 segments | prose 3.125 | 32 tokens/s | "
            f"{share} of peak | 28 s left"
        )
        display.logged(work, steps(2, TRUNK))
        display.finished(work, None)
        assert "1/3 segments" in display.line()


def test_without_a_terminal_it_speaks_in_plain_lines_every_ten_seconds(
    plan: Plan, tmp_path: Path, moved: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Display(plan, all_of(plan), tmp_path) as display:
        trunk, branch = display.tally.work[:2]
        display.started(trunk)
        moved[0] += 9.9
        display.logged(trunk, steps(0, 2))
        assert capsys.readouterr().err == ""
        moved[0] += 0.1
        display.logged(trunk, steps(2, TRUNK))
        display.finished(trunk, None)
        display.started(branch)
        display.finished(branch, TRUNK)
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    first, second = said.err.splitlines()
    assert first.startswith("256/1.0 k tokens | 0/3 segments | 26 tokens/s")
    assert second.startswith("diverged: a run's loss is not finite at step 4")


def test_told_to_be_quiet_it_says_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeps.progress, "PLAIN_LINE_SECONDS", 0.0)
    with Display(plan, all_of(plan), tmp_path, quiet=True) as display:
        train(display, 0, diverged=2)
    assert capfd.readouterr() == ("", "")
    assert read_notes(tmp_path) != []  # for lab status all the same


def test_on_a_terminal_the_table_lives(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sweeps.progress, "TABLE_SECONDS", 0.0)
    monkeypatch.setattr(
        sweeps.progress,
        "Console",
        lambda **_: Console(file=screen, force_terminal=True, width=100, highlight=False),
    )
    with Display(plan, all_of(plan), None) as display:
        train(display, 0)
        display.say("a line that stays [brackets and all]")
        train(display, 1, diverged=TRUNK)
    drawn = screen.getvalue()
    assert "\x1b[" in drawn
    assert "a line that stays [brackets and all]" in drawn
    assert drawn.count("8x1") > 3  # drawn again and again
    last = drawn[drawn.rindex("model") :]
    assert "1/3" in last
    assert "diverged" in last
