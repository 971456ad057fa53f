"""doctor."""

import argparse
import os
import platform
import shutil
from typing import Any

from lab.corpora import known_names
from lab.home import home


def doctor(told: argparse.Namespace) -> Any:
    """What a bug report needs."""
    from sweeps.write_up import PACKAGES, version

    folder = home()
    value: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "packages": {name: version(name) for name in PACKAGES},
        "folder": str(folder),
        "folder_free_gb": round(shutil.disk_usage(folder).free / 2**30, 1),
        "corpora": known_names(),
    }
    try:
        import jax

        value["devices"] = [f"{d.platform} {d.device_kind}" for d in jax.devices()]
    except RuntimeError as error:
        value["devices"] = [f"none: {str(error).splitlines()[0]}"]
    if not told.json:
        for key, one in value.items():
            text = one
            if isinstance(one, dict):
                text = ", ".join(f"{name} {version}" for name, version in one.items())
            elif isinstance(one, list):
                text = ", ".join(one)
            print(f"{key:<16} {text}")
    return value
