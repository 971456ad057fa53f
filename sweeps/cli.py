"""The command `lab`. Parses, and hands over; heavy libraries load with the verb that needs them."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sweeps.engines.options import ENGINES
from sweeps.trackers import PACKAGES as TRACKERS

EXIT_REFUSED = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_REFUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Several(tuple[str, ...]):
    """Choices of an option that takes several of them, with commas between."""

    def __contains__(self, told: object) -> bool:
        return set(str(told).split(",")) <= set(self)


def _verb(
    verbs: Any, name: str, module: str, function: str, help_: str, example: str
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {example}"
    )
    verb.add_argument("--json", action="store_true", help="one JSON value on standard output")
    verb.set_defaults(module=module, function=function)
    return verb


def _study_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "study", metavar="STUDY", help="name of a study, or path of your own .py file"
    )
    verb.add_argument("--scale", help="smoke, tiny (default), small or paper")
    verb.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the study or a field of every run (KEY+=VALUE adds to a list)",
    )
    verb.add_argument(
        "--axis",
        dest="axes",
        action="append",
        default=[],
        metavar="[ARM:]PATH=V1,V2",
        help="values of an axis: any field of a run (PATH+=V adds to those there)",
    )
    verb.add_argument("--stack", type=int, help="lanes of a stack (default: one a core on a CPU)")
    verb.add_argument(
        "--mesh",
        metavar="AXIS=SIZE,...",
        help="divide each run over data=, fsdp= and tensor= devices (run=: runs side by side)",
    )
    verb.add_argument(
        "--accumulate", type=int, metavar="PARTS", help="go through a step's windows in parts"
    )
    verb.add_argument(
        "--remat",
        action="store_true",
        default=None,
        help="compute blocks again in the backward pass instead of keeping their insides",
    )
    verb.add_argument(
        "--budget-flops",
        type=float,
        metavar="F",
        help="train no more than F FLOPs; says what it cuts",
    )
    verb.add_argument(
        "--budget-hours", type=float, metavar="H", help="train at most H hours, at a measured speed"
    )
    verb.add_argument(
        "--until",
        metavar="CONDITION",
        help="in rounds, only what narrows a target of the study: 'cmr_width < 0.1'",
    )
    verb.add_argument(
        "--out",
        metavar="DIR",
        help="output folder, or s3://BUCKET/PREFIX (default: runs/STUDY-SCALE)",
    )


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="lab",
        description="A scaling-law laboratory: plan the runs a question needs, train each shared "
        "stretch once, fit the law with its uncertainty.",
        epilog="example: lab run cmr. Exit codes: 0 done, 1 failed, 2 refused, 75 stopped by "
        "SIGTERM or found hanging (run again to go on), 130 stopped by Ctrl-C.",
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    studies = "sweeps.commands.studies"
    plan = _verb(
        verbs, "plan", studies, "plan", "what would run, what it costs, what it cannot identify",
        "lab plan cmr --scale paper",
    )  # fmt: skip
    _study_options(plan)
    plan.add_argument(
        "--devices", type=int, metavar="N", help="plan a mesh for N devices, not for those here"
    )
    run = _verb(
        verbs, "run", studies, "run", "train what is missing, fit, report; safe to repeat",
        "lab run cmr --axis cpt.ratio+=.6",
    )  # fmt: skip
    _study_options(run)
    run.add_argument("--quiet", action="store_true", help="no progress display")
    run.add_argument(
        "--track",
        metavar="NAME,...",
        choices=_Several(TRACKERS),
        help=f"show it elsewhere too, while it trains: {', '.join(TRACKERS)}",
    )
    run.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="train with other hosts: address of the first of them, or auto where the cluster says",
    )
    run.add_argument("--hosts", type=int, metavar="N", help="how many hosts there are")
    run.add_argument("--host", type=int, metavar="K", help="which of them this is, from 0")
    run.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="who trains: this process (local), tasks on a Ray cluster, or jobs in SLURM's queue",
    )
    run.add_argument(
        "--workers", type=int, metavar="N", help="tasks an engine has at once (default 8)"
    )
    run.add_argument(
        "--engine-set",
        dest="engine_sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="ray: address, cpus, gpus, tpus; slurm: partition, account, time, gpus_per_node, ...",
    )
    work = _verb(
        verbs, "work", "sweeps.commands.work", "work",
        "train along into a folder, until nothing of it is left to do; writes no report",
        "lab work runs/cmr-tiny",
    )  # fmt: skip
    work.add_argument("folder", metavar="DIR")
    work.add_argument("--quiet", action="store_true", help="no progress display")
    work.add_argument(
        "--segments", metavar="ID,...", help="only these, and what they start from (for engines)"
    )
    work.add_argument(
        "--averages", action="store_true", help="only evaluate averages of states (for engines)"
    )
    work.add_argument(
        "--tied", action="store_true", help="save and end when standard input closes (for engines)"
    )
    folders = "sweeps.commands.folders"
    status = _verb(
        verbs, "status", folders, "status", "what is done, running and waiting (only reads)",
        "lab status runs/cmr-tiny",
    )  # fmt: skip
    status.add_argument("folder", metavar="DIR")
    results = _verb(
        verbs, "results", studies, "results", "the tidy table of a sweep",
        "lab results runs/cmr-tiny --to losses.parquet",
    )  # fmt: skip
    results.add_argument("folder", metavar="DIR")
    results.add_argument("--to", metavar="FILE", help=".parquet or .csv")
    results.add_argument("--steps", action="store_true", help="per-step log instead")
    report = _verb(
        verbs, "report", studies, "report", "write the report of a sweep",
        "lab report runs/cmr-tiny --to report.html",
    )  # fmt: skip
    report.add_argument("folder", metavar="DIR")
    report.add_argument("--to", required=True, metavar="FILE", help=".html, or .md with figures")
    report.add_argument("--study", metavar="FILE.py", help="your own study file, if it was one")
    plot = _verb(
        verbs, "plot", studies, "plot", "write a figure of a fit or of a sweep",
        "lab plot runs/cmr-tiny --figure critical_ratio --to figure.pdf",
    )  # fmt: skip
    plot.add_argument("source", metavar="FIT|DIR", help="a fit's .json or a sweep's folder")
    plot.add_argument("--to", required=True, metavar="FILE", help=".svg, .pdf or .png")
    plot.add_argument("--figure", help="which figure or fit (default: the first)")
    plot.add_argument("--study", metavar="FILE.py", help="your own study file, if it was one")
    merge = _verb(
        verbs, "merge", folders, "merge", "bring what is finished in OTHER into DIR",
        "lab merge runs/cmr-tiny elsewhere/cmr-tiny",
    )  # fmt: skip
    merge.add_argument("folder", metavar="DIR")
    merge.add_argument("other", metavar="OTHER", help="only read")
    gc = _verb(
        verbs, "gc", folders, "gc", "list what a sweep that grows no more can do without",
        "lab gc runs/cmr-tiny --delete",
    )  # fmt: skip
    gc.add_argument("folder", metavar="DIR")
    gc.add_argument("--delete", action="store_true", help="remove it (default: only list it)")
    states = "sweeps.commands.states"
    export = _verb(
        verbs, "export", states, "export", "write a state of a sweep to a file: arrays by name",
        "lab export runs/cmr-tiny --run 0a1b2c3d4e5f --to trunk.npz",
    )  # fmt: skip
    export.add_argument("folder", metavar="DIR")
    export.add_argument(
        "--run", required=True, metavar="ID", help="a run, trunk or segment as lab results names it"
    )
    export.add_argument("--step", type=int, metavar="N", help="a state on its way (default: end)")
    export.add_argument("--to", required=True, metavar="FILE.npz")
    export.add_argument("--parameters", action="store_true", help="without the optimizer's moments")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    adopt = _verb(
        verbs, "adopt", states, "adopt", "take a checkpoint in, as a trunk that runs start from",
        "lab adopt trunk.npz",
    )  # fmt: skip
    adopt.add_argument(
        "file", metavar="FILE.npz", nargs="?", help="arrays by name (none: list what was adopted)"
    )
    adopt.add_argument(
        "--model", metavar="KEY=VALUE,...", help="of arrays without about.json; or a JSON file"
    )
    adopt.add_argument("--lr", metavar="LR", help="rate that its training ended at (default 0)")
    adopt.add_argument(
        "--read",
        action="append",
        default=[],
        metavar="NAME=TOKENS",
        help="tokens of a corpus that it has read (default: none of any)",
    )
    adopt.add_argument("--names", action="store_true", help="the names and shapes of the arrays")
    _verb(verbs, "studies", studies, "list_studies", "the studies there are", "lab studies")

    laws = "sweeps.commands.laws"
    _verb(verbs, "laws", laws, "list_laws", "the laws there are", "lab laws")
    fit = _verb(
        verbs, "fit", laws, "fit", "fit laws to a table of losses",
        "lab fit cmr-ratio losses.csv --per n_params --holdout 'held_out == 1'",
    )  # fmt: skip
    fit.add_argument("law", metavar="LAW[,LAW...]")
    fit.add_argument("table", metavar="TABLE", help=".csv or .parquet")
    fit.add_argument("--per", metavar="COLUMN", help="fit once for each value of a column")
    fit.add_argument(
        "--where", metavar="CONDITION", help="rows to use: 'column op value [and ...]'"
    )
    fit.add_argument("--holdout", metavar="CONDITION", help="rows to predict instead of fit")
    fit.add_argument(
        "--leave-out", metavar="COLUMN", help="predict each value of a column from the others"
    )
    fit.add_argument("--rolling", metavar="COLUMN", help="predict the larger from the smaller")
    fit.add_argument(
        "--objective", metavar="NAME", help="squares, huber[:D], absolute, pinball:Q, or ...-log"
    )
    fit.add_argument(
        "--interval", default="profile", help="profile (default), covariance, units or none"
    )
    fit.add_argument("--bootstrap", type=int, default=0, metavar="K", help="intervals by K refits")
    fit.add_argument("--by", metavar="COLUMN", help="independent unit that resampling draws")
    fit.add_argument("--level", type=float, default=0.95, help="of intervals (default .95)")
    fit.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="where a law's variable is"
    )
    fit.add_argument("--pin", default="", metavar="NAME=VALUE,...", help="parameters to keep")
    fit.add_argument(
        "--bound", default="", metavar="NAME=LOW:HIGH,...", help="limits of parameters"
    )
    fit.add_argument("--tie", default="", metavar="NAME=OTHER,...", help="parameters made equal")
    fit.add_argument(
        "--share", default="", metavar="NAME,...", help="parameters in common to all of --per"
    )
    fit.add_argument(
        "--rates", metavar="TABLE", help="learning rate of every step: columns curve, step, lr"
    )
    fit.add_argument("--to", metavar="FILE.json", help="write the fits, for predict and plot")
    predict = _verb(
        verbs, "predict", laws, "predict", "what fitted laws say of new rows, with intervals",
        "lab predict fit.json plan.csv --to predicted.csv",
    )  # fmt: skip
    predict.add_argument("fit", metavar="FIT", help="JSON of `lab fit --to`, or a study's fit.json")
    predict.add_argument("table", metavar="TABLE")
    predict.add_argument("--name", help="only fits of this name or law")
    predict.add_argument("--to", metavar="FILE", help=".parquet or .csv")

    answers = "sweeps.commands.answers"
    allocate = _verb(
        verbs, "allocate", answers, "allocate", "compute-optimal size and tokens for a budget",
        "lab allocate fit.json --flops 1e21,1e22",
    )  # fmt: skip
    allocate.add_argument("fit", metavar="FIT", help="JSON of `lab fit --to`")
    allocate.add_argument("--flops", required=True, metavar="C,...", help="budgets in FLOP")
    allocate.add_argument(
        "--flop-per-param-token", type=float, default=6.0, metavar="K", help="k of C = k N D"
    )
    allocate.add_argument(
        "--at", default="", metavar="NAME=VALUE,...", help="what else the law reads"
    )
    allocate.add_argument("--name", help="only fits of this name or law")
    design = _verb(
        verbs, "design", answers, "design", "which run to do next, of candidates with costs",
        "lab design fit.json candidates.csv --target alpha --cost flops --budget 1e20",
    )  # fmt: skip
    design.add_argument("fit", metavar="FIT", help="JSON of `lab fit --to`")
    design.add_argument("candidates", metavar="TABLE", help="a row a run, with the law's variables")
    design.add_argument("--target", required=True, metavar="PARAMETER", help="what to narrow")
    design.add_argument("--cost", required=True, metavar="COLUMN", help="what a run costs")
    design.add_argument("--budget", type=float, metavar="B", help="of the sequence, as the cost")
    design.add_argument("--name", help="the fit of this name or law")
    frontier = _verb(
        verbs, "frontier", answers, "frontier", "optima by budget without a law: isoFLOP, envelope",
        "lab frontier akima losses.csv --to isoflop.png",
    )  # fmt: skip
    frontier.add_argument("method", metavar="METHOD", help="akima, parabola or envelope")
    frontier.add_argument("table", metavar="TABLE", help=".csv or .parquet")
    frontier.add_argument("--per", metavar="COLUMN", help="once for each value of a column")
    frontier.add_argument("--where", metavar="CONDITION", help="rows to use")
    frontier.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="where a variable is"
    )
    frontier.add_argument(
        "--noise", type=float, metavar="NATS", help="sd of a run's loss over seeds"
    )
    frontier.add_argument("--to", metavar="FILE", help="figure: .svg, .pdf or .png")

    machine = "sweeps.commands.machine"
    _verb(verbs, "doctor", machine, "doctor", "versions, devices, folders", "lab doctor")
    data = verbs.add_parser("data", help="corpora", description="corpora")
    corpora = data.add_subparsers(
        dest="data_verb", metavar="VERB", required=True, parser_class=_Parser
    )
    _verb(corpora, "list", machine, "list_corpora", "the corpora there are", "lab data list")
    prepare = _verb(
        corpora, "prepare", machine, "prepare", "make a corpus of plain text files",
        "lab data prepare mine chapter1.txt chapter2.txt",
    )  # fmt: skip
    prepare.add_argument("name", metavar="NAME")
    prepare.add_argument("sources", metavar="FILE", nargs="+")
    scores = _verb(
        corpora, "scores", machine, "scores", "how good its documents are, by each score",
        "lab data scores damaged-prose",
    )  # fmt: skip
    scores.add_argument("name", metavar="NAME")

    benches = "sweeps.commands.bench"
    bench = verbs.add_parser("bench", help="how fast it is here", description="how fast it is here")
    kinds = bench.add_subparsers(
        dest="bench_verb", metavar="VERB", required=True, parser_class=_Parser
    )
    step = _verb(
        kinds, "step", benches, "step", "tokens/s of the training step, alone and stacked",
        "lab bench step --json",
    )  # fmt: skip
    step.add_argument("--stack", type=int, help="lanes of a stack (default: one a core on a CPU)")
    grid = _verb(
        kinds, "sweep", benches, "sweep", "a small grid, against one process a run",
        "lab bench sweep --repeats 1",
    )  # fmt: skip
    data_path = _verb(
        kinds, "data", benches, "data", "windows/s of the input path", "lab bench data"
    )
    fits_ = _verb(kinds, "fit", benches, "fit", "seconds of fits", "lab bench fit --repeats 1")
    device = _verb(
        kinds, "device", benches, "device", "an accelerator against this CPU, in one go",
        "lab bench device --json",
    )  # fmt: skip
    for one, repeats in ((step, 5), (grid, 3), (data_path, 5), (device, 5), (fits_, 3)):
        one.add_argument("--repeats", type=int, default=repeats, help=f"default {repeats}")
    large = _verb(
        kinds, "plan", benches, "plan", "seconds to plan many runs and load many segments",
        "lab bench plan --runs 10000 --segments 1000",
    )  # fmt: skip
    large.add_argument("--runs", type=int, default=100_000, help="default 100000")
    large.add_argument("--segments", type=int, default=10_000, help="default 10000")
    rounds = _verb(
        kinds, "adaptive", benches, "adaptive", "what --until saves, and how often it misleads",
        "lab bench adaptive --to adaptive.png",
    )  # fmt: skip
    rounds.add_argument("--worlds", type=int, default=40, help="made-up truths (default 40)")
    rounds.add_argument("--to", metavar="FILE", help="figure: .svg, .pdf or .png")
    fleet = _verb(
        kinds, "fleet", benches, "fleet",
        "simulate a large sweep on many workers that fail: which order loses time?",
        "lab bench fleet --runs 10000 --workers 8,64,512",
    )  # fmt: skip
    fleet.add_argument("--runs", type=int, default=10_000, help="default 10000")
    fleet.add_argument("--workers", default="8,64,512", metavar="N,...", help="default 8,64,512")
    fleet.add_argument("--stack", type=int, default=2, help="lanes of a worker (default 2)")
    fleet.add_argument(
        "--mtbf", type=float, default=24.0, metavar="H", help="hours between a worker's failures"
    )
    fleet.add_argument("--out", metavar="DIR", help="take the speeds that this sweep recorded")
    soak = _verb(
        kinds, "soak", benches, "soak",
        "kill a small sweep again and again: is its table the same?",
        "lab bench soak --kills 20 --processes 1",
    )  # fmt: skip
    soak.add_argument("--kills", type=int, default=100, help="default 100")
    soak.add_argument("--processes", type=int, default=2, help="on one folder (default 2)")
    soak.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    return top


def _with_others(told: argparse.Namespace) -> bool:
    """Whether several hosts are to train together."""
    return any(getattr(told, name, None) is not None for name in ("coordinator", "hosts", "host"))


def main(argv: Sequence[str] | None = None, watched: bool = False) -> int:
    """Run one command; returns its exit code.

    0 done, 1 failed, 2 refused; 75 stopped by SIGTERM, 130 by Ctrl-C, with all that was trained
    saved: run again to go on. A process that hangs ends itself with 75; what is committed stays.

    `watched`: somebody waits for this process who will say so if it is aborted (`sweeps.watched`).
    """
    import importlib

    # Fits are small: on busy cores OpenBLAS's own threads slow them down 50 times (tried).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import fits.errors
    import lab.errors
    from sweeps.notice import EXIT_AGAIN, Preempted

    try:
        told = parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_REFUSED
    function: Callable[[argparse.Namespace], Any]
    try:
        if _with_others(told) and not watched:
            from sweeps.watched import run

            return run(sys.argv[1:] if argv is None else argv)
        function = getattr(importlib.import_module(told.module), told.function)
        if any(isinstance(one, str) and "://" in one for one in vars(told).values()):
            from sweeps.commands.objects import call

            value = call(function, told)
        else:
            value = function(told)
        if told.json:
            print(json.dumps(value, allow_nan=False))
        return 0
    except (lab.errors.Refused, fits.errors.Refused) as refusal:
        print(f"lab: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except (lab.errors.Failed, fits.errors.Failed) as failure:
        print(f"lab: {failure}", file=sys.stderr)
        return EXIT_FAILED
    except Preempted as notice:
        print(f"lab: {notice}", file=sys.stderr)
        return EXIT_AGAIN
    except KeyboardInterrupt:
        print("lab: stopped; what was committed stays, run again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `lab results DIR | head`
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
