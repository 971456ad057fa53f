"""How fits say no."""


class Refused(ValueError):
    """A table, law or condition that cannot be taken: what is wrong, what is allowed."""


class Failed(RuntimeError):
    """The world did not hold (a full disk): nothing that was there is lost."""
