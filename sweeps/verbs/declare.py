"""How a verb is declared: its example, and one line for a mistake, with what was meant."""

import argparse
import re
from typing import Any, NoReturn

from lab.errors import meant

EXIT_REFUSED = 2


class Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_REFUSED, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # argparse's own hook
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            hint = meant(str(value).rpartition(",")[2], known)
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}; allowed: {', '.join(known)}{hint}"
            )

    def refuse_unread(self, words: list[str]) -> NoReturn:
        """End with what no option or argument of this verb is."""
        known = [name for action in self._actions for name in action.option_strings]
        option = next((word for word in words if word.startswith("-")), words[0])
        hint = meant(re.split("=", option)[0], known)
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


class Several(tuple[str, ...]):
    """Choices of an option that takes several of them, with commas between."""

    def __contains__(self, told: object) -> bool:
        return set(str(told).split(",")) <= set(self)


def add_verb(
    verbs: Any, name: str, module: str, function: str, help_: str, example: str
) -> argparse.ArgumentParser:
    """A verb, done by `function` of `module`; its help ends in `example`, which tests parse."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {example}"
    )
    verb.add_argument("--json", action="store_true", help="one JSON value on standard output")
    verb.set_defaults(module=module, function=function, declared=verb)
    return verb


def law_option(verb: argparse.ArgumentParser) -> None:
    """Of verbs that read saved fits, which never say which code to run."""
    verb.add_argument("--law", metavar="FILE.py", help="your own law's file, if it was one")


def add_group(verbs: Any, name: str, help_: str, example: str) -> Any:
    """A verb that has verbs of its own: what these are added to."""
    group = verbs.add_parser(name, help=help_, description=help_, epilog=f"example: {example}")
    return group.add_subparsers(dest="sub_verb", metavar="VERB", required=True, parser_class=Parser)
