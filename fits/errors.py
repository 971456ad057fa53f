"""How a fit says no."""


class Refused(ValueError):
    """A table, law or condition that cannot be taken: what is wrong, what is allowed."""
