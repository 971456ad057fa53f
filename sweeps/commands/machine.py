"""doctor, data list, data prepare, data scores."""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from lab.corpora import known_names, open_corpus, refuse_name, write_store
from lab.damage import TRUTH
from lab.errors import Failed, Refused
from lab.home import home
from lab.scores import document_scores, score_names
from lab.texts import plain_text


def doctor(told: argparse.Namespace) -> Any:
    """What a bug report needs."""
    from sweeps.write_up import PACKAGES, version

    folder = home()
    value: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "packages": {name: version(name) for name in PACKAGES},
        "folder": str(folder),
        "folder_free_gb": round(shutil.disk_usage(folder).free / 2**30, 1),
        "corpora": known_names(),
    }
    try:
        import jax

        value["devices"] = [f"{d.platform} {d.device_kind}" for d in jax.devices()]
    except RuntimeError as error:
        value["devices"] = [f"none: {str(error).splitlines()[0]}"]
    if not told.json:
        for key, one in value.items():
            text = one
            if isinstance(one, dict):
                text = ", ".join(f"{name} {version}" for name, version in one.items())
            elif isinstance(one, list):
                text = ", ".join(one)
            print(f"{key:<16} {text}")
    return value


def list_corpora(told: argparse.Namespace) -> Any:
    """Every corpus by name; the built-in ones are made first."""
    rows: list[dict[str, Any]] = []
    for name in known_names():
        try:
            store = open_corpus(name).parts[0]
        except (Refused, Failed) as trouble:
            print(f"lab: {trouble}", file=sys.stderr)
            continue
        rows.append(
            {
                "name": name,
                "source": store.source,
                "documents": store.documents,
                "duplicates_dropped": store.duplicates,
                "train_tokens": len(store.train),
                "validation_tokens": len(store.validation),
                "vocabulary": store.vocabulary,
                "entropy_rate_nats": store.entropy_rate_nats,
                "digest": store.digest,
            }
        )
    if not told.json:
        print(
            f"{'name':<18} {'train':>11} {'validation':>11} {'documents':>10}  digest        source"
        )
        for row in rows:
            known = row["entropy_rate_nats"]
            rate = f"; entropy rate {known:.4f} nats/byte" if known is not None else ""
            print(
                f"{row['name']:<18} {row['train_tokens']:>11,} {row['validation_tokens']:>11,} "
                f"{row['documents']:>10,}  {row['digest'][:12]}  {row['source']}{rate}"
            )
        print("A union is written a+b, as in prose+docs.")
    return rows


def prepare(told: argparse.Namespace) -> Any:
    """Make a corpus of the user's own text files."""
    name = told.name
    refuse_name(name)
    text = plain_text([Path(source) for source in told.sources])
    write_store(home() / "corpora" / name, name, text)
    store = open_corpus(name).parts[0]
    if not told.json:
        print(
            f"{name}: {len(store.train):,} training tokens, {len(store.validation):,} validation "
            f"tokens, {store.documents} documents, {store.duplicates} exact duplicates dropped"
        )
    return {"name": name, "train_tokens": len(store.train), "digest": store.digest}


def scores(told: argparse.Namespace) -> Any:
    """Every score of a corpus's training documents, and how well it ranks them as the truth does.

    Scores that are computed from the text are computed now, and kept.
    """
    import numpy as np
    from scipy.stats import spearmanr

    parts = open_corpus(told.name).parts
    names = [name for name in score_names(parts[0]) if all(name in score_names(p) for p in parts)]
    found = {name: np.concatenate([document_scores(p, name) for p in parts]) for name in names}
    rows = [
        {
            "score": name,
            "documents": len(values),
            "lowest": float(values.min()),
            "median": float(np.median(values)),
            "highest": float(values.max()),
            "spearman_truth": float(spearmanr(found[TRUTH], values).statistic)
            if TRUTH in found
            else None,
        }
        for name, values in found.items()
    ]
    if not told.json:
        print(
            f"{'score':<14} {'documents':>9} {'lowest':>9} {'median':>9} {'highest':>9}  as truth"
        )
        for row in rows:
            agrees = row["spearman_truth"]
            print(
                f"{row['score']:<14} {row['documents']:>9,} {row['lowest']:>9.3f} "
                f"{row['median']:>9.3f} {row['highest']:>9.3f}  "
                + (f"{agrees:.3f}" if agrees is not None else "unknown")
            )
        print("More is better. 'As truth': Spearman's rank correlation with what was done to them.")
    return rows
