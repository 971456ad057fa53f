"""(run, step) -> which windows of which corpora: the order of the data.

The corpus of each window comes from error diffusion, so the realised share is exact to a window,
any step can be asked for at once, and the windows of the first corpus only grow with its weight
(branches at different ratios read nested prefixes of one stream). Within a corpus an index shuffle
per epoch (grain) orders the windows. The cursor in each corpus is part of the chain: a later phase
goes on where the earlier ones stopped, so replayed text is text not seen before, until an epoch is
full. Only what a phase says it rereads begins anew, with the windows of the run's first steps; a
phase behind it goes on behind all that was read. A phase may sort the windows that it reads
(`lab.order`): they are the same ones.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.corpora import Corpus
from lab.identity import WEIGHT_ONE, Path, Stretch
from lab.order import sorted_windows
from lab.scores import window_scores
from lab.spec import canonical

Ints = NDArray[np.int64]
_HALF = WEIGHT_ONE // 2
_BLOCK = 4096  # shuffled window indices are made this many at a time


def diffuse(first: int, count: int, weights: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Corpus of each of the windows first..first+count, and its ordinal within that corpus.

    `weights` are in units of 2^-32. Two corpora: window n goes to the first of them when
    floor(n w + 1/2) steps up. More: the rest is divided the same way, one corpus after another, so
    that a change of the first weight never reorders the first corpus.
    """
    which = np.full(count, len(weights) - 1, np.int64)
    ordinal = np.zeros(count, np.int64)
    place = np.arange(first, first + count, dtype=np.int64)  # index among windows still undivided
    open_ = np.ones(count, bool)
    for k, weight in enumerate(weights):
        rest = sum(weights[k:])
        share = WEIGHT_ONE if k == len(weights) - 1 else round(weight * WEIGHT_ONE / rest)
        before = _taken(place, share)
        takes = open_ & (_taken(place + 1, share) > before)
        which[takes] = k
        ordinal[takes] = before[takes]
        open_ &= ~takes
        place = place - before
    return which, ordinal


def diffused_counts(windows: int, weights: tuple[int, ...]) -> list[int]:
    """Windows that each corpus gets of the first `windows`."""
    counts: list[int] = []
    left = windows
    for k, weight in enumerate(weights):
        rest = sum(weights[k:])
        share = WEIGHT_ONE if k == len(weights) - 1 else round(weight * WEIGHT_ONE / rest)
        taken = (left * share + _HALF) >> 32
        counts.append(taken)
        left -= taken
    return counts


def _taken(place: Ints, share: int) -> Ints:
    return (place * share + _HALF) >> 32


@lru_cache(maxsize=64)
def _shuffle(windows: int, seed: int) -> Any:
    import grain  # two seconds: only whoever reads data pays for it

    return grain.MapDataset.range(windows).shuffle(seed=seed).batch(_BLOCK, drop_remainder=False)


@lru_cache(maxsize=4096)
def _shuffled_block(windows: int, seed: int, epoch: int, block: int) -> Ints:
    # grain shuffles epoch e with seed + e: seeds are spread by a hash, so that the second epoch of
    # one run is not the first of its neighbour.
    spread = hashlib.sha256(canonical([seed, epoch]).encode()).digest()
    dataset = _shuffle(windows, int.from_bytes(spread[:4], "little"))
    return np.asarray(dataset[block], np.int64)


def window_order(windows: int, seed: int, ordinals: Ints) -> Ints:
    """Windows of a corpus at the given places of its endless, epoch-wise shuffled stream."""
    out = np.empty(len(ordinals), np.int64)
    epochs, places = np.divmod(ordinals, windows)
    blocks = places // _BLOCK
    for epoch, block in sorted(set(zip(epochs.tolist(), blocks.tolist(), strict=True))):
        here = (epochs == epoch) & (blocks == block)
        out[here] = _shuffled_block(windows, seed, epoch, block)[places[here] - block * _BLOCK]
    return out


