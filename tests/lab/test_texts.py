"""What the built-in texts hold and what they leave out; the two entropy rates are true."""

import itertools
import re
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from lab import texts
from lab.texts import Text

ASSERT_TOPIC = b'The "assert" statement\n**'


@pytest.fixture(scope="module")
def prose() -> Text:
    return texts.prose()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of four modules of the real one, and of what must be left out."""
    real = Path(sysconfig.get_paths()["stdlib"])
    for name in ("textwrap.py", "colorsys.py", "pydoc_data/topics.py", "encodings/cp1252.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(real / name, tmp_path / name)
    for name in ("test/a.py", "json/tests/a.py", "site-packages/a.py", "_sysconfigdata_x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('"""LEFT OUT"""\nleft_out = 1\n')
    (tmp_path / "bad_syntax.py").write_text("left_out = =\n")
    (tmp_path / "bad_bytes.py").write_bytes(b"left_out = '\xff'\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_prose_is_every_chapter_without_numbers_and_brackets(prose: Text) -> None:
    assert len(prose.documents) == 1189
    assert prose.documents[0].startswith(b"In the beginning God created the heaven and the earth.")
    whole = b"".join(prose.documents)
    assert not re.search(rb"[0-9\[\]]", whole)
    assert b"And God said, Let there be light: and there was light." in whole
    assert all(document.endswith(b"\n") for document in prose.documents)


@pytest.mark.usefixtures("library")
def test_code_is_modules_without_their_docstrings() -> None:
    documents = texts.code().documents
    assert len(documents) == 2
    whole = b"".join(documents)
    assert b"class TextWrapper:" in whole
    assert b"def _munge_whitespace(self, text):" in whole
    assert b"def rgb_to_hls(r, g, b):" in whole
    assert b"Text wrapping and filling." not in whole  # of the module
    assert b"Object for wrapping/filling text." not in whole  # of the class
    assert b"Munge whitespace in text: expand tabs" not in whole  # of the method
    assert b"decoding_table" not in whole
    assert ASSERT_TOPIC not in whole
    assert b"left_out" not in whole


def test_docstrings_go_also_behind_a_form_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A form feed ends no line to the parser, but does to str.splitlines.
    source = (
        'x = 1\n\x0c\ndef f():\n    """Gone."""\n    return x\n'
        '\x0c\nclass C:\n    "Gone."\n    y = 2\n'
    )
    tree = texts.ast.parse(source)
    monkeypatch.setattr(texts, "_library_sources", lambda: [("one.py", source, tree)])
    kept = "x = 1\n\x0c\ndef f():\n    return x\n\x0c\nclass C:\n    y = 2\n"
    assert texts.code().documents == [kept.encode()]


@pytest.mark.usefixtures("library")
def test_docs_are_docstrings_and_topics_dedented() -> None:
    documents = texts.docs().documents
    whole = b"\0".join(documents)
    assert b"\n\nObject for wrapping/filling text.  The public interface consists of\nthe" in whole
    assert b"def _munge_whitespace(self, text):" not in whole
    assert b"LEFT OUT" not in whole
    assert sum(document.startswith(b"Text wrapping and filling.") for document in documents) == 1
    assert sum(document.startswith(ASSERT_TOPIC) for document in documents) == 1


def test_the_real_library_is_found() -> None:
    found = {relative for relative, _, _ in itertools.islice(texts._library_sources(), 40)}
    assert "_collections_abc.py" in found


# Entropy rates -------------------------------------------------------------------------------


@pytest.fixture
def a_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "SYNTHETIC_BYTES", 2**20)


@pytest.mark.usefixtures("a_megabyte")
def test_the_markov_rate_is_what_the_best_reader_of_one_byte_pays() -> None:
    text = texts.synthetic_markov()
    letters = np.array([list(document) for document in text.documents]) - ord("0")
    assert letters.size == 2**20
    before, after = letters[:, :-1].ravel(), letters[:, 1:].ravel()
    counts = np.bincount(before * 64 + after, minlength=64 * 64).reshape(64, 64)
    seen = counts[counts > 0]
    rows = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)[counts > 0]
    plug_in = -(seen * np.log(seen / rows)).sum() / seen.sum()
    # Miller-Madow: a reader that learnt its table from the same text looks better than it is.
    corrected = plug_in + (len(seen) - 64) / (2 * seen.sum())
    # Measured: .0008 off; the standard error of a megabyte is about .001.
    assert corrected == pytest.approx(text.entropy_rate_nats, abs=3e-3)
    # And the letters behind that one say nothing more: it is a chain of the first order.
    alone = np.bincount(after, minlength=64) / after.size
    assert -(alone[alone > 0] * np.log(alone[alone > 0])).sum() > text.entropy_rate_nats + 1


@pytest.mark.usefixtures("a_megabyte")
def test_the_words_rate_is_their_entropy_over_their_length() -> None:
    text = texts.synthetic_words()
    words = [word for document in text.documents for word in document.split(b" ")[:-1]]
    counts = np.array(sorted(_count(words).values(), reverse=True))
    n = counts.sum()
    entropy = np.log(n) - (counts * np.log(counts)).sum() / n + (len(counts) - 1) / (2 * n)
    mean_bytes = sum(map(len, text.documents)) / n
    weights = 1 / (np.arange(4096) + 2.7)
    weights /= weights.sum()
    zipf = -(weights * np.log(weights)).sum()
    assert entropy == pytest.approx(zipf, abs=0.02)  # measured .002; standard error .004
    assert text.entropy_rate_nats == pytest.approx(zipf / mean_bytes, rel=5e-3)
    assert all(3 <= len(word) + 1 <= 10 for word in words)


def _count(words: list[bytes]) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


@pytest.mark.usefixtures("a_megabyte")
def test_synthetic_texts_are_the_same_every_time() -> None:
    for make in (texts.synthetic_markov, texts.synthetic_words):
        assert make() == make()
