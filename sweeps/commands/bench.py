"""bench step, sweep, data, fit, device, plan, adaptive, fleet, soak."""

import argparse
from pathlib import Path
from typing import Any

from lab.errors import Refused


def _repeats(told: argparse.Namespace) -> int:
    if told.repeats < 1:
        raise Refused(f"--repeats {told.repeats}: must be at least 1")
    return int(told.repeats)


def step(told: argparse.Namespace) -> Any:
    """Tokens/s of the training step."""
    from sweeps.bench.step import bench_step
    from sweeps.speed import note_bench

    value = bench_step(_repeats(told), told.stack)
    # what lab plan reckons hours with, and what share of its peak a CPU reaches
    product = value["matrix_product_flops_per_second"] if value["platform"] == "cpu" else None
    note_bench(value["rows"], value["cores"], product)
    if not told.json:
        _print_steps(value)
    return value


def _print_steps(value: dict[str, Any]) -> None:
    peak = value["matrix_product_flops_per_second"]
    print(f"{value['cores']} cores; a matrix product runs at {peak / 1e9:,.0f} GFLOP/s")
    print(" width layers  stack   tokens/s   GFLOP/s  of peak   shares of time, timed apart")
    for row in value["rows"]:
        parts = row.get("shares", {}).items()
        shares = ", ".join(f"{name.replace('_', ' ')} {part:.0%}" for name, part in parts)
        print(
            f"{row['width']:>6} {row['layers']:>6} {row['stack']:>6} "
            f"{row['tokens_per_second']:>10,.0f} {row['flops_per_second'] / 1e9:>9,.1f} "
            f"{row['fraction_of_peak']:>8.0%}   {shares}"
        )


def sweep(told: argparse.Namespace) -> Any:
    """The lab against one process a run."""
    from sweeps.bench.sweep import bench_sweep

    value = bench_sweep(_repeats(told))
    if not told.json:
        print(
            f"{value['runs']} runs: {value['seconds_one_process_a_run']:.1f} s as a process each, "
            f"{value['seconds_lab']:.1f} s in the lab (stack {value['stack']}): "
            f"{value['ratio']:.2f} times; losses differ by {value['max_loss_difference']:.2g} nats "
            "at most"
        )
    return value


def data(told: argparse.Namespace) -> Any:
    """Windows/s of the input path, and MB/s of preparing text."""
    from sweeps.bench.data import bench_data
    from sweeps.bench.prepare import bench_prepare

    value = bench_data(_repeats(told)) | bench_prepare(_repeats(told))
    if not told.json:
        print(
            f"{value['windows_per_second']:,.0f} windows/s gathered, "
            f"{value['eaten_windows_per_second']:,.0f} eaten at width {value['width']}: "
            f"{value['ratio']:.0f} times"
        )
        for processes, speed in value["prepared_by_processes"].items():
            print(f"{speed:,.0f} MB/s prepared of JSON lines, processes: {processes}")
    return value


def fit(told: argparse.Namespace) -> Any:
    """Seconds of fits."""
    from sweeps.bench.fit import bench_fit

    value = bench_fit(_repeats(told))
    if not told.json:
        print(f"tables: {value['tables']}")
        rows = (
            ("chinchilla_grid_seconds", f"chinchilla from {value['starts']} starts"),
            ("chinchilla_bootstrap_1000_seconds", "chinchilla, 1000 bootstrap refits"),
            ("chinchilla_profile_seconds", "chinchilla with profile intervals"),
            ("multi_power_seconds", "multi-power law of three curves"),
            ("multi_power_profile_seconds", "the same with profile intervals"),
        )
        for key, what in rows:
            print(f"{value[key]:8.2f} s  {what}")
        print(f"{value['agree']} of {value['starts']} starts agree")
    return value


def device(told: argparse.Namespace) -> Any:
    """An accelerator against the CPU."""
    from sweeps.bench.device import bench_device

    value = bench_device(_repeats(told))
    if not told.json:
        for name, row in value["ways"].items():
            estimated = row["estimated_bytes"]
            print(
                f"{value['platform']}, {name}: differs from float32 on the CPU by "
                f"{row['max_difference_from_cpu']:.2g} nats at most; bits "
                f"{'repeat' if row['bits_repeat'] else 'do not repeat'}; memory "
                f"{row['reported_bytes']:,} bytes"
                + ("" if estimated is None else f", estimated {estimated:,}")
            )
        apart = value["smoke_max_difference_from_cpu"]
        print(f"smoke grid of cmr: differs by {apart:.2g} nats at most")
        if "large_bf16_tokens_per_second" in value:
            print(f"100 M in bf16: {value['large_bf16_tokens_per_second']:,.0f} tokens/s")
        _print_steps(value["step"])
    return value


