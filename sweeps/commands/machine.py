"""doctor, completion."""

import argparse
from pathlib import Path
from typing import Any

from lab.corpora import known_names
from lab.home import home
from sweeps import diagnosis


def doctor(told: argparse.Namespace) -> Any:
    """What a bug report needs; hangs on no device and shows no secret."""
    folder = home()
    value: dict[str, Any] = {
        **diagnosis.versions(),
        "cores": diagnosis.cores(),
        "memory": diagnosis.memory(),
        "blas": diagnosis.blas(),
        "home": diagnosis.folder(folder, parts=True),
        "here": diagnosis.folder(Path.cwd()),
        "compiled": diagnosis.compiled(folder),
        "corpora": known_names(),
        "environment": diagnosis.environment(),
        "self_test": diagnosis.self_test(),
    }
    value["problems"] = diagnosis.problems(value)
    if not told.json:
        for key, one in value.items():
            if key not in ("problems", "environment"):
                print(f"{key:<12} {_said(one)}")
        for name, text in value["environment"].items():
            print(f"{'':<12} {name}={text}")
        print("\n".join(f"problem: {one}" for one in value["problems"]) or "no problem was found")
    return value


def _said(value: Any) -> str:
    """A value of a diagnosis on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items() if one != {})
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def completion(told: argparse.Namespace) -> Any:
    """The lines that a shell reads to complete `lab`."""
    import argcomplete

    script = argcomplete.shellcode(["lab"], shell=told.shell)
    if not told.json:
        print(script)
    return {"shell": told.shell, "script": script}
