"""The two ways in which the lab says no."""


class Refused(ValueError):
    """An input that cannot be taken: one line that says what is wrong and what is allowed.

    Raised before anything on disk has changed; the command exits with code 2.
    """


class Failed(RuntimeError):
    """The world did not hold (disk full, a state that cannot be read): one line, exit code 1.

    Whatever was committed before it stays committed; running again continues from there.
    """


class Damaged(Failed):
    """A committed state is not what was written; it has been set aside and can be made again."""


class Gone(Failed):
    """A committed state was removed by another process, which has gone on from it: look again."""
