"""plan, run, results, report, plot, studies."""

import argparse
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.layout import Layout, parse_mesh
from lab.spec import read
from lab.store import Index
from sweeps import foretold
from sweeps.adaptive import Rounds, aim, ended_lines, first_round, until_lines
from sweeps.budget import Limit, Spending, choose, described, flops_limit, hours_limit
from sweeps.claims import stated, stated_lines, undecidable, verdict_lines
from sweeps.engines.choose import fleet_of
from sweeps.engines.fleet import Fleet
from sweeps.folder import Folder, Held
from sweeps.foresight import expected_text, foresee, mixed_rates, other_orders, repeats
from sweeps.foretold import Hook, run_in_order
from sweeps.grid import plain
from sweeps.kept import disk_size, to_keep
from sweeps.plan import Plan, make_plan
from sweeps.progress import count, duration
from sweeps.remaining import remaining
from sweeps.rounds import read_rounds
from sweeps.run import (
    Outcome,
    count_devices,
    default_stack,
    meet,
    open_corpora,
    part,
    run_sweep,
)
from sweeps.speed import ACCELERATORS, Speed, cores, measured, note_run
from sweeps.study import Study, ask, built_in, find_study
from sweeps.sweep import Sweep
from sweeps.trackers import read_names

UTILISATION = 0.4  # assumed share of peak; said beside every device-hour


def list_studies(told: argparse.Namespace) -> Any:
    """Every built-in study with its question."""
    rows = []
    for name, module in built_in().items():
        study = importlib.import_module(module).STUDY
        rows.append({"name": name, "question": study.question, "scales": list(study.scales)})
        if not told.json:
            print(f"{name:<12} {study.question}")
    return rows


def _layout(told: argparse.Namespace) -> Layout | None:
    """What was told of the layout, or None. Raises Refused."""
    given = {
        name: value
        for name in ("accumulate", "remat")
        if (value := getattr(told, name)) is not None
    }
    if told.mesh is None and not given:
        return None
    layout = Layout(**given)
    return layout if told.mesh is None else parse_mesh(told.mesh, layout)


# plan ---------------------------------------------------------------------------------------


