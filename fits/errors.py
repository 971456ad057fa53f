"""How a fit says no."""


class Refused(ValueError):
    """A table, law or condition that cannot be taken: one line, what is wrong and what is allowed."""
