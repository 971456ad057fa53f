"""What a plan says of how its runs were trained and evaluated: the checklist's middle part."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lab.flops import parameters
from lab.spec import RunSpec
from sweeps.plan import Plan
from sweeps.progress import count

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 8  # values of a setting that are listed

# name -> how a run has it
_HYPERPARAMETERS: dict[str, Callable[[RunSpec], Any]] = {
    "optimizer": lambda run: run.optimizer.name,
    "peak rate": lambda run: max(_rates(run), default=None),
    "end rate": lambda run: _rates(run)[-1] if _rates(run) else None,
    "schedule": lambda run: " → ".join(s.shape for p in run.phases for s in p.schedule),
    "b1": lambda run: run.optimizer.b1,
    "b2": lambda run: run.optimizer.b2,
    "weight decay": lambda run: run.optimizer.weight_decay,
    "clip at gradient norm": lambda run: run.optimizer.clip_norm,
    "windows a step": lambda run: run.batch,
    "parametrisation": lambda run: run.model.parametrisation,
    "precision": lambda run: run.precision,
}
_SHAPE: dict[str, Callable[[RunSpec], Any]] = {
    "width": lambda run: run.model.width,
    "layers": lambda run: run.model.layers,
    "heads": lambda run: run.model.heads,
    "MLP width": lambda run: run.model.mlp_width,
    "context": lambda run: run.model.context,
    "vocabulary": lambda run: run.model.vocabulary,
    "tied embedding": lambda run: "yes" if run.model.tied_embedding else "no",
}


def set_up(plan: Plan, results: "pd.DataFrame") -> Mapping[str, str]:
    """Answers by key of `fits.checklist`. What the lab does not record is not among them."""
    runs = [one.path.run for one in plan.runs]
    sizes = sorted({parameters(run.model).total for run in runs})
    tokens = sorted({run.steps * run.tokens_per_step for run in runs})
    states = results.groupby(["arm", "run"])["step"].nunique() if len(results) else [0]
    epochs = plan.most_epochs()
    most = max(epochs.values(), default=0.0)
    evaluate = plan.sweep.evaluate
    seeds: dict[str, set[int]] = {}
    for one in plan.runs:
        seeds.setdefault(one.arm, set()).add(one.path.run.seed)
    return {
        "models": f"{len(runs):,} runs of {len(sizes)} size{'s' if len(sizes) > 1 else ''}: "
        f"{_listed(f'{one:,}' for one in sizes)} parameters, embedding and head included",
        "tokens": f"{_listed(count(one) for one in tokens)} tokens",
        "corpora": "; ".join(
            f"{name} ({count(one.train_tokens)} training tokens, digest {one.digest[:12]})"
            for name, one in plan.corpora.items()
        ),
        "repeated": "No corpus is read more than once"
        if most <= 1
        else "Yes: at most "
        + ", ".join(f"{name} {one:.2f} times" for name, one in epochs.items() if one > 1),
        "counted": "Parameters exactly, with embedding and head (n_params) and without "
        "(n_params_non_embedding); tokens as windows times context; FLOPs as 6 a matrix parameter "
        "and token, with the head and full attention, twice the forward pass for the backward",
        "hyperparameters": _settings(_HYPERPARAMETERS, runs),
        "shape": _settings(_SHAPE, runs),
        "seeds": f"{_range(len(one) for one in seeds.values())} an arm",
        "code": "The specification of every arm stands at the end of this page, versions of the "
        "software under what ran. Whether the code is published is not recorded",
        "checkpoints": "States are kept in the folder of the sweep (segments/); whether they are "
        "published is not recorded",
        "states": f"{_range(int(one) for one in states)} states a run are evaluated; the caption "
        "of a table or figure says which enter a fit",
        "metric": f"Loss in nats per token (and bits per byte, accuracy) on {evaluate.windows:,} "
        f"windows held out of each of {', '.join(evaluate.corpora)}; split by document",
        "modified": "results.csv holds them as evaluated. What a study makes of them before a fit "
        "(means over seeds, differences, interpolation) its captions say; it is not recorded "
        "otherwise",
    }


def _rates(run: RunSpec) -> list[float]:
    """Rates at which stages end, in order."""
    return [s.to_lr for phase in run.phases for s in phase.schedule if s.to_lr is not None]


def _settings(which: Mapping[str, Callable[[RunSpec], Any]], runs: list[RunSpec]) -> str:
    """Each setting: its value, or its values and whether they follow the size."""
    parts = []
    for name, of in which.items():
        by_size: dict[int, set[Any]] = {}
        for run in runs:
            by_size.setdefault(parameters(run.model).total, set()).add(of(run))
        values = sorted(set().union(*by_size.values()), key=lambda one: (str(type(one)), one))
        texts = [f"{one:g}" if isinstance(one, float) else str(one) for one in values]
        part = f"{name} {_listed(texts)}"
        if len(values) > 1:
            follows = len(by_size) > 1 and all(len(one) == 1 for one in by_size.values())
            part += " (by size)" if follows else " (varied)"
        parts.append(part)
    return "; ".join(parts)


def _listed(texts: Iterable[str]) -> str:
    """All of a few, both ends of many."""
    known = list(dict.fromkeys(texts))
    if len(known) <= MOST_SHOWN:
        return ", ".join(known)
    return f"{known[0]} .. {known[-1]} ({len(known)} values)"


def _range(numbers: Iterable[int]) -> str:
    known = sorted(set(numbers))
    if not known:
        return "0"
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} .. {known[-1]:,}"
