"""Training text where the trainer reads it: whole on the devices if it fits, else by the chunk.

A window is named by the place where it begins in one array of tokens. Where the corpora fit, that
array is all of their training text, put on the devices once, and only places travel. Where they do
not, it is the windows of one chunk, gathered from the memory maps and sent along. The program is
the same, and so are the windows that it reads.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from numpy.typing import NDArray

from lab.corpora import Corpus
from lab.mixture import Stream

RESIDENT_BYTES = 2**30  # of text a device may hold


class DeviceText:
    """Training text of some corpora for chunks of at most `windows` windows of `context` tokens."""

    def __init__(
        self, corpora: Sequence[Corpus], windows: int, context: int, sharding: Sharding
    ) -> None:
        self.context, self.sharding = context, sharding
        parts = [part.train for corpus in corpora for part in corpus.parts]
        self.dtype = np.result_type(*parts)
        self.resident = sum(map(len, parts)) * self.dtype.itemsize <= RESIDENT_BYTES
        self.first: dict[str, int] = {}  # where a corpus begins, by digest
        begun = 0
        for corpus in corpora:
            self.first[corpus.digest] = begun
            begun += corpus.train_tokens
        self._tokens: Any
        if self.resident:
            self._tokens = jax.device_put(np.concatenate(parts, dtype=self.dtype), sharding)
        else:
            self._tokens = np.zeros(windows * (context + 1), self.dtype)
        self._gathered = 0

    def starts(self, stream: Stream, step: int, steps: int) -> NDArray[np.int32]:
        """Where each window of steps step..step+steps begins, [steps, B]."""
        if not self.resident:
            return self._gather(stream.tokens(step, steps))
        digests, which, window = stream.window_indices(step, steps)
        out = np.empty(which.shape, np.int32)
        for k, digest in enumerate(digests):
            mine = which == k
            places = stream.corpora[digest].window_places(window[mine], self.context)
            out[mine] = self.first[digest] + places
        return out

    def _gather(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        steps, batch, length = tokens.shape
        places = self._gathered + np.arange(steps * batch) * length
        self._tokens[self._gathered : self._gathered + tokens.size] = tokens.reshape(-1)
        self._gathered += tokens.size
        return places.reshape(steps, batch).astype(np.int32)

    def take(self) -> Any:
        """The array that the places given out since the last call are places in."""
        if self.resident:
            return self._tokens
        sent = jax.device_put(self._tokens.copy(), self.sharding)
        self._gathered = 0
        return sent
