"""Orders by score: the windows of the uniform run, each once an epoch, sorted piece by piece."""

import dataclasses
import itertools
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.corpora import Corpus, open_corpus, write_store
from lab.errors import Refused
from lab.identity import Path, scores_of
from lab.mixture import Stream
from lab.order import sorted_windows
from lab.scores import score_digest, window_scores
from lab.spec import RunSpec, canonical, from_json, hold
from lab.texts import Text
from tests.lab.building import BATCH, TINY, few, phase, run_of, shares

CONTEXT = TINY.context
WINDOWS = 60  # about, of each corpus
KINDS = ("ascending", "descending", "folded:2", "folded:7")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """`a` and `b`: documents of unlike length, with a truth and a second score, some alike."""
    folder = tmp_path_factory.mktemp("home")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(folder))
        for seed, name in enumerate("ab"):
            draw = np.random.default_rng(seed)
            lengths = draw.integers(3, 40, 25).tolist()
            documents = [bytes(draw.integers(1, 31, n).tolist()) for n in lengths]
            given = {
                "truth": draw.random(25).tolist(),
                "liked": draw.integers(0, 3, 25).astype(float).tolist(),
            }
            text = Text(documents, "a test", scores=given)
            write_store(folder / "corpora" / name, name, text)
            found[name] = open_corpus(name)
    return found


def stream(corpora: dict[str, Corpus], run: RunSpec) -> Stream:
    return Stream(path(corpora, run), {one.digest: one for one in corpora.values()})


def path(corpora: dict[str, Corpus], run: RunSpec) -> Path:
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    for name, score in itertools.product(corpora, ("truth", "liked")):
        digests[scores_of(name, score)] = score_digest(corpora[name], score)
    return Path(run, digests)


def windows(one: Stream, corpus: Corpus, step: int, steps: int) -> list[int]:
    """Windows that some steps read of one corpus, in order."""
    digests, which, window = one.window_indices(step, steps)
    if corpus.digest not in digests:
        return []
    return window.ravel()[which.ravel() == digests.index(corpus.digest)].tolist()


def ordered(kind: str, steps: int = 20, score: str = "truth", seed: int = 0) -> RunSpec:
    return run_of(phase("p", steps, shares(a=1.0), order=kind, score=score), seed=seed)


# Sorting -------------------------------------------------------------------------------------


