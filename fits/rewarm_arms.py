"""The arms of a study of re-warming, by what each changes about one base cell. Names alone.

The base cell is a shift that is strong: warmed again over 1 % of the continuation to the trunk's
peak, then a cosine to its end rate, no replay, the optimizer's state kept. All others change one
thing about it, or are controls.
"""

STRONG, WEAK = SHIFTS = "strong", "weak"  # the base cell, and the same on a nearer text
# length of the rewarm as a share of the continuation; 0: the peak at the first step
LENGTHS = {0.0: "length-0", 0.005: "length-0.5", 0.01: STRONG, 0.02: "length-2", 0.05: "length-5"}
PEAKS = {0.5: "peak-0.5", 1.0: STRONG, 2.0: "peak-2"}  # of the trunk's peak
CONSTANT = "constant"  # at the rate that the trunk ended at
HELD, LINEAR = "held", "linear"  # instead of the cosine
REPLAYS = (0.01, 0.05, 0.1, 0.25, 0.5)  # share of general text; the new text is that much less
LITERAL, ADDITIVE = "literal", "additive"  # at REPLAYED: read again; beside all of the new text
REPLAYED = 0.25
RESET, EARLY = "reset", "early"  # optimizer reset; off an earlier state of the trunk
SAME = {0.5: "same-0.5", 1.0: "same-1", 2.0: "same-2"}  # no shift, by peak
SAME_CONSTANT = "same-constant"
SCRATCH = "scratch"  # the new text alone, without a trunk
UNSEEN = "unseen"  # length and peak of no other arm, predicted before it runs

# what the law is fitted to: one shift, no replay, the state kept
OF_LAW = tuple(dict.fromkeys([*LENGTHS.values(), *PEAKS.values(), CONSTANT, HELD, LINEAR, EARLY]))


def replayed(shift: str, share: float) -> str:
    """The arm of a shift at a share of replay."""
    return f"{shift}-replay-{100 * share:g}" if share else shift


def union(shift: str) -> str:
    """The arm that is trained from scratch on the texts of trunk and shift together."""
    return f"union-{shift}"
