"""What can be typed about folders: status, results, report, plot, merge, gc, export, adopt."""

from typing import Any

from sweeps.verbs.declare import add_verb, law_option


def declare(verbs: Any) -> None:
    """Add the verbs of folders."""
    folders, reading = "sweeps.commands.folders", "sweeps.commands.reading"
    status = add_verb(
        verbs, "status", folders, "status", "what is done, running and waiting (only reads)",
        "lab status runs/cmr-tiny",
    )  # fmt: skip
    status.add_argument("folder", metavar="DIR")
    results = add_verb(
        verbs, "results", reading, "results", "the tidy table of a sweep",
        "lab results runs/cmr-tiny --to losses.parquet",
    )  # fmt: skip
    results.add_argument("folder", metavar="DIR")
    results.add_argument("--to", metavar="FILE", help=".parquet or .csv")
    results.add_argument("--steps", action="store_true", help="per-step log instead")
    report = add_verb(
        verbs, "report", reading, "report", "write the report of a sweep",
        "lab report runs/cmr-tiny --to report.html",
    )  # fmt: skip
    report.add_argument("folder", metavar="DIR")
    report.add_argument("--to", required=True, metavar="FILE", help=".html, or .md with figures")
    report.add_argument("--study", metavar="FILE.py", help="your own study file, if it was one")
    plot = add_verb(
        verbs, "plot", reading, "plot", "write a figure of a fit or of a sweep",
        "lab plot runs/cmr-tiny --figure critical_ratio --columns 1 --to figure.pdf",
    )  # fmt: skip
    plot.add_argument("source", metavar="FIT|DIR", help="a fit's .json or a sweep's folder")
    plot.add_argument("--to", required=True, metavar="FILE", help=".svg, .pdf or .png")
    plot.add_argument("--figure", help="which figure or fit (default: the first)")
    plot.add_argument("--study", metavar="FILE.py", help="your own study file, if it was one")
    law_option(plot)
    plot.add_argument(
        "--style",
        default="paper",
        metavar="NAME",
        help="paper (default), or talk: a 10 x 5.6 in slide",
    )
    plot.add_argument(
        "--columns", type=int, metavar="1|2", help="of a paper's page (default: as the figure asks)"
    )
    merge = add_verb(
        verbs, "merge", folders, "merge", "bring what is finished in OTHER into DIR",
        "lab merge runs/cmr-tiny elsewhere/cmr-tiny",
    )  # fmt: skip
    merge.add_argument("folder", metavar="DIR")
    merge.add_argument("other", metavar="OTHER", help="only read")
    gc = add_verb(
        verbs, "gc", folders, "gc", "list what a sweep that grows no more can do without",
        "lab gc runs/cmr-tiny --delete",
    )  # fmt: skip
    gc.add_argument("folder", metavar="DIR")
    gc.add_argument("--delete", action="store_true", help="remove it (default: only list it)")
    states = "sweeps.commands.states"
    export = add_verb(
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
    adopt = add_verb(
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
