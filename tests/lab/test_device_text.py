"""Places on the device name the very windows that the stream reads from the memory maps."""

import jax
import numpy as np
import pytest

from lab import device_text, mesh
from lab.corpora import Corpus
from lab.device_text import DeviceText
from lab.identity import Path
from lab.layout import Layout
from lab.mixture import Stream
from lab.spec import Share
from tests.lab.building import BATCH, TINY, counting_corpus, phase, run_of, shares


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


def windows_of(text: DeviceText, streams: dict[int, tuple[Stream, int]], steps: int) -> np.ndarray:
    """Windows [S, steps, B, L + 1] as the devices find them."""
    array, starts = text.read(streams, steps)
    array, starts = np.asarray(array), np.asarray(starts)[:, :steps]
    places = starts[..., None] + np.arange(TINY.context + 1)
    if not text.own:
        return array[places].astype(np.int32)
    layout = text.lanes.layout
    runs, parts = text.lanes.mesh.shape["run"], layout.data * layout.fsdp
    texts = array.reshape(runs, parts, -1)
    out = np.empty(places.shape, np.int32)
    for lane, part in np.ndindex(len(starts), parts):
        mine = np.arange(BATCH) * parts // BATCH == part
        out[lane][:, mine] = texts[lane * runs // len(starts), part][places[lane][:, mine]]
    return out


@pytest.mark.parametrize("limit", [device_text.RESIDENT_BYTES, 0])
@pytest.mark.parametrize("axes", [{}, {"data": 2}, {"fsdp": 2, "tensor": 2}])
def test_windows_are_those_of_the_stream_resident_or_not(
    limit: int, axes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_text, "RESIDENT_BYTES", limit)
    stream, corpora = stream_and_corpora()
    stack = mesh.lanes(4, Layout(run=2, **axes))
    text = DeviceText(corpora, stack, 4, BATCH, TINY.context)
    assert text.own == (limit == 0)
    streams = {0: (stream, 0), 2: (stream, 5), 3: (stream, 8)}
    for steps in (4, 3):
        found = windows_of(text, streams, steps)
        for lane, (_, step) in streams.items():
            assert np.array_equal(found[lane], stream.tokens(step, steps))


def test_of_each_batch_only_its_part_is_read() -> None:
    stream, _ = stream_and_corpora()
    whole = stream.tokens(5, 4)
    for part in (slice(0, 1), slice(1, BATCH)):
        assert np.array_equal(stream.tokens(5, 4, part), whole[:, part])


def test_resident_text_is_put_on_the_devices_once() -> None:
    stream, corpora = stream_and_corpora()
    text = DeviceText(corpora, mesh.lanes(1), 1, BATCH, TINY.context)
    first, _ = text.read({0: (stream, 3)}, 1)
    assert text.read({0: (stream, 4)}, 1)[0] is first
    assert isinstance(first, jax.Array)
