# PYTHON_ARGCOMPLETE_OK
"""The command `lab`. Parses, and hands over; heavy libraries load with the verb that needs them."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sweeps.verbs import folders, machine, studies, tables
from sweeps.verbs.declare import EXIT_REFUSED, Parser

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="lab",
        description="A scaling-law laboratory: plan the runs a question needs, train each shared "
        "stretch once, fit the law with its uncertainty.",
        epilog="example: lab run cmr. Exit codes: 0 done, 1 failed, 2 refused, 75 stopped by "
        "SIGTERM or found hanging (run again to go on), 130 stopped by Ctrl-C.",
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for room in (studies, folders, tables, machine):
        room.declare(verbs)
    return top


def _with_others(told: argparse.Namespace) -> bool:
    """Whether several hosts are to train together."""
    return any(getattr(told, name, None) is not None for name in ("coordinator", "hosts", "host"))


def main(argv: Sequence[str] | None = None, watched: bool = False) -> int:
    """Run one command; returns its exit code.

    0 done, 1 failed, 2 refused; 75 stopped by SIGTERM, 130 by Ctrl-C, with all that was trained
    saved: run again to go on. A process that hangs ends itself with 75; what is committed stays.

    `watched`: somebody waits for this process who will say so if it is aborted (`sweeps.watched`).
    """
    import importlib

    # Fits are small: on busy cores OpenBLAS's own threads slow them down 50 times (tried).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import fits.errors
    import lab.errors
    from sweeps.notice import EXIT_AGAIN, Preempted

    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        from sweeps.verbs.complete import offer

        offer(parser())
    try:
        told, unread = parser().parse_known_args(argv)
        if unread:
            told.declared.refuse_unread(unread)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_REFUSED
    function: Callable[[argparse.Namespace], Any]
    try:
        if _with_others(told) and not watched:
            from sweeps.watched import run

            return run(sys.argv[1:] if argv is None else argv)
        function = getattr(importlib.import_module(told.module), told.function)
        if any(isinstance(one, str) and "://" in one for one in vars(told).values()):
            from sweeps.commands.objects import call

            value = call(function, told)
        else:
            value = function(told)
        if told.json:
            print(json.dumps(value, allow_nan=False))
        return 0
    except (lab.errors.Refused, fits.errors.Refused) as refusal:
        print(f"lab: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except (lab.errors.Failed, fits.errors.Failed) as failure:
        print(f"lab: {failure}", file=sys.stderr)
        return EXIT_FAILED
    except Preempted as notice:
        print(f"lab: {notice}", file=sys.stderr)
        return EXIT_AGAIN
    except KeyboardInterrupt:
        print("lab: stopped; what was committed stays, run again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `lab results DIR | head`
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