def plan(told: argparse.Namespace) -> Any:
    """Seconds to plan many runs, and to load many segments."""
    from sweeps.bench.plan import bench_plan

    for name in ("runs", "segments"):
        if getattr(told, name) < 1:
            raise Refused(f"--{name} {getattr(told, name)}: must be at least 1")
    value = bench_plan(told.runs, told.segments)
    if not told.json:
        print(
            f"{value['runs']:,} runs ({value['planned_segments']:,} segments) planned in "
            f"{value['plan_seconds']:.1f} s; {value['segments']:,} segments "
            f"({value['rows']:,} rows) loaded in {value['load_seconds']:.1f} s"
        )
    return value


def adaptive(told: argparse.Namespace) -> Any:
    """What rounds of `--until` save, and how often they mislead."""
    if told.worlds < 1:
        raise Refused(f"--worlds {told.worlds}: must be at least 1")
    from fits.figures.plots import FORMATS
    from sweeps.bench.adaptive import bench_adaptive

    endings = [f".{one}" for one in FORMATS]
    if told.to is not None and Path(told.to).suffix not in endings:  # before minutes are spent
        raise Refused(f"cannot write {told.to}: a figure ends in {', '.join(endings)}")
    value, figure = bench_adaptive(told.worlds)
    if told.to is not None:
        figure.save(Path(told.to))
    if not told.json:
        _print_rounds(value)
    return value


def _print_rounds(value: dict[str, Any]) -> None:
    open_ = value["grid_leaves_an_end_open"]
    print(f"{value['worlds']} made-up worlds; in {open_} the whole grid leaves an end open")
    print(
        f"the size that is read takes {value['smallest_share']:.1%} of the grid's FLOPs, its "
        f"ratios in (0, 1) {value['read_share']:.1%}"
    )
    many, about = value["many_seeds"], value["about"]
    rows = (
        ("the grid's width", value["exact"]),
        (f"{about['times']:g} times that", about),
        (f"{many['wanted']:g}, of {many['of_seeds']} seeds", many),
    )
    print(
        "median (10 % .. 90 %)     reached   % of grid              % of the size     seeds   "
        "coverage, predictions inside"
    )
    for name, one in rows:
        if one["share_of_grid"] is None:
            continue
        cells = [_percent(one[key]) for key in ("share_of_grid", "share_of_smallest")]
        print(
            f"{name:<25} {one['reached']:>6.0%}   {cells[0]:<22} {cells[1]:<20} "
            f"{one['seeds']['median']:>4g}   {one['coverage']:.0%}, {one['predictions_inside']:.0%}"
        )
    if value["grid_coverage"] is not None:
        print(f"coverage of the whole grid's interval: {value['grid_coverage']:.0%}")


def _percent(one: dict[str, float]) -> str:
    return f"{100 * one['median']:.1f} ({100 * one['p10']:.1f} .. {100 * one['p90']:.1f})"


def fleet(told: argparse.Namespace) -> Any:
    """Makespans of a simulated sweep on many workers."""
    from sweeps.bench.fleet import bench_fleet

    try:
        workers = [int(one) for one in told.workers.split(",")]
    except ValueError:
        workers = [0]
    if min(workers) < 1:
        raise Refused(f"--workers {told.workers}: must read N,N,... with each at least 1")
    for name in ("runs", "stack"):
        if getattr(told, name) < 1:
            raise Refused(f"--{name} {getattr(told, name)}: must be at least 1")
    if not told.mtbf > 0:
        raise Refused(f"--mtbf {told.mtbf:g}: must be a positive number")
    value = bench_fleet(
        told.runs, workers, told.stack, told.mtbf, None if told.out is None else Path(told.out)
    )
    if not told.json:
        print(
            f"{value['runs']:,} runs, {value['segments']:,} segments, {value['stack']} lanes a "
            f"worker: {value['lane_hours']:,.1f} lane-hours"
        )
        print(f"speed: {value['speed']}; sd of its log between segments {value['spread']:.2f}")
        print(f"a worker fails every {value['hours_between_failures']:g} h")
        print("workers  tasks  order                  makespan  over bound   idle  failures  lost")
        for row in value["rows"]:
            for name, one in row["orders"].items():
                print(
                    f"{row['workers']:>7} {row['tasks']:>6}  {name:<20} "
                    f"{one['makespan_seconds'] / 3600:>8,.2f} h "
                    f"{one['over_bound']:>10.3f}x {one['idle']:>6.1%} "
                    f"{one['failures']:>9} {one['lost']:>5.1%}"
                )
    return value


def soak(told: argparse.Namespace) -> Any:
    """A sweep killed at random moments, against an undisturbed one."""
    import sys

    from sweeps.bench.soak import bench_soak

    for name in ("kills", "processes"):
        if getattr(told, name) < 1:
            raise Refused(f"--{name} {getattr(told, name)}: must be at least 1")

    def say(line: str) -> None:
        if not told.quiet:
            print(f"lab: {line}", file=sys.stderr, flush=True)

    value = bench_soak(told.kills, told.processes, told.seed, say)
    if not told.json:
        ended = ", ".join(f"{count} {how}" for how, count in sorted(value["ended"].items()))
        print(
            f"{value['kills']} kills among {value['processes']} processes at once: "
            f"{value['tables']} tables, all the same bytes as undisturbed ({ended}); "
            f"{value['seconds']:.0f} s"
        )
    return value
