"""Training text where the trainer reads it: whole on the devices if it fits, else by the chunk.

A window is named by the place where it begins in an array of tokens. Where the corpora fit, that
array is all of their training text, put on every device once, and only places travel. Where they
do not, or several hosts train together, each device has an array of its own: the windows of one
chunk for its lanes and its part of the batch, gathered from the memory maps by the host that it
belongs to. The windows that a run reads are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from lab.corpora import Corpus
from lab.mesh import Lanes
from lab.mixture import Stream
from lab.sharding import WINDOWS

RESIDENT_BYTES = 2**30  # of text a device may hold

Places = NDArray[np.int32]


class DeviceText:
    """Training text of some corpora, for chunks of up to C steps of B windows in every lane."""

    def __init__(
        self, corpora: Sequence[Corpus], lanes: Lanes, chunk: int, batch: int, context: int
    ) -> None:
        self.lanes, self.chunk, self.batch, self.context = lanes, chunk, batch, context
        parts = [part.train for corpus in corpora for part in corpus.parts]
        self.dtype = np.result_type(*parts)
        size = sum(map(len, parts)) * self.dtype.itemsize
        self.own = size > RESIDENT_BYTES or jax.process_count() > 1
        if self.own:
            self._starts = self._own_starts()
            return
        self.first: dict[str, int] = {}  # where a corpus begins, by digest
        begun = 0
        for corpus in corpora:
            self.first[corpus.digest] = begun
            begun += corpus.train_tokens
        whole = np.concatenate(parts, dtype=self.dtype)
        self._text: Any = jax.device_put(whole, lanes.replicated)

    def read(self, streams: Mapping[int, tuple[Stream, int]], steps: int) -> tuple[Any, Any]:
        """(text, starts [S, C, B]) of the next `steps` steps; `streams` maps lane to (whose, step).

        Starts of other lanes, and behind `steps`, mean nothing.
        """
        if self.own:
            return self._own_text(streams, steps), self._starts
        starts = np.zeros((self.lanes.count, self.chunk, self.batch), np.int32)
        for lane, (stream, step) in streams.items():
            starts[lane, :steps] = self._places(stream, step, steps)
        return self._text, starts

    def _places(self, stream: Stream, step: int, steps: int) -> Places:
        digests, which, window = stream.window_indices(step, steps)
        out = np.empty(which.shape, np.int32)
        for k, digest in enumerate(digests):
            mine = which == k
            places = stream.corpora[digest].window_places(window[mine], self.context)
            out[mine] = self.first[digest] + places
        return out

    # A text of each device's own -------------------------------------------------------------

    @property
    def _own_shape(self) -> tuple[int, int, int, int]:
        """Lanes of a device, steps, windows of a device, tokens of a window."""
        lanes, layout = self.lanes, self.lanes.layout
        windows = self.batch // (layout.data * layout.fsdp)
        return lanes.count // lanes.mesh.shape["run"], self.chunk, windows, self.context + 1

    def _own_starts(self) -> Any:
        """Where windows begin in a device's own text: one after another, always the same."""
        lanes, steps, windows, length = self._own_shape
        places = np.arange(lanes * steps * windows, dtype=np.int32) * length
        parts = self.batch // windows
        tiled = np.tile(places.reshape(lanes, steps, windows), (self._runs, 1, parts))
        sharding = NamedSharding(self.lanes.mesh, P("run", None, WINDOWS))
        return jax.make_array_from_callback(
            tiled.shape, sharding, lambda index: tiled[index or ...]
        )

    @property
    def _runs(self) -> int:
        return int(self.lanes.mesh.shape["run"])

    def _own_text(self, streams: Mapping[int, tuple[Stream, int]], steps: int) -> Any:
        lanes, _, windows, _ = self._own_shape
        parts = self.batch // windows
        tokens = int(np.prod(self._own_shape))
        gathered: dict[int, Any] = {}  # devices that differ in `tensor` alone have one text

        def text_of(index: tuple[slice, ...] | None) -> Any:
            assert index is not None
            number = (index[0].start or 0) // tokens
            if number not in gathered:
                run, part = divmod(number, parts)
                text = np.zeros(self._own_shape, self.dtype)
                for k in range(lanes):
                    if (found := streams.get(run * lanes + k)) is not None:
                        mine = slice(part * windows, (part + 1) * windows)
                        text[k, :steps] = found[0].tokens(found[1], steps, mine)
                gathered[number] = text.reshape(-1)
            return gathered[number]

        sharding = NamedSharding(self.lanes.mesh, P(("run", *WINDOWS)))
        return jax.make_array_from_callback((self._runs * parts * tokens,), sharding, text_of)
