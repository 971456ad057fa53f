"""Sphinx: README, pages, results, and the API from docstrings (.ci/docs.py builds them)."""

import re
from typing import Any

project = "Scaling-law laboratory"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "notebooks/pages/index"
include_patterns = ["README.md", "CHANGELOG.md", "notebooks/**/*.md", "api/*.rst"]
html_theme = "furo"
html_copy_source = False
myst_heading_anchors = 3
autodoc_typehints = "none"  # signatures say them
autodoc_mock_imports = ["ray", "submitit", "tensorboardX", "wandb"]
# What is ours must be there; other projects' names are not looked up, since that needs the network.
nitpick_ignore_regex = [("py:.*", r"(?!(fits|lab|sweeps)\.).*")]

OURS = re.compile(r"(?<![\w`:])`((?:fits|lab|sweeps)(?:\.\w+)+)`(?!`)")


def docstring(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text: `names` in backticks, indented lines as they stand.

    A name of ours in backticks is a reference, which must lead somewhere.
    """
    found: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside:
            found += ["", "::", ""]
        elif not indented and line and inside:
            found.append("")
        inside = indented or (inside and not line)
        if not inside:
            line = OURS.sub(r":py:obj:`\1`", line)
            line = re.sub(r"(?<![\w`:])`([^`]+)`(?!`)", r"``\1``", line)
            line = re.sub(r"([*|])", r"\\\1", line) if "``" not in line else line
        found.append(line)
    lines[:] = found


def setup(app: Any) -> None:
    """Read docstrings so."""
    app.connect("autodoc-process-docstring", docstring)
