"""What can be typed about studies: plan, run, work, studies, new."""

import argparse
from typing import Any

from sweeps.engines.options import ENGINES
from sweeps.trackers import PACKAGES as TRACKERS
from sweeps.verbs.declare import Several, add_group, add_verb


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


def declare(verbs: Any) -> None:
    """Add the verbs of studies."""
    plan = add_verb(
        verbs, "plan", "sweeps.commands.plan", "plan",
        "what would run, what it costs, what it cannot identify",
        "lab plan cmr --scale paper",
    )  # fmt: skip
    _study_options(plan)
    plan.add_argument("--to", metavar="FILE", help="draw the tree of runs: .svg, .pdf or .png")
    plan.add_argument(
        "--devices", type=int, metavar="N", help="plan a mesh for N devices, not for those here"
    )
    run = add_verb(
        verbs, "run", "sweeps.commands.run", "run",
        "train what is missing, fit, report; safe to repeat",
        "lab run cmr --axis cpt.ratio+=.6",
    )  # fmt: skip
    _study_options(run)
    run.add_argument("--quiet", action="store_true", help="only errors and the answer")
    run.add_argument(
        "--track",
        metavar="NAME,...",
        choices=Several(TRACKERS),
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
    work = add_verb(
        verbs, "work", "sweeps.commands.work", "work",
        "train along into a folder, until nothing of it is left to do; writes no report",
        "lab work runs/cmr-tiny",
    )  # fmt: skip
    work.add_argument("folder", metavar="DIR")
    work.add_argument("--quiet", action="store_true", help="only errors and the answer")
    work.add_argument(
        "--segments", metavar="ID,...", help="only these, and what they start from (for engines)"
    )
    work.add_argument(
        "--averages", action="store_true", help="only evaluate averages of states (for engines)"
    )
    work.add_argument(
        "--tied", action="store_true", help="save and end when standard input closes (for engines)"
    )
    add_verb(
        verbs, "studies", "sweeps.commands.studies", "list_studies", "the studies there are",
        "lab studies",
    )  # fmt: skip
    new = add_group(verbs, "new", "a file to begin with", "lab new study my_question.py")
    study = add_verb(
        new, "study", "sweeps.commands.new", "new_study",
        "write a commented study of your own that runs as it is", "lab new study my_question.py",
    )  # fmt: skip
    study.add_argument("file", metavar="FILE.py", help="its name becomes the study's")
