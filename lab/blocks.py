"""Into how many compiled parts a model is cut: its attention's queries, and its layers.

Whoever only reckons (`lab.memory`, `lab.arrays`) reads these without loading JAX.
"""

UNROLLED_LAYERS = 8  # deeper models scan one compiled block: compiling takes as long for any depth


def query_blocks(length: int) -> int:
    """Blocks that the queries of a window of `length` tokens go in; 4 and 8 were slower on a CPU.

    Each meets the keys up to its own end only, so part of what lies above the diagonal is never
    computed.
    """
    return max(1, min(2, length // 64))
