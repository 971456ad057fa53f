"""new: a study file to begin with."""

import argparse
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from lab.errors import Failed, Refused
from sweeps.study import built_in

TEMPLATE = "my_question"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def new_study(told: argparse.Namespace) -> Any:
    """Write a commented study that runs as it is; the file's name is the study's. Raises Refused.

    A file that is there is never replaced.
    """
    path = Path(told.file)
    name = path.stem
    if path.suffix != ".py" or not _NAME.fullmatch(name):
        raise Refused(
            f"{path.name}: a study file is called by its study: small letters, digits and _, from "
            "a letter on, and .py (my_question.py)"
        )
    if name in built_in():
        raise Refused(f"{name} is a built-in study: choose another name (lab studies)")
    if not path.parent.is_dir():
        raise Refused(f"no folder {path.parent}")
    text = files("sweeps").joinpath(f"templates/{TEMPLATE}.py").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(re.sub(rf"\b{TEMPLATE}\b", name, text))
    except FileExistsError:
        raise Refused(f"{path} is there already, and is not replaced") from None
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from None
    if not told.json:
        print(f"{path}: try lab plan {path} --scale smoke, then lab run {path} --scale smoke")
    return {"study": name, "file": str(path)}
