"""Sphinx: README, pages, results, and the API from docstrings (.ci/docs.py builds them)."""

import inspect
import pydoc
import re
from typing import Any

project = "Scaling-law laboratory"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "notebooks/pages/index"
include_patterns = ["README.md", "CHANGELOG.md", "notebooks/**/*.md", "api/*.rst"]
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
autodoc_typehints_format = "short"
suppress_warnings = ["ref.python"]  # a type named in short, of which two rooms have one
add_module_names = False
autodoc_mock_imports = ["ray", "submitit", "tensorboardX", "wandb"]
# What is ours must be there; other projects' names are not looked up, since that needs the network.
nitpick_ignore_regex = [("py:.*", r"(?!(fits|lab|sweeps)\.).*|.*\.T")]  # T: a type's variable

NAME = re.compile(r"(?<![\w`:])`([^`]+)`(?!`)")
OURS = re.compile(r"(?:fits|lab|sweeps)(?:\.\w+)+")


def named(match: re.Match[str]) -> str:
    """A name in backticks: of ours a reference, which must lead somewhere; else as it stands."""
    name = match[1]
    if not OURS.fullmatch(name):
        return f"``{name}``"
    found = pydoc.locate(name)
    there = found is None or callable(found) or inspect.ismodule(found)  # constants have no page
    return f":py:obj:`{name}`" if there else f"``{name}``"


def docstring(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text: names in backticks, indented lines as they stand."""
    found = []
    for part in re.split(r"((?:^    .*\n|^\n(?=    ))+)", "\n".join([*lines, ""]), flags=re.M):
        if part.startswith("    ") or part.startswith("\n    "):
            found.append(f"\n::\n\n{part}\n")
        else:
            plain = re.sub(r"(`[^`]*`)|([*|])", lambda one: one[1] or f"\\{one[2]}", part)
            found.append(NAME.sub(named, plain))
    lines[:] = "".join(found).split("\n")


def setup(app: Any) -> None:
    """Read docstrings so."""
    app.connect("autodoc-process-docstring", docstring)