def plan(told: argparse.Namespace) -> Any:
    """What would run; touches no device, but to count them for a mesh where nobody says."""
    study = find_study(told.study)
    settings, sweep = ask(study, told.scale, told.sets, told.axes)
    layout = _layout(told) or Layout()
    if told.devices is not None and told.devices < 1:
        raise Refused(f"--devices {told.devices}: must be at least 1")
    made = make_plan(sweep, open_corpora(sweep))
    if told.stack is not None:
        stack = told.stack
    elif told.devices is not None:
        stack = max(1, told.devices // layout.devices_a_run)
    else:
        stack = default_stack(layout)
    if stack < 1:
        raise Refused(f"stack = {stack}: must be at least 1 lane")
    for shape in made.groups():
        layout.refuse_shape(shape, sweep.evaluate.windows)
    runs = 1
    if layout.mesh or told.devices is not None:
        runs = layout.runs_at_once(stack, told.devices or count_devices(stack, layout))
    out = _out(told, study, sweep)
    value = made.summary(stack, layout, runs)
    value["epochs"] = made.most_epochs()
    value["states_kept"], value["disk_bytes"] = to_keep(made)
    speed = measured(out, stack, cores())
    _add_hours(made, value, speed)
    cautions = study.cautions(settings, sweep)
    value["foreseen"], doubts = foresee(study.foresees(settings, sweep))
    value["claims"] = stated(study.claims(settings, sweep), sweep)
    doubts += undecidable(value["claims"])
    value["warnings"] = [*cautions, *doubts, *repeats(value["epochs"]), *mixed_rates(made)]
    value["warnings"] += other_orders(made)
    limits = _limits(told, speed)
    if limits:
        choice = choose(made, remaining(made, _index(out, sweep, made)), limits)
        value["budget"] = {
            "taken": len(choice.taken),
            "costs": choice.costs,
            "cut": [{"arm": run.arm, **plain(run.values)} for run in choice.cut],
        }
        value["warnings"] += described(choice, limits) if choice.cut else []
    if told.until is not None:
        held = _index(out, sweep, made)
        asked = aim(told.until, study, settings, made)
        value["until"] = first_round(asked, out, made, remaining(made, held), held)
    if not told.json:
        _print_plan(study, value)
        for line in until_lines(value.get("until")):
            print(line)
    return value


def _out(told: argparse.Namespace, study: Study, sweep: Sweep) -> Path:
    return Path(told.out or Path("runs") / f"{study.name}-{sweep.scale}")


def _index(out: Path, sweep: Sweep, made: Plan) -> Index:
    """What a folder holds of a sweep already; only reads. Raises Refused."""
    folder = Folder(out)
    folder.refuse_another(sweep, {name: one.digest for name, one in made.corpora.items()})
    return folder.store.load(set_aside=False)


def _limits(told: argparse.Namespace, speed: Speed | None) -> list[Limit]:
    """The budgets that were told. Raises Refused."""
    limits = []
    if told.budget_flops is not None:
        limits.append(flops_limit(told.budget_flops))
    if told.budget_hours is not None:
        if speed is None:
            raise Refused(
                "--budget-hours: no speed was measured on this machine; run lab bench step first, "
                "or give --budget-flops"
            )
        known = speed.flops_per_second
        limits.append(hours_limit(told.budget_hours, lambda one: known(one.path.run.model)))
    return limits


def _add_hours(made: Plan, value: dict[str, Any], speed: Speed | None) -> None:
    """Hours of every group: on accelerators, assumed; on this machine, if its speed is known."""
    assumed = f"assumed {UTILISATION:.0%} of peak"
    value["speed"] = {"accelerators": assumed, "here": speed.source if speed else None}
    for members, row in zip(made.groups().values(), value["groups"], strict=True):
        row["device_hours"] = {
            name: row["flops"] / (peak * UTILISATION) / 3600 for name, peak in ACCELERATORS.items()
        }
        row["hours_here"] = None
        if speed is not None:
            rate = speed.flops_per_second(made.segments[members[0]].path.run.model)
            row["hours_here"] = row["flops"] / rate / 3600
    groups = value["groups"]
    value["device_hours"] = {
        name: sum(row["device_hours"][name] for row in groups) for name in ACCELERATORS
    }
    value["hours_here"] = sum(row["hours_here"] for row in groups) if speed is not None else None


def _print_plan(study: Study, value: dict[str, Any]) -> None:
    saved = value["tokens_naive"] / value["tokens_shared"]
    print(f"{study.name} at scale {value['scale']}: {study.question}")
    print(f"{value['runs']} runs in {value['segments']} segments, each trained once")
    print(
        f"tokens  {count(value['tokens_shared'])} shared, {count(value['tokens_naive'])} naive "
        f"({saved:.2f} times)"
    )
    print(f"FLOPs   {value['flops_shared']:.3g} shared, {value['flops_naive']:.3g} naive")
    here = value["speed"]["here"]
    print(
        "  width layers     parameters segments    tokens      states      a step   H100-hours here"
    )
    for group in value["groups"]:
        hours = f"{group['hours_here'] * 3600:,.0f} s" if here else "?"
        print(
            f"{group['width']:>7} {group['layers']:>6} {group['parameters']:>14,} "
            f"{group['segments']:>8} {count(group['tokens']):>9} "
            f"{group['state_bytes'] / 2**30:>8,.2f} GB {group['memory_bytes'] / 2**30:>8,.2f} GB "
            f"{group['device_hours']['H100']:>12,.3g} {hours}"
        )
    stack, devices = value["groups"][0]["stack"], value["devices"]
    where = f"each of {devices} devices will hold" if devices > 1 else "one device will hold"
    print(f"memory: what {where} of a stack of {stack} lanes, an estimate with all activations")
    print(
        f"disk    {disk_size(value['disk_bytes'])} for {value['states_kept']} states: every one "
        "that is evaluated is kept (lab gc)"
    )
    hours = ", ".join(f"{name} {hours:,.3g}" for name, hours in value["device_hours"].items())
    print(f"device-hours, {value['speed']['accelerators']}: {hours}")
    if here:
        print(f"here {duration(value['hours_here'] * 3600)}, at the speed of {here}")
    else:
        print("here unknown: no speed was measured on this machine; lab bench step measures it")
    reads = ", ".join(f"{name} {epochs:.2f}" for name, epochs in value["epochs"].items())
    print(f"epochs read at most: {reads}")
    for row in value["foreseen"]:
        if row["identified"] and not any(one["wide"] for one in row["params"].values()):
            print(
                f"foreseen: {row['what']}: {row['law']} from {row['points']} points "
                f"(condition {row['condition']:.1e}), {expected_text(row)}"
            )
    for line in stated_lines(value["claims"]):
        print(line)
    for warning in value["warnings"]:
        print(f"warning: {warning}")


# run ----------------------------------------------------------------------------------------


def run(told: argparse.Namespace) -> Any:
    """Train what is missing, read, write up."""
    begun = time.monotonic()
    study = find_study(told.study)
    settings, sweep = ask(study, told.scale, told.sets, told.axes)
    out, track = _out(told, study, sweep), read_names(told.track)

    def say(line: str) -> None:
        print(f"lab: {line}", file=sys.stderr, flush=True)

    study.cautions(settings, sweep)  # refuses what the study could not read, before it is trained
    layout, quiet = _layout(told), told.quiet or told.json
    together = {told.coordinator, told.hosts, told.host} != {None}
    stack = default_stack(layout or Layout()) if told.stack is None else told.stack
    limits = _limits(told, measured(out, stack, cores()))
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
        until.refuse(made, _index(out, sweep, made))
    elif limits:  # too small a budget is refused before anything is written
        made = make_plan(sweep, open_corpora(sweep))
        choose(made, remaining(made, _index(out, sweep, made)), limits)
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
    if not told.json:
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


# A folder that is there ---------------------------------------------------------------------


def open_folder(folder: str) -> tuple[Folder, Held, Plan]:
    """A folder, what it holds and its plan. Raises Refused."""
    opened = Folder(Path(folder))
    held = opened.held()
    if held is None:
        raise Refused(f"{opened.name} holds no sweep")
    corpora = open_corpora(held.sweep)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    opened.refuse_another(held.sweep, digests)
    return opened, held, make_plan(held.sweep, corpora)


def results(told: argparse.Namespace) -> Any:
    """The tidy table, or the per-step log."""
    from fits.table import write_table
    from sweeps.results import step_table, table

    folder, _, made = open_folder(told.folder)
    index = folder.store.load(set_aside=False)
    frame = step_table(made, index, folder.store) if told.steps else table(made, index)
    if told.to:
        write_table(frame, Path(told.to))
        if not told.json:
            print(f"{len(frame)} rows, {len(frame.columns)} columns -> {told.to}")
        return {"rows": len(frame), "columns": list(frame.columns), "to": told.to}
    if told.json:
        return json.loads(frame.to_json(orient="records"))
    print(frame.to_string(max_rows=40, index=False))
    return None


def _answer(source: str, study_file: str | None) -> Any:
    from sweeps.results import table
    from sweeps.write_up import Answer

    folder, held, made = open_folder(source)
    if study_file is None and held.sweep.study not in built_in():
        raise Refused(f"{source} was made by your own study: name its file with --study")
    study = find_study(study_file or held.sweep.study)
    settings = read(type(study.settings(held.sweep.scale)), held.settings, "settings")
    index = folder.store.load(set_aside=False)
    known = foretold.read(folder.path)
    rounds = read_rounds(folder.path)
    return Answer(study, settings, made, index, table(made, index), held.stack, known, rounds)


def report(told: argparse.Namespace) -> Any:
    """Write the report of a folder."""
    from sweeps.write_up import write_report_page

    to = Path(told.to)
    if to.suffix not in (".html", ".md"):
        raise Refused(f"cannot write {to.name}: a report ends in .html or .md")
    answer = _answer(told.folder, told.study)
    write_report_page(answer, answer.findings(), to)
    if not told.json:
        print(f"-> {to}")
    return {"to": str(to)}


def plot(told: argparse.Namespace) -> Any:
    """Write one figure."""
    if Path(told.source).is_dir():
        findings = _answer(told.source, told.study).findings()
        names = [one.name for one in findings.figures]
        figure = findings.figure(told.figure) if told.figure else findings.figures[0]
    else:
        from fits.figures.fit_figure import fit_figure, fits_figure
        from fits.saved import load_fits

        fits = load_fits(told.source)
        names = [one.label() for one in fits]
        chosen = [one for one in fits if told.figure in (None, one.label(), one.name, one.law_name)]
        if not chosen:
            raise Refused(f"no fit {told.figure!r} in {told.source}; it has {'; '.join(names)}")
        one_curve_each = len({one.law_name for one in chosen}) == 1 and all(
            len(one.law.variables) == 1 and not one.law.rates and not one.law.groups
            for one in chosen
        )
        figure = fits_figure(chosen) if one_curve_each else fit_figure(chosen[0])
    figure.save(Path(told.to))
    if not told.json:
        others = "; ".join(name for name in names if name != figure.name)
        print(f"{figure.name} -> {told.to}" + (f" (also there: {others})" if others else ""))
    return {"figure": figure.name, "to": told.to}
