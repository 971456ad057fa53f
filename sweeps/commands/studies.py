"""studies, and what both plan and run read of what was typed about one."""

import argparse
import importlib
from pathlib import Path
from typing import Any

from lab.errors import Refused
from lab.layout import Layout, parse_mesh
from lab.store import Index
from sweeps.budget import Limit, flops_limit, hours_limit
from sweeps.folder import Folder
from sweeps.plan import Plan
from sweeps.speed import Speed
from sweeps.study import Study, built_in
from sweeps.sweep import Sweep


def list_studies(told: argparse.Namespace) -> Any:
    """Every built-in study with its question."""
    rows = []
    for name, module in built_in().items():
        study = importlib.import_module(module).STUDY
        rows.append({"name": name, "question": study.question, "scales": list(study.scales)})
        if not told.json:
            print(f"{name:<12} {study.question}")
    return rows


def layout_of(told: argparse.Namespace) -> Layout | None:
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


def out_of(told: argparse.Namespace, study: Study, sweep: Sweep) -> Path:
    """The output folder."""
    return Path(told.out or Path("runs") / f"{study.name}-{sweep.scale}")


def index_of(out: Path, sweep: Sweep, made: Plan) -> Index:
    """What a folder holds of a sweep already; only reads. Raises Refused."""
    folder = Folder(out)
    folder.refuse_another(sweep, {name: one.digest for name, one in made.corpora.items()})
    return folder.store.load(set_aside=False)


def limits_of(told: argparse.Namespace, speed: Speed | None) -> list[Limit]:
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
