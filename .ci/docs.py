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


def anchors(html: Path) -> list[str]:
    """Local links of the built pages that lead nowhere."""
    wrong = []
    targets = {
        page: set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
        for page in html.rglob("*.html")
    }
    for page in targets:
        for link in re.findall(r'\bhref="([^"]+)"', page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (anchor and file in targets and anchor not in targets[file]):
                wrong.append(f"{page.relative_to(html)}: {link}")
    return wrong


def main() -> None:
    """Copy, write the API's pages, build, look at every link."""
    out = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        left = shutil.ignore_patterns(".*", "runs", "tests", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, source, ignore=left)
        api(source / "api")
        told = ["-W", "--keep-going", "-n", "-q", "-j", "2", "-c", ROOT / "notebooks" / "pages"]
        told += ["-d", Path(work) / "trees", source, out]
        build = [sys.executable, "-m", "sphinx", "-b", "html", *map(str, told)]
        if subprocess.run(build, check=False).returncode:
            raise SystemExit("the pages are not built: see the warnings above")
    if wrong := anchors(out):
        raise SystemExit("\n".join(["links that lead nowhere:", *wrong]))
    print(f"{sum(1 for _ in out.rglob('*.html'))} pages, every local link leads somewhere")


if __name__ == "__main__":
    main()