@dataclass(frozen=True)
class Stream:
    """The data of one run: token windows by step. `corpora` maps digest to open corpus."""

    path: Path
    corpora: Mapping[str, Corpus] = field(hash=False, compare=False)

    @cached_property
    def _seeds(self) -> dict[str, int]:
        seed = self.path.run.seed
        return {
            digest: int.from_bytes(hashlib.sha256(f"{seed}/{digest}".encode()).digest()[:4], "big")
            for stretch in self.path.stretches
            for digest, _ in stretch.shares
        }

    def cursors(self, step: int) -> dict[str, int]:
        """Windows read from each corpus (by digest) in steps 0..step, those reread once more, and
        before a run's start."""
        cursors = self._at_start()
        for stretch, counts in self._read(step):
            for (digest, _), count in zip(stretch.shares, counts, strict=True):
                cursors[digest] += count
        return cursors

    def places(self, step: int) -> dict[str, int]:
        """How far into the stream of each corpus (by digest) the state at `step` has come."""
        places = self._at_start()
        for stretch, counts in self._read(step):
            for (digest, _), count in zip(stretch.shares, counts, strict=True):
                if digest in stretch.reread:
                    places[digest] = max(places[digest], count)
                else:
                    places[digest] += count
        return places

    def _at_start(self) -> dict[str, int]:
        cursors = dict.fromkeys(self._seeds, 0)
        if self.path.origin is not None:
            cursors |= {one.corpus: one.windows for one in self.path.origin.read}
        return cursors

    def _read(self, step: int) -> Iterator[tuple[Stretch, list[int]]]:
        """Stretches begun in steps 0..step, and the windows that each read of its corpora."""
        for stretch in self.path.stretches:
            steps = min(stretch.stop, step) - stretch.start
            if steps > 0:
                weights = tuple(weight for _, weight in stretch.shares)
                before = self._windows_before(stretch)
                until = diffused_counts(before + steps * self.path.run.batch, weights)
                begun = diffused_counts(before, weights)
                yield stretch, [last - first for last, first in zip(until, begun, strict=True)]

    def _windows_before(self, stretch: Stretch) -> int:
        """Windows of a stretch that an adopted checkpoint read before this run goes on with it."""
        origin = self.path.origin
        if origin is None or stretch.start > 0 or stretch.reset_optimizer or stretch.whole:
            return 0
        return origin.windows if origin.shares == stretch.shares else 0

    def stopped_in(self, step: int) -> tuple[tuple[tuple[str, int], ...], int]:
        """Shares of the stretch that made the state at `step`, and windows read in it by then.

        None of a stretch in the middle of which no other goes on.
        """
        made_by = [one for one in self.path.stretches if one.start < step]
        if made_by:
            last = made_by[-1]
            if last.whole:
                return (), 0
            windows = (step - last.start) * self.path.run.batch
            return last.shares, self._windows_before(last) + windows
        origin = self.path.origin
        return (origin.shares, origin.windows) if origin is not None else ((), 0)

    def window_indices(self, step: int, steps: int) -> tuple[list[str], Ints, Ints]:
        """Steps step..step+steps as (digests, corpus of each window, window), both [steps, B]."""
        batch = self.path.run.batch
        context = self.path.run.model.context
        digests = list(self._seeds)
        which = np.empty(steps * batch, np.int64)
        window = np.empty(steps * batch, np.int64)
        for stretch in self.path.stretches:
            first, last = max(stretch.start, step), min(stretch.stop, step + steps)
            if first >= last:
                continue
            begun = self.places(stretch.start) | dict.fromkeys(stretch.reread, 0)
            weights = tuple(weight for _, weight in stretch.shares)
            n = (last - first) * batch
            before = self._windows_before(stretch)
            corpus, ordinal = diffuse(before + (first - stretch.start) * batch, n, weights)
            taken = diffused_counts(before, weights)  # counted in `begun` and in `ordinal`
            out = slice((first - step) * batch, (last - step) * batch)
            for k, (digest, _) in enumerate(stretch.shares):
                mine = np.flatnonzero(corpus == k)
                count = self.corpora[digest].train_windows(context)
                which[out][mine] = digests.index(digest)
                if stretch.order is not None:
                    ordered = self._ordered(stretch, k, begun[digest])
                    window[out][mine] = ordered[ordinal[mine]]
                    continue
                places = begun[digest] - taken[k] + ordinal[mine]
                window[out][mine] = window_order(count, self._seeds[digest], places)
        return digests, which.reshape(steps, batch), window.reshape(steps, batch)

    def _ordered(self, stretch: Stretch, k: int, begun: int) -> Ints:
        """All windows that an ordered stretch reads of its corpus `k`, in order: made once.

        A run that is resumed makes them anew, whatever its step: n log n for n windows.
        """
        assert stretch.order is not None
        digest, _ = stretch.shares[k]
        key = stretch.start, digest
        if key not in self._made:
            corpus, context = self.corpora[digest], self.path.run.model.context
            steps = stretch.stop - stretch.start
            weights = tuple(weight for _, weight in stretch.shares)
            n = diffused_counts(steps * self.path.run.batch, weights)[k]
            epoch = corpus.train_windows(context)
            stream = window_order(epoch, self._seeds[digest], begun + np.arange(n))
            scores = window_scores(corpus, stretch.order.score, context)
            self._made[key] = sorted_windows(stream, scores, stretch.order.kind, begun, epoch)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[tuple[int, str], Ints]:
        return {}

    def tokens(self, step: int, steps: int, part: slice = slice(None)) -> NDArray[np.int32]:
        """Token windows of steps step..step+steps: [steps, B, context + 1].

        Only the `part` of each batch is read.
        """
        context = self.path.run.model.context
        digests, which, window = self.window_indices(step, steps)
        which, window = which[:, part], window[:, part]
        out = np.empty((*which.shape, context + 1), np.int32)
        for k, digest in enumerate(digests):
            mine = which == k
            if mine.any():
                out[mine] = self.corpora[digest].read_windows(window[mine], context)
        return out

    def epochs(self, step: int) -> dict[str, float]:
        """Epochs read of each corpus (by digest) after `step` steps."""
        context = self.path.run.model.context
        return {
            digest: count / self.corpora[digest].train_windows(context)
            for digest, count in self.cursors(step).items()
            if digest in self.corpora  # an adopted checkpoint may have read others
        }
