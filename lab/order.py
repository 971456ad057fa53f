"""The order in which a phase reads its windows: sorted by the scores of their documents.

A phase takes the same windows of a corpus whatever its order: those that lie ahead in the shuffled
stream (`lab.mixture`), as many as its steps need. An order sorts them, and them alone: ascending
over one phase of two sorts what that phase reads. So an ordered run is paired with the uniform one
window by window, and no window is read twice before an epoch is full. The stream is cut where an
epoch ends, since each window stands in each epoch once, and for `folded:k` into k parts of the
phase as well; each piece is sorted by itself. Windows of one score stay as they were shuffled.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def sorted_windows(
    stream: Ints, scores: NDArray[np.float64], kind: str, begun: int, epoch: int
) -> Ints:
    """The windows `stream` [n] of a phase in the order `kind`; `scores` are those of all windows.

    `begun` windows of the corpus were read before, and `epoch` of them are an epoch.
    """
    folds = int(kind.partition(":")[2] or 1)
    sign = -1.0 if kind == "descending" else 1.0
    count = len(stream)
    cuts = {count * fold // folds for fold in range(folds + 1)}
    cuts |= set(range(epoch - begun % epoch, count, epoch))
    out = np.empty_like(stream)
    edges = sorted(cuts)
    for first, last in itertools.pairwise(edges):
        piece = stream[first:last]
        out[first:last] = piece[np.argsort(sign * scores[piece], kind="stable")]
    return out
