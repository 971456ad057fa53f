"""Places on the device name the very windows that the stream reads from the memory maps."""

import jax
import numpy as np
import pytest

from lab import device_text, mesh
from lab.corpora import Corpus
from lab.device_text import DeviceText
from lab.identity import Path
from lab.mixture import Stream
from lab.spec import Share
from tests.lab.building import BATCH, TINY, counting_corpus, phase, run_of, shares

STEPS = 12


def stream_and_corpora() -> tuple[Stream, list[Corpus]]:
    one, two = counting_corpus("a", 40), counting_corpus("b", 25)
    union = Corpus("b+c", (*two.parts, *counting_corpus("c", 30).parts))
    names = {"a": one, "b+c": union}
    spec = run_of(
        phase("pretrain", 7, shares(a=1.0)),
        phase("cpt", 5, (Share("a", 0.3), Share("b+c", 0.7))),
    )
    path = Path(spec, {name: corpus.digest for name, corpus in names.items()})
    return Stream(path, {corpus.digest: corpus for corpus in names.values()}), [one, union]


def windows_of(text: DeviceText, stream: Stream, step: int, steps: int) -> np.ndarray:
    starts = text.starts(stream, step, steps)
    array = np.asarray(text.take())
    return array[starts[..., None] + np.arange(TINY.context + 1)].astype(np.int32)


@pytest.mark.parametrize("limit", [device_text.RESIDENT_BYTES, 0])
def test_windows_are_those_of_the_stream_resident_or_not(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_text, "RESIDENT_BYTES", limit)
    stream, corpora = stream_and_corpora()
    text = DeviceText(corpora, 4 * BATCH, TINY.context, mesh.lanes(1).replicated)
    assert text.resident == (limit > 0)
    for step in range(0, STEPS, 4):
        assert np.array_equal(windows_of(text, stream, step, 4), stream.tokens(step, 4))


def test_a_chunk_of_several_lanes_is_one_array_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_text, "RESIDENT_BYTES", 0)
    stream, corpora = stream_and_corpora()
    text = DeviceText(corpora, 2 * 3 * BATCH, TINY.context, mesh.lanes(1).replicated)
    starts = [text.starts(stream, step, 3) for step in (0, 7)]
    array = np.asarray(text.take())
    for step, places in zip((0, 7), starts, strict=True):
        windows = array[places[..., None] + np.arange(TINY.context + 1)]
        assert np.array_equal(windows.astype(np.int32), stream.tokens(step, 3))


def test_resident_text_is_put_on_the_devices_once() -> None:
    stream, corpora = stream_and_corpora()
    text = DeviceText(corpora, BATCH, TINY.context, mesh.lanes(1).replicated)
    first = text.take()
    text.starts(stream, 3, 1)
    assert text.take() is first
    assert isinstance(first, jax.Array)
