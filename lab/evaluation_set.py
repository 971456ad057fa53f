"""What a state is evaluated on: a fixed part of a corpus's held-out text."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lab.corpora import Corpus
from lab.spec import canonical


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed part of a corpus's validation text: `windows` windows, evenly spread."""

    corpus: Corpus
    windows: int
    context: int

    @property
    def set_id(self) -> str:
        """Identity: what text, how much of it, in what windows. 16 hexadecimal digits."""
        key = canonical([self.corpus.digest, self.windows, self.context])
        return hashlib.sha256(key.encode()).hexdigest()[:16]

    def tokens(self) -> NDArray[np.int32]:
        """Token ids, [W, L + 1]."""
        return self.corpus.validation_windows(self.windows, self.context)

    @cached_property
    def bytes_per_token(self) -> float:
        """Bytes of text that one of its tokens stands for, on average."""
        return self.corpus.validation_bytes_per_token(self.windows, self.context)
