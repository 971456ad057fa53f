"""What can be typed about this machine: doctor, completion, data, bench."""

from typing import Any

from sweeps.verbs.declare import add_group, add_verb

SHELLS = ("bash", "zsh", "fish")


def declare(verbs: Any) -> None:
    """Add the verbs of the machine."""
    machine = "sweeps.commands.machine"
    add_verb(
        verbs, "doctor", machine, "doctor", "versions, devices, folders, a trial: for bug reports",
        "lab doctor",
    )  # fmt: skip
    completion = add_verb(
        verbs, "completion", machine, "completion", "what makes the Tab key complete lab's words",
        'eval "$(lab completion bash)"',
    )  # fmt: skip
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    corpora = add_group(verbs, "data", "corpora", "lab data list")
    own = "sweeps.commands.data"
    add_verb(corpora, "list", own, "list_corpora", "the corpora there are", "lab data list")
    prepare = add_verb(
        corpora, "prepare", own, "prepare",
        "make a corpus of your text: plain text, JSON lines, Parquet, or a Hugging Face data set",
        "lab data prepare law court.jsonl.gz more/ --tokenizer bpe:8192 --keep score,date",
    )  # fmt: skip
    prepare.add_argument("name", metavar="NAME")
    prepare.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="file (.gz, .zst too), folder, pattern, or hf:OWNER/NAME[@REVISION], hf:FOLDER",
    )
    prepare.add_argument(
        "--text-column", default="text", metavar="COLUMN", help="where a record's text is"
    )
    prepare.add_argument(
        "--keep",
        metavar="NAME[=COLUMN],...",
        help="labels of documents, for orders: numbers, ISO dates (default: score,date if "
        "there; '': none)",
    )
    prepare.add_argument(
        "--tokenizer",
        default="bytes",
        metavar="T",
        help="bytes, FILE.json (of tokenizers), tiktoken:NAME|FILE, bpe:SIZE (trained on this "
        "text), like:CORPUS",
    )
    prepare.add_argument("--split", default="train", help="of a data set hf:... (default train)")
    prepare.add_argument("--config", default="", metavar="NAME", help="of a data set hf:...")
    prepare.add_argument("--processes", type=int, metavar="N", help="default: one a core")
    scores = add_verb(
        corpora, "scores", own, "scores", "how good its documents are, by each score",
        "lab data scores damaged-prose",
    )  # fmt: skip
    scores.add_argument("name", metavar="CORPUS")
    scores.add_argument("--only", metavar="SCORE,...", help="compute and show these alone")
    _benches(verbs)


def _benches(verbs: Any) -> None:
    benches = "sweeps.commands.bench"
    kinds = add_group(verbs, "bench", "how fast it is here", "lab bench step")
    step = add_verb(
        kinds, "step", benches, "step", "tokens/s of the training step, alone and stacked",
        "lab bench step --json",
    )  # fmt: skip
    step.add_argument("--stack", type=int, help="lanes of a stack (default: one a core on a CPU)")
    grid = add_verb(
        kinds, "sweep", benches, "sweep", "a small grid, against one process a run",
        "lab bench sweep --repeats 1",
    )  # fmt: skip
    data_path = add_verb(
        kinds, "data", benches, "data", "windows/s of the input path, MB/s of preparing text",
        "lab bench data",
    )  # fmt: skip
    fits_ = add_verb(kinds, "fit", benches, "fit", "seconds of fits", "lab bench fit --repeats 1")
    device = add_verb(
        kinds, "device", benches, "device", "an accelerator against this CPU, in one go",
        "lab bench device --json",
    )  # fmt: skip
    for one, repeats in ((step, 5), (grid, 3), (data_path, 5), (device, 5), (fits_, 3)):
        one.add_argument("--repeats", type=int, default=repeats, help=f"default {repeats}")
    large = add_verb(
        kinds, "plan", benches, "plan", "seconds to plan many runs and load many segments",
        "lab bench plan --runs 10000 --segments 1000",
    )  # fmt: skip
    large.add_argument("--runs", type=int, default=100_000, help="default 100000")
    large.add_argument("--segments", type=int, default=10_000, help="default 10000")
    rounds = add_verb(
        kinds, "adaptive", benches, "adaptive", "what --until saves, and how often it misleads",
        "lab bench adaptive --to adaptive.png",
    )  # fmt: skip
    rounds.add_argument("--worlds", type=int, default=40, help="made-up truths (default 40)")
    rounds.add_argument("--to", metavar="FILE", help="figure: .svg, .pdf or .png")
    fleet = add_verb(
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
    soak = add_verb(
        kinds, "soak", benches, "soak",
        "kill a small sweep again and again: is its table the same?",
        "lab bench soak --kills 20 --processes 1",
    )  # fmt: skip
    soak.add_argument("--kills", type=int, default=100, help="default 100")
    soak.add_argument("--processes", type=int, default=2, help="on one folder (default 2)")
    soak.add_argument("--quiet", action="store_true", help="only errors and the answer")
    soak.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
