"""run: train what is missing, read it, write it up."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.layout import Layout
from sweeps import foretold
from sweeps.adaptive import Rounds, aim, ended_lines
from sweeps.budget import Spending, choose
from sweeps.claims import stated, verdict_lines
from sweeps.commands.studies import index_of, layout_of, limits_of, out_of
from sweeps.engines.choose import fleet_of
from sweeps.engines.fleet import Fleet
from sweeps.folder import Folder
from sweeps.foretold import Hook, run_in_order
from sweeps.plan import make_plan
from sweeps.progress import count, duration
from sweeps.remaining import remaining
from sweeps.rounds import read_rounds
from sweeps.run import Outcome, default_stack, meet, open_corpora, part, run_sweep
from sweeps.speed import cores, measured, note_run
from sweeps.study import Study, ask, find_study
from sweeps.trackers import read_names


def run(told: argparse.Namespace) -> Any:
    """Train what is missing, read, write up."""
    begun = time.monotonic()
    study = find_study(told.study)
    settings, sweep = ask(study, told.scale, told.sets, told.axes)
    out, track = out_of(told, study, sweep), read_names(told.track)

    def say(line: str) -> None:
        print(f"lab: {line}", file=sys.stderr, flush=True)

    study.cautions(settings, sweep)  # refuses what the study could not read, before it is trained
    layout, quiet = layout_of(told), told.quiet or told.json
    together = {told.coordinator, told.hosts, told.host} != {None}
    stack = default_stack(layout or Layout()) if told.stack is None else told.stack
    limits = limits_of(told, measured(out, stack, cores()))
    if limits and together:
        raise Refused("--budget-flops and --budget-hours are for one host: leave out --coordinator")
    until = None
    if told.until is not None:
        if together:
            raise Refused("--until is for one host: leave out --coordinator")
        if later := study.later(settings, sweep):
            raise Refused(f"--until: arms {', '.join(later)} wait for a prediction from the others")
        made = make_plan(sweep, open_corpora(sweep))
        until = Rounds(aim(told.until, study, settings, made), out, Spending(limits, say), say)
        until.refuse(made, index_of(out, sweep, made))
    elif limits:  # too small a budget is refused before anything is written
        made = make_plan(sweep, open_corpora(sweep))
        choose(made, remaining(made, index_of(out, sweep, made)), limits)
    fleet = _fleet(told, study, out, layout, say)
    if together:
        meet(told.coordinator, told.hosts, told.host)
    limit = Spending(limits, say)
    stated(study.claims(settings, sweep), sweep)  # refuses claims without their arms

    def trained(hook: Hook) -> Outcome:
        return run_sweep(sweep, out, settings, told.stack, quiet, say, layout, hook, track, fleet)

    with contextlib.nullcontext() if fleet is None else fleet:
        if until is not None:
            outcome = until.train(trained)
        else:
            outcome = run_in_order(study, settings, sweep, out, trained, limit, say)
    has_results = part() if together else True
    if not has_results:
        return {"host": told.host, "trained_tokens": outcome.trained_tokens}
    if fleet is None:  # else it was no speed of this machine
        _note_speed(outcome, out, time.monotonic() - begun)
    from sweeps.write_up import Answer, write_up

    answer = Answer(
        study,
        settings,
        outcome.plan,
        outcome.index,
        outcome.results,
        outcome.stack,
        foretold.read(out),
        read_rounds(out),
    )
    ill = outcome.results[outcome.results["status"].isin(["diverged", "diverged parent"])]
    for (arm, name, status), _ in ill.groupby(["arm", "run", "status"]):
        say(f"run {name} of arm {arm}: {status}; the fit leaves it out")
    findings, judged, files = write_up(answer, out)
    seconds = time.monotonic() - begun
    value = {} if until is None else {"until": until.summary(outcome)}
    if told.quiet and not told.json:
        print("\n".join([*verdict_lines(judged), findings.headline]))
    elif not told.json:
        _print_findings(findings, verdict_lines(judged))
        for line in ended_lines(value.get("until")):
            print(line)
        done = (
            f"trained {count(outcome.trained_tokens)} tokens"
            if outcome.trained_tokens
            else "nothing was left to train"
        )
        print(f"{done}; {duration(seconds)} in all; {len(files)} files in {out}, see report.html")
    return {
        "out": str(out),
        "runs": len(outcome.plan.runs),
        "segments": len(outcome.plan.segments),
        "trained_tokens": outcome.trained_tokens,
        "seconds": seconds,
        "headline": findings.headline,
        "readings": dict(findings.readings),
        "verdicts": {one.claim.name: one.decision for one in judged},
        "files": [str(path) for path in files],
        **value,
    }


def _fleet(
    told: argparse.Namespace,
    study: Study,
    out: Path,
    layout: Layout | None,
    say: Callable[[str], None],
) -> Fleet | None:
    """Who trains in place of this process, if somebody is to. Raises Refused."""
    if told.engine != "local":
        if {told.coordinator, told.hosts, told.host} != {None}:
            raise Refused(f"--engine {told.engine} has one driver: leave out --coordinator")
        if told.track is not None:
            raise Refused(
                f"--track shows what this process trains: leave out --engine {told.engine}"
            )
    held = Folder(out).held()
    stack = told.stack if told.stack is not None or held is None else held.stack
    if layout is None:
        layout = Layout() if held is None else held.layout
    return fleet_of(
        told.engine,
        told.engine_sets,
        told.workers,
        out,
        study.name,
        stack,
        layout.devices_a_run,
        (lambda line: None) if told.quiet or told.json else say,
    )


def _note_speed(outcome: Outcome, out: Path, seconds: float) -> None:
    """Keep the speed of a sweep that was trained as a whole."""
    whole = outcome.plan.summary(outcome.stack)
    if outcome.trained_tokens == whole["tokens_shared"]:
        dearest = list(outcome.plan.groups().values())[-1][0]
        model = outcome.plan.segments[dearest].path.run.model
        note_run(out, model, whole["flops_shared"] / seconds, cores())


def _print_findings(findings: Any, verdicts: list[str]) -> None:
    first = next(one for one in findings.tables if one.name != "verdicts")
    print(f"\n{first.name}: {first.caption}")
    print(
        first.frame[first.columns].to_string(index=False, float_format=lambda value: f"{value:.4g}")
    )
    print()
    for note in findings.notes:
        print(f"note: {note}")
    for line in verdicts:
        print(line)
    print(f"\n{findings.headline}")