@few
@given(st.data(), st.sampled_from(KINDS), st.integers(1, 30), st.integers(0, 100))
def test_pieces_are_sorted_and_hold_what_they_held(
    data: st.DataObject, kind: str, epoch: int, begun: int
) -> None:
    whole = np.concatenate([np.random.default_rng(e).permutation(epoch) for e in range(9)])
    begun %= 3 * epoch
    count = data.draw(st.integers(0, 5 * epoch))
    taken = whole[begun : begun + count]
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=epoch, max_size=epoch)), float)
    found = sorted_windows(taken, scores, kind, begun, epoch)
    folds = int(kind.partition(":")[2] or 1)
    ends = {n for n in range(count + 1) if (begun + n) % epoch == 0} | {0, count}
    ends |= {count * k // folds for k in range(folds)}
    for first, last in itertools.pairwise(sorted(ends)):
        piece, was = found[first:last].tolist(), taken[first:last].tolist()
        assert sorted(piece) == sorted(was)
        values = [scores[w] * (-1 if kind == "descending" else 1) for w in piece]
        assert values == sorted(values)
        for value in set(values):  # of one score: as they were shuffled
            alike = [w for w, v in zip(piece, values, strict=True) if v == value]
            assert alike == [w for w in was if w in set(alike)]


# Streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [5, 20, 75])  # 10, 40 and 150 windows of about 60
def test_an_order_reads_the_windows_of_the_uniform_run(
    corpora: dict[str, Corpus], kind: str, steps: int
) -> None:
    a = corpora["a"]
    uniform = windows(stream(corpora, ordered("uniform", steps)), a, 0, steps)
    found = windows(stream(corpora, ordered(kind, steps)), a, 0, steps)
    assert found != uniform
    epoch = a.train_windows(CONTEXT)
    for first in range(0, len(found), epoch):
        piece = found[first : first + epoch]
        assert sorted(piece) == sorted(uniform[first : first + epoch])
        assert len(set(piece)) == len(piece)  # every window once an epoch


@pytest.mark.parametrize("score", ["truth", "liked"])
def test_scores_rise_over_the_phase_or_fall_or_rise_again(
    corpora: dict[str, Corpus], score: str
) -> None:
    a = corpora["a"]
    value = window_scores(a, score, CONTEXT)

    def read(kind: str) -> np.ndarray:
        return value[windows(stream(corpora, ordered(kind, score=score)), a, 0, 20)]

    assert (np.diff(read("ascending")) >= 0).all()
    assert (np.diff(read("descending")) <= 0).all()
    folded = read("folded:4").reshape(4, 10)
    assert (np.diff(folded, axis=1) >= 0).all()
    assert (folded[:-1, -1] > folded[1:, 0]).all()
    assert (np.diff(read("uniform")) < 0).any()


@few
@given(st.sampled_from(KINDS), st.integers(0, 22), st.integers(0, 23))
def test_any_steps_at_once_are_those_of_the_sequence(
    corpora: dict[str, Corpus], kind: str, step: int, steps: int
) -> None:
    steps = min(steps, 23 - step)
    first = phase("p", 9, shares(a=1.0))
    run = run_of(first, phase("q", 14, shares(a=0.5, b=0.5), hold(), order=kind))
    alone = np.concatenate([stream(corpora, run).tokens(k, 1) for k in range(23)])
    resumed = stream(corpora, run)  # begins at `step`, as a run that is gone on with does
    assert np.array_equal(resumed.tokens(step, steps), alone[step : step + steps])


def test_sorting_the_last_phase_sorts_what_it_reads_and_no_more(
    corpora: dict[str, Corpus],
) -> None:
    a = corpora["a"]
    first, last = phase("p", 12, shares(a=1.0)), phase("q", 10, shares(a=1.0), hold())
    plain = stream(corpora, run_of(first, last))
    sorted_ = stream(corpora, run_of(first, dataclasses.replace(last, order="ascending")))
    assert windows(plain, a, 0, 12) == windows(sorted_, a, 0, 12)
    before, after = windows(plain, a, 12, 10), windows(sorted_, a, 12, 10)
    assert sorted(before) == sorted(after)
    value = window_scores(a, "truth", CONTEXT)
    assert (np.diff(value[after]) >= 0).all()
    assert not set(after) & set(windows(sorted_, a, 0, 12))  # still unseen
    # two sorted phases are sorted one by one, and what comes behind them goes on unseen
    twice = stream(
        corpora,
        run_of(
            dataclasses.replace(first, order="ascending"),
            dataclasses.replace(last, order="ascending"),
            phase("r", 5, shares(a=1.0), hold()),
        ),
    )
    read = value[windows(twice, a, 0, 22)]
    assert (np.diff(read[:24]) >= 0).all()
    assert (np.diff(read[24:]) >= 0).all()
    assert read[23] > read[24]
    rest = windows(stream(corpora, run_of(phase("p", 27, shares(a=1.0)))), a, 22, 5)
    assert windows(twice, a, 22, 5) == rest


def test_what_is_read_again_may_be_sorted(corpora: dict[str, Corpus]) -> None:
    a = corpora["a"]
    again = phase("q", 10, shares(a=1.0), hold(), order="ascending", reread=("a",))
    one = stream(corpora, run_of(phase("p", 12, shares(a=1.0)), again))
    first, found = windows(one, a, 0, 10), windows(one, a, 12, 10)
    assert sorted(found) == sorted(first)  # literal replay: the very windows of the trunk's start
    assert (np.diff(window_scores(a, "truth", CONTEXT)[found]) >= 0).all()


def test_each_corpus_of_a_mixture_is_sorted_by_its_own_scores(corpora: dict[str, Corpus]) -> None:
    mixture = shares(b=0.25, a=0.75)
    plain = run_of(phase("p", 16, mixture))
    run = run_of(phase("p", 16, mixture, order="ascending"))
    one, uniform = stream(corpora, run), stream(corpora, plain)
    which = one.window_indices(0, 16)[1]
    assert np.array_equal(which, uniform.window_indices(0, 16)[1])  # the mixture stays
    for corpus in corpora.values():
        found = windows(one, corpus, 0, 16)
        assert sorted(found) == sorted(windows(uniform, corpus, 0, 16))
        assert (np.diff(window_scores(corpus, "truth", CONTEXT)[found]) >= 0).all()
    assert one.cursors(16) == uniform.cursors(16)


def test_seeds_read_other_windows_and_break_ties_otherwise(corpora: dict[str, Corpus]) -> None:
    a = corpora["a"]
    steps = a.train_windows(CONTEXT) // BATCH
    runs = [ordered("ascending", steps, "liked", seed) for seed in (0, 1)]
    found = [windows(stream(corpora, run), a, 0, steps) for run in runs]
    assert found[0] != found[1]


# Identity ------------------------------------------------------------------------------------


def ids(corpora: dict[str, Corpus], *phases: Any) -> list[str]:
    one = path(corpora, run_of(*phases))
    return [one.state_id(step) for step in range(one.steps + 1)]


def test_an_order_is_an_input_of_its_steps(corpora: dict[str, Corpus]) -> None:
    plain = phase("p", 10, shares(a=1.0))
    kinds = [dataclasses.replace(plain, order=kind) for kind in ("uniform", *KINDS)]
    other = dataclasses.replace(plain, order="ascending", score="liked")
    found = [ids(corpora, one) for one in (*kinds, other)]
    assert len({one[0] for one in found}) == 1
    assert len({state for one in found for state in one[1:]}) == 10 * len(found)
    # what a uniform order is not sorted by tells nothing apart
    assert ids(corpora, dataclasses.replace(plain, score="liked")) == found[0]


def test_a_longer_sorted_phase_does_not_begin_with_the_shorter_one(
    corpora: dict[str, Corpus],
) -> None:
    short = ids(corpora, phase("p", 10, shares(a=1.0), order="ascending"))
    long = ids(corpora, phase("p", 12, shares(a=1.0), order="ascending"))
    assert not set(short[1:]) & set(long[1:])


def test_sorted_phases_share_their_steps_whatever_becomes_of_the_rates(
    corpora: dict[str, Corpus],
) -> None:
    from lab.spec import decay, warm
    from tests.lab.building import LR, STEP

    held = phase("p", 10, shares(a=1.0), warm(STEP, LR), hold(), order="ascending")
    falling = dataclasses.replace(held, schedule=(warm(STEP, LR), hold(6 * STEP), decay(None, 0.0)))
    one, two = ids(corpora, held), ids(corpora, falling)
    assert one[:8] == two[:8]
    assert one[8] != two[8]


def test_sorted_phases_are_not_merged_and_uniform_ones_are(corpora: dict[str, Corpus]) -> None:
    halves = [phase(name, 5, shares(a=1.0), *([hold()] if name == "q" else [])) for name in "pq"]
    whole = phase("p", 10, shares(a=1.0))
    assert ids(corpora, *halves) == ids(corpora, whole)
    sorted_ = [dataclasses.replace(one, order="ascending") for one in halves]
    stretches = path(corpora, run_of(*sorted_)).stretches
    assert [(s.start, s.stop) for s in stretches] == [(0, 5), (5, 10)]
    assert (
        ids(corpora, *sorted_)[6] != ids(corpora, dataclasses.replace(whole, order="ascending"))[6]
    )


def test_other_scores_under_one_name_are_another_path(
    corpora: dict[str, Corpus], tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    documents = [b"a document %02d." % k for k in range(20)]
    states = []
    for name, values in (("one", range(20)), ("two", range(20, 0, -1))):
        text = Text(documents, "a test", scores={"truth": [float(v) for v in values]})
        write_store(tmp_path / "corpora" / name, name, text)
        states.append(path_of(open_corpus(name)).state_id(3))
    assert states[0] != states[1]


def path_of(corpus: Corpus) -> Path:
    run = run_of(phase("p", 3, shares(**{corpus.name: 1.0}), order="ascending"))
    digests = {corpus.name: corpus.digest}
    return Path(run, digests | {scores_of(corpus.name, "truth"): score_digest(corpus, "truth")})


# As written ----------------------------------------------------------------------------------


def test_the_default_order_is_not_written() -> None:
    plain = phase("p", 4, shares(a=1.0))
    assert "order" not in canonical(plain)
    assert "score" not in canonical(plain)
    run = ordered("folded:3", score="perplexity")
    assert '"order":"folded:3"' in canonical(run)
    assert from_json(RunSpec, canonical(run)) == run


@pytest.mark.parametrize(
    "order", ["", "random", "Ascending", "folded", "folded:1", "folded:0", "folded:-2", "folded:2x"]
)
def test_what_is_no_order_is_refused_in_one_line(order: str) -> None:
    with pytest.raises(Refused, match=r"phase 'p': order = .*: uniform, ascending, descending"):
        phase("p", 4, shares(a=1.0), order=order)


@pytest.mark.parametrize("score", ["", "../truth", "a.b", "Truth", "a/b", "x\n"])
def test_what_is_no_name_of_a_score_is_refused(score: str) -> None:
    with pytest.raises(Refused, match=r"phase 'p': score = .*: must name a score"):
        phase("p", 4, shares(a=1.0), order="ascending", score=score)
