"""export, adopt: states leave a sweep as files, and files become states that a run starts from."""

import argparse
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.origin import Moments, Origin, Read
from lab.spec import ModelSpec, from_json, read
from sweeps.commands.reading import open_folder
from sweeps.export import export_state, find_state

MODEL = "width=64,layers=2,heads=2,mlp_width=176,context=64"  # whose names are shown by default


def export(told: argparse.Namespace) -> Any:
    """Write a state of a sweep to a file of its own; only reads the folder."""
    to = Path(told.to)
    if to.suffix != ".npz":
        raise Refused(f"cannot write {to.name}: a checkpoint ends in .npz")
    if to.exists() and not told.overwrite:
        raise Refused(f"{to} is there already: choose another name, or say --overwrite")
    folder, _, made = open_folder(told.folder)
    index = folder.store.load(set_aside=False)
    found = find_state(made, index, told.run, told.step)
    origin = export_state(made, index, folder.store, found, to, not told.parameters, told.overwrite)
    if not told.json:
        moments = f"moments of {origin.optimizer}" if origin.optimizer else "no moments"
        print(f"state {found.state[:12]} at step {found.step:,}, {moments} -> {to}")
        print(f"lab adopt {to} makes it a trunk: start = {origin.digest}")
    return {
        "to": str(to),
        "state": found.state,
        "step": found.step,
        "digest": origin.digest,
        "bytes": to.stat().st_size,
        "arrays": len(origin.arrays),
    }


def adopt(told: argparse.Namespace) -> Any:
    """Take a checkpoint in, so that runs can start from it; or list names, or what there is."""
    model = None if told.model is None else parse_model(told.model)
    if told.names:
        return _names(model or parse_model(MODEL), told.json)
    if told.file is None:
        return _listed(told.json)
    from lab.adopt import Told, adopt

    lr = None if told.lr is None else parse_lr(told.lr)
    origin = adopt(Path(told.file), Told(model, lr, _read(told.read, model)))
    if not told.json:
        _print_adopted(origin)
    return {**_row(origin), "model": dataclasses.asdict(origin.model)}


def _print_adopted(origin: Origin) -> None:
    model = origin.model
    shape = f"width {model.width}, layers {model.layers}, context {model.context}"
    print(f"{shape}: every array checked, and copied")
    if origin.optimizer:
        print(f"optimizer: goes on with the moments of {origin.optimizer}")
    else:
        print("optimizer: no moments in the file, they start at zero")
    if origin.read:
        what = ", ".join(f"{one.windows:,} windows of {one.corpus[:8]}" for one in origin.read)
        whose = f"the order of seed {origin.seed}" if origin.seed is not None else "any order"
        print(f"data: {what} count as read, in {whose}; reading goes on behind them")
    else:
        print("data: no corpus counts as read; --read NAME=TOKENS says what was")
    print(f"learning rate: the first stage starts from {origin.lr:g}")
    print(f"start = {origin.digest}")
    print(
        "lab run cmr --set trunks=DIGEST --set rewarm_lr=LR branches off it; --set start=DIGEST "
        "starts every run of a study there"
    )


def _row(origin: Origin) -> dict[str, Any]:
    return {
        "digest": origin.digest,
        "optimizer": origin.optimizer,
        "lr": origin.lr,
        "seed": origin.seed,
        "windows_read": {one.corpus: one.windows for one in origin.read},
    }


def _listed(as_json: bool) -> Any:
    from lab.adopt import known_digests, open_adopted, provenance

    rows = []
    for digest in known_digests():
        origin, came = open_adopted(digest), provenance(digest)
        rows.append({**_row(origin), "provenance": came})
        if not as_json:
            model = origin.model
            whence = came.get("file") or f"{came.get('study')} at step {came.get('step')}"
            print(f"{digest}  width {model.width}, layers {model.layers}; {whence}")
    if not rows and not as_json:
        print("no checkpoint was adopted here: lab adopt FILE takes one in")
    return rows


def _names(model: ModelSpec, as_json: bool) -> Any:
    from lab.arrays import array_shapes

    both: dict[Moments, Any] = {one: array_shapes(model, one) for one in ("adamw", "muon")}
    if not as_json:
        for name, shape in both["adamw"].items():
            hidden = "" if name in both["muon"] else "  (not of muon)"
            print(f"{name:<44} [{', '.join(map(str, shape))}]{hidden}")
        floats = "float16, float32 or float64, kept as float32; matrices are [in, out]"
        print(f"{floats}. All that begins with optimizer. may be left out together.")
    return {name: {key: list(shape) for key, shape in one.items()} for name, one in both.items()}


# What is typed ------------------------------------------------------------------------------


def parse_model(text: str) -> ModelSpec:
    """`width=64,layers=2,...`, or the name of a JSON file with these fields. Raises Refused."""
    if "=" not in text:
        try:
            return from_json(ModelSpec, Path(text).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise Refused(
                f"--model {text}: {why}; give KEY=VALUE,... or a JSON file of them"
            ) from None
    fields: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not key or key in fields:
            raise Refused(f"--model {text}: must read KEY=VALUE,... with each key once")
        whole = re.fullmatch(r"[0-9]{1,18}", value)
        truth = {"true": True, "false": False}
        fields[key] = int(value) if whole else truth.get(value.lower(), value)
    return read(ModelSpec, fields, "model")


def parse_lr(text: str) -> float:
    """A learning rate. Raises Refused."""
    try:
        lr = float(text)
    except ValueError:
        lr = math.nan
    if not (math.isfinite(lr) and lr >= 0):
        raise Refused(f"--lr {text}: must be a finite number, not negative")
    return lr


def _read(texts: list[str], model: ModelSpec | None) -> tuple[Read, ...] | None:
    """Windows of each corpus that were read, of `NAME=TOKENS`; None where nothing was said."""
    from lab.corpora import open_corpus

    if not texts:
        return None
    windows: dict[str, int] = {}
    for text in texts:
        name, _, tokens = text.partition("=")
        if not re.fullmatch(r"[0-9_]{1,24}", tokens) or not tokens.strip("_"):
            raise Refused(f"--read {text}: must read NAME=TOKENS, a corpus and a whole number")
        digest = open_corpus(name).digest
        if digest in windows:
            raise Refused(f"--read {text}: this corpus is named twice")
        context = model.context if model is not None else 1  # without a model it is refused later
        windows[digest] = int(tokens.replace("_", "")) // context
    return tuple(Read(digest, count) for digest, count in sorted(windows.items()))
