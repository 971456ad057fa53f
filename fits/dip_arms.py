"""The arms of a study of the stability gap, by what each changes about the plain run. Names alone.

The plain run switches from general text to a domain whose documents are of mixed quality, each
window of it read once, with no general text.
"""

PLAIN = "plain"
SUBSET = "subset"  # as many tokens, of a small random part read several times
BEST = "best"  # of the domain's best part, once
SUBSET_BEST = "subset-best"  # a small part of the best part, several times
MIXED = "mixed"  # with a share of the general text
ALL = "all"  # of the best part, a small part, several times, with a share of the general text
CLEAN = "clean"  # control: the domain undamaged, once
SAME = "same"  # control: the general text again, no switch
