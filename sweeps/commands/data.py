"""data list, data prepare, data scores."""

import argparse
import os
import sys
import time
from typing import Any

from lab.corpora import TokenStore, known_names, made_best, open_corpus
from lab.damage import TRUTH
from lab.errors import Failed, Refused
from lab.scores import document_scores, score_names
from lab.sources import Columns

PLAIN_SECONDS = 10.0  # between two lines of progress, where output is no terminal


def list_corpora(told: argparse.Namespace) -> Any:
    """Every corpus by name; the built-in ones are made first."""
    rows: list[dict[str, Any]] = []
    if not told.json:
        print(
            f"{'name':<18} {'train':>13} {'validation':>11} {'documents':>10} {'twice':>7}  "
            f"{'tokenizer':<14} digest        source",
            flush=True,
        )
    for name in [*known_names(), *made_best()]:
        try:
            row = _row(name, open_corpus(name).parts[0])
        except (Refused, Failed) as trouble:
            print(f"lab: {trouble}", file=sys.stderr)
            continue
        rows.append(row)
        if not told.json:  # at once: the first time, the next one takes seconds to make
            known = row["entropy_rate_nats"]
            rate = f"; entropy rate {known:.4f} nats/byte" if known is not None else ""
            print(
                f"{row['name']:<18} {row['train_tokens']:>13,} {row['validation_tokens']:>11,} "
                f"{row['documents']:>10,} {row['duplicates_dropped']:>7,}  {row['tokenizer']:<14} "
                f"{row['digest'][:12]}  {row['source']}{rate}",
                flush=True,
            )
    if not told.json:
        print("Twice: exact duplicates, dropped. A union is written a+b, as in prose+docs.")
    return rows


def _row(name: str, store: TokenStore) -> dict[str, Any]:
    return {
        "name": name,
        "source": store.source,
        "documents": store.documents,
        "duplicates_dropped": store.duplicates,
        "train_tokens": len(store.train),
        "validation_tokens": len(store.validation),
        "tokenizer": store.tokenizer,
        "vocabulary": store.vocabulary,
        "bytes_per_token": store.bytes_per_token,
        "entropy_rate_nats": store.entropy_rate_nats,
        "digest": store.digest,
    }


def prepare(told: argparse.Namespace) -> Any:
    """Make a corpus of the user's own text."""
    from lab.prepare import Recipe
    from lab.prepare import prepare as make

    columns = Columns(told.text_column, _labels(told.keep))
    recipe = Recipe(
        tuple(told.sources),
        columns,
        told.tokenizer,
        told.keep is not None,
        told.split,
        told.config,
    )
    processes = _cores() if told.processes is None else told.processes
    progress = _Progress(told.json)
    try:
        made = make(told.name, recipe, processes, progress.told)
    finally:
        progress.end()
    store = open_corpus(told.name).parts[0]
    value = {"made": made, **_row(told.name, store)}
    if not told.json:
        print(
            f"{told.name}: {len(store.train):,} training tokens, {len(store.validation):,} "
            f"validation tokens ({store.tokenizer}, {store.vocabulary:,} ids), "
            f"{store.documents:,} documents, {store.duplicates:,} exact duplicates dropped"
            + ("" if made else "; it was there already")
        )
    return value


def _labels(keep: str | None) -> tuple[tuple[str, str], ...]:
    """`--keep NAME,NAME=COLUMN` -> (name, column) each."""
    found = []
    for one in (keep or "").split(","):
        name, equals, column = one.strip().partition("=")
        if name or equals:
            found.append((name, column if equals else name))
    return tuple(found)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


class _Progress:
    """How far preparing is: one line that changes on a terminal, else a line now and then."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.live = quiet, sys.stderr.isatty()
        self.what, self.begun, self.shown = "", 0.0, time.monotonic()

    def told(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if what != self.what:
            self.end()
            self.what, self.begun = what, now
        if self.quiet or (not self.live and now - self.shown < PLAIN_SECONDS):
            return
        self.shown = now
        seconds = max(now - self.begun, 1e-9)
        left = seconds * (of - done) / max(done, 1)
        line = f"{what} {done / 1e6:,.0f} of {of / 1e6:,.0f} MB, about {left:.0f} s left"
        print(f"\r\x1b[K{line}" if self.live else f"lab: {line}", end="" if self.live else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    def end(self) -> None:
        if self.live and self.what and not self.quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def scores(told: argparse.Namespace) -> Any:
    """Every score of a corpus's training documents, and how well it ranks them as the truth does.

    Scores that are computed from the text are computed now, and kept.
    """
    import numpy as np
    from scipy.stats import spearmanr

    parts = open_corpus(told.name).parts
    names = [name for name in score_names(parts[0]) if all(name in score_names(p) for p in parts)]
    if told.only is not None:
        for name in told.only.split(","):
            if name not in names:
                raise Refused(f"corpus {told.name!r} has no score {name!r}; {', '.join(names)}")
        names = told.only.split(",")
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
        print("A date is a number of days since 1970.")
    return rows
