"""Builds README, pages, results and the API of every module as HTML: `python .ci/docs.py FOLDER`.

Sphinx does it, with every warning an error: a link to a file, a heading or a module that is not
there ends the build. Needs the extra `docs`. The tree is copied first: nothing is left in it.
"""

import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("fits", "lab", "sweeps")


def modules(room: str) -> list[str]:
    """Every module of a room, and the room."""
    found = pkgutil.walk_packages([str(ROOT / room)], f"{room}.")
    return [room, *(one.name for one in found)]


def api(place: Path) -> None:
    """A page a module, and one that lists them."""
    place.mkdir()
    lists = []
    for room in ROOMS:
        names = modules(room)
        lists.append(f"{room}\n{'-' * len(room)}\n\n.. toctree::\n   :maxdepth: 1\n\n")
        lists[-1] += "".join(f"   {name}\n" for name in names)
        for name in names:
            text = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n   :members:\n"
            (place / f"{name}.rst").write_text(text, encoding="utf-8")
    (place / "index.rst").write_text("API\n===\n\n" + "\n".join(lists), encoding="utf-8")


def lost(html: Path) -> list[str]:
    """Local links of the built pages that lead to no file, or to no place in one."""
    pages = {page: page.read_text(encoding="utf-8") for page in html.rglob("*.html")}
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    wrong = []
    for page, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]+)"', text)):
            told = urllib.parse.urlsplit(link)
            if told.scheme or told.netloc:
                continue
            name, anchor = urllib.parse.unquote(told.path), urllib.parse.unquote(told.fragment)
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (anchor and anchor not in places.get(file, {anchor})):
                wrong.append(f"{page.relative_to(html)}: {link}")
    return sorted(wrong)


def main() -> None:
    """Copy, write the API's pages, build, look at every link."""
    out = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        left = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, source, ignore=left)
        api(source / "api")
        told = ["-W", "--keep-going", "-n", "-q", "-j", "2", "-c", ROOT / "notebooks" / "pages"]
        told += ["-d", Path(work) / "trees", source, out]
        build = [sys.executable, "-m", "sphinx", "-b", "html", *map(str, told)]
        if subprocess.run(build, check=False).returncode:
            raise SystemExit("the pages are not built: see the warnings above")
    if wrong := lost(out):
        raise SystemExit("\n".join(["links that lead nowhere:", *wrong[:20]]))
    print(f"{sum(1 for _ in out.rglob('*.html'))} pages, every local link leads somewhere")


if __name__ == "__main__":
    main()
