"""What can be typed about losses: table, laws, fit, predict, allocate, design, frontier."""

from typing import Any

from sweeps.verbs.declare import add_verb, law_option


def declare(verbs: Any) -> None:
    """Add the verbs of tables."""
    table = add_verb(
        verbs, "table", "sweeps.commands.table", "table",
        "what a table or a folder of logs holds; one table of losses from it",
        "lab table logs/ --join runs.csv --columns n_tokens=step*524288 --last run --to losses.csv",
    )  # fmt: skip
    table.add_argument(
        "source",
        metavar="TABLE",
        help=".csv, .parquet, a log or a folder of logs (TensorBoard, W&B, .jsonl, Hugging Face)",
    )
    table.add_argument("--join", metavar="TABLE", help="columns of each run, by its column run")
    table.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="columns to add, or arithmetic"
    )
    table.add_argument("--last", metavar="COLUMN", help="keep the last row of each of its values")
    table.add_argument("--to", metavar="FILE", help=".parquet or .csv")
    laws = "sweeps.commands.laws"
    add_verb(verbs, "laws", laws, "list_laws", "the laws there are", "lab laws")
    fit = add_verb(
        verbs, "fit", laws, "fit", "fit laws to a table of losses",
        "lab fit cmr-ratio losses.csv --per n_params --holdout 'held_out == 1'",
    )  # fmt: skip
    fit.add_argument("law", metavar="LAW[,LAW...]", help="names (lab laws), or your own .py file")
    fit.add_argument(
        "table", metavar="TABLE", help=".csv, .parquet, or logs of a tracker (lab table)"
    )
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
        "--columns",
        default="",
        metavar="NAME=COLUMN,...",
        help="where a law's variable is, or arithmetic: n_tokens=step*4096",
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
    predict = add_verb(
        verbs, "predict", laws, "predict", "what fitted laws say of new rows, with intervals",
        "lab predict fit.json plan.csv --to predicted.csv",
    )  # fmt: skip
    predict.add_argument("fit", metavar="FIT", help="JSON of `lab fit --to`, or a study's fit.json")
    predict.add_argument("table", metavar="TABLE")
    predict.add_argument("--name", help="only fits of this name or law")
    predict.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="where a law's variable is"
    )
    predict.add_argument("--rates", metavar="TABLE", help="learning rate of every step")
    law_option(predict)
    predict.add_argument("--to", metavar="FILE", help=".parquet or .csv")

    answers = "sweeps.commands.answers"
    allocate = add_verb(
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
    law_option(allocate)
    design = add_verb(
        verbs, "design", answers, "design", "which run to do next, of candidates with costs",
        "lab design fit.json candidates.csv --target alpha --cost flops --budget 1e20",
    )  # fmt: skip
    design.add_argument("fit", metavar="FIT", help="JSON of `lab fit --to`")
    design.add_argument("candidates", metavar="TABLE", help="a row a run, with the law's variables")
    design.add_argument("--target", required=True, metavar="PARAMETER", help="what to narrow")
    design.add_argument("--cost", required=True, metavar="COLUMN", help="what a run costs")
    design.add_argument("--budget", type=float, metavar="B", help="of the sequence, as the cost")
    design.add_argument("--name", help="the fit of this name or law")
    design.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="where a law's variable is"
    )
    law_option(design)
    frontier = add_verb(
        verbs, "frontier", answers, "frontier", "optima by budget without a law: isoFLOP, envelope",
        "lab frontier akima losses.csv --to isoflop.png",
    )  # fmt: skip
    frontier.add_argument("method", metavar="METHOD", help="akima, parabola or envelope")
    frontier.add_argument(
        "table", metavar="TABLE", help=".csv, .parquet, or logs of a tracker (lab table)"
    )
    frontier.add_argument("--per", metavar="COLUMN", help="once for each value of a column")
    frontier.add_argument("--where", metavar="CONDITION", help="rows to use")
    frontier.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help="where a variable is"
    )
    frontier.add_argument(
        "--noise", type=float, metavar="NATS", help="sd of a run's loss over seeds"
    )
    frontier.add_argument("--to", metavar="FILE", help="figure: .svg, .pdf or .png")
