"""plan: what would run, what it costs, what it cannot identify."""

import argparse
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.layout import Layout
from sweeps.adaptive import aim, first_round, until_lines
from sweeps.budget import choose, described
from sweeps.claims import stated, stated_lines, undecidable
from sweeps.commands.studies import index_of, layout_of, limits_of, out_of
from sweeps.folder import Folder
from sweeps.foresight import expected_text, foresee, mixed_rates, other_orders, repeats
from sweeps.grid import plain
from sweeps.kept import disk_size, to_keep
from sweeps.plan import Plan, make_plan
from sweeps.progress import count, duration
from sweeps.remaining import remaining
from sweeps.run import count_devices, default_stack, open_corpora
from sweeps.speed import ACCELERATORS, Speed, cores, measured
from sweeps.study import Study, ask, find_study

UTILISATION = 0.4  # assumed share of peak; said beside every device-hour


def plan(told: argparse.Namespace) -> Any:
    """What would run; touches no device, but to count them for a mesh where nobody says."""
    study = find_study(told.study)
    settings, sweep = ask(study, told.scale, told.sets, told.axes)
    layout = layout_of(told) or Layout()
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
    out = out_of(told, study, sweep)
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
    value["warnings"] += [*other_orders(made), *_taken(out, made)]
    limits = limits_of(told, speed)
    if limits:
        choice = choose(made, remaining(made, index_of(out, sweep, made)), limits)
        value["budget"] = {
            "taken": len(choice.taken),
            "costs": choice.costs,
            "cut": [{"arm": run.arm, **plain(run.values)} for run in choice.cut],
        }
        value["warnings"] += described(choice, limits) if choice.cut else []
    if told.until is not None:
        held = index_of(out, sweep, made)
        asked = aim(told.until, study, settings, made)
        value["until"] = first_round(asked, out, made, remaining(made, held), held)
    if told.to is not None:
        from sweeps.tree import tree_figure

        figure = tree_figure(made)
        figure.save(Path(told.to))
        value["to"] = told.to
    if not told.json:
        _print_plan(study, value)
        for line in until_lines(value.get("until")):
            print(line)
        if told.to is not None:
            print(f"{figure.name} -> {told.to}")
    return value


def _taken(out: Path, made: Plan) -> list[str]:
    """That the folder holds what this sweep does not grow out of."""
    digests = {name: corpus.digest for name, corpus in made.corpora.items()}
    try:
        Folder(out).refuse_another(made.sweep, digests)
    except Refused as refusal:
        return [f"{refusal}; lab run will refuse"]
    return []


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
