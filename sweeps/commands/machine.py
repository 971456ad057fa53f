"""doctor, completion, data list, data prepare, data scores."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lab.corpora import known_names, open_corpus, refuse_name, write_store
from lab.damage import TRUTH
from lab.errors import Failed, Refused
from lab.home import home
from lab.scores import document_scores, score_names
from lab.texts import plain_text
from sweeps import diagnosis


def doctor(told: argparse.Namespace) -> Any:
    """What a bug report needs; hangs on no device and shows no secret."""
    folder = home()
    value: dict[str, Any] = {
        **diagnosis.versions(),
        "cores": diagnosis.cores(),
        "memory": diagnosis.memory(),
        "blas": diagnosis.blas(),
        "home": diagnosis.folder(folder, parts=True),
        "here": diagnosis.folder(Path.cwd()),
        "compiled": diagnosis.compiled(folder),
        "corpora": known_names(),
        "environment": diagnosis.environment(),
        "self_test": diagnosis.self_test(),
    }
    value["problems"] = diagnosis.problems(value)
    if not told.json:
        for key, one in value.items():
            if key not in ("problems", "environment"):
                print(f"{key:<12} {_said(one)}")
        for name, text in value["environment"].items():
            print(f"{'':<12} {name}={text}")
        print("\n".join(f"problem: {one}" for one in value["problems"]) or "no problem was found")
    return value


def _said(value: Any) -> str:
    """A value of a diagnosis on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items() if one != {})
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def completion(told: argparse.Namespace) -> Any:
    """The lines that a shell reads to complete `lab`."""
    import argcomplete

    script = argcomplete.shellcode(["lab"], shell=told.shell)
    if not told.json:
        print(script)
    return {"shell": told.shell, "script": script}


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
