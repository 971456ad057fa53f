"""How a verb is declared: argparse with one line for a mistake, and an example in every help."""

import argparse
from typing import Any, NoReturn

EXIT_REFUSED = 2


class Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_REFUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


class Several(tuple[str, ...]):
    """Choices of an option that takes several of them, with commas between."""

    def __contains__(self, told: object) -> bool:
        return set(str(told).split(",")) <= set(self)


def add_verb(
    verbs: Any, name: str, module: str, function: str, help_: str, example: str
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {example}"
    )
    verb.add_argument("--json", action="store_true", help="one JSON value on standard output")
    verb.set_defaults(module=module, function=function)
    return verb
