"""What a bug report needs to know of a machine; nothing here loads JAX or can hang on a device.

Values of environment variables are shown as they are, but for those that a name or a form gives
away as secrets: these are only said to be set.
"""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DISTRIBUTION = "scaling-law-lab"
MISSING = "missing"
SELF_TEST_SECONDS = 60.0  # a cold compilation on busy cores takes 20
GIT_SECONDS = LOCK_SECONDS = 10.0
WALK_SECONDS = 2.0  # for the size of LAB_HOME
LITTLE_DISK_GB = 1.0

# Variables that change what is trained, where, and how fast.
MATTERS = re.compile(
    r"(LAB|JAX|XLA|CUDA|NVIDIA|NCCL|ROCR|HIP|TPU|LIBTPU|OMP|MKL|OPENBLAS|NUMEXPR|SLURM|SUBMITIT|"
    r"RAY|WANDB|HF|MPL)[A-Z]*_\w*|TF_(CPP|GPU)_\w+|MPLBACKEND|MPLCONFIGDIR|PYTHON\w*|VIRTUAL_ENV|CONDA_PREFIX|"
    r"XDG_DATA_HOME|TMPDIR|LD_PRELOAD|LD_LIBRARY_PATH"
)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|JWT|SIGNATURE", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"://[^/@\s]*@")


def versions() -> dict[str, Any]:
    """lab, with its commit in a checkout; Python; the system; packages and extras."""
    return {
        "lab": _version(DISTRIBUTION),
        "commit": _commit(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) or MISSING for name in _required("")},
        "extras": {
            extra: {name: _version(name) or MISSING for name in _required(extra)}
            for extra in _extras()
        },
        "plugins": _plugins(),
    }


def cores() -> dict[str, Any]:
    """Cores of the machine, those this process may use, and what a control group leaves of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {"machine": os.cpu_count(), "allowed": allowed, "group_limit": _group_cores()}


def memory() -> dict[str, Any]:
    """Memory of the machine, what of it is available, and a control group's limit, in GB."""
    told = dict(re.findall(r"^(\w+): +(\d+) kB", _text("/proc/meminfo"), re.MULTILINE))
    kilobytes = {name: int(told[key]) for name, key in _MEMORY.items() if key in told}
    found: dict[str, Any] = {name: round(one / 2**20, 1) for name, one in kilobytes.items()}
    limit = _text("/sys/fs/cgroup/memory.max") or _text(
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    number = int(limit) if limit.isdigit() else 2**62
    found["group_limit_gb"] = round(number / 2**30, 1) if number < 2**60 else None
    return found


_MEMORY = {"machine_gb": "MemTotal", "available_gb": "MemAvailable"}


def folder(path: Path, parts: bool = False) -> dict[str, Any]:
    """A folder: free disk, whether locks and links hold there, and the size of its `parts`."""
    found: dict[str, Any] = {
        "path": str(path),
        "free_gb": round(shutil.disk_usage(path).free / 2**30, 1),
        "locks": locks(path),
    }
    if parts:
        ends = time.monotonic() + WALK_SECONDS
        sizes = {one.name: _size(one, ends) for one in sorted(path.iterdir()) if one.is_dir()}
        found["bytes"] = sizes
        found["complete"] = time.monotonic() < ends  # else there is more than was counted
    return found


def locks(path: Path) -> str:
    """`work`, or what does not: a second process must not get a lock that this one holds."""
    try:
        with tempfile.TemporaryDirectory(dir=path, prefix=".doctor-") as place:
            file = Path(place) / "lock"
            with file.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                os.link(file, f"{file}.link")
                if _gets(file):
                    return "a second process gets a lock that is held: one lab run at a time here"
            return "work" if _gets(file) else "a lock that was given back is not free"
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be tried: {error}"


def _gets(file: Path) -> bool:
    """Whether another process gets the lock of a file."""
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    told = [sys.executable, "-S", "-c", code, str(file)]
    return subprocess.run(told, capture_output=True, timeout=LOCK_SECONDS).returncode == 0


def environment() -> dict[str, str]:
    """The variables that matter, without secrets."""
    return {
        name: _shown(name, value)
        for name, value in sorted(os.environ.items())
        if MATTERS.fullmatch(name)
    }


def _shown(name: str, value: str) -> str:
    if SECRET.search(name):
        return "(set, not shown)"
    return WITH_PASSWORD.sub("://(not shown)@", value)


def blas() -> str:
    """The library that does NumPy's matrix products."""
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    one = found.get("Build Dependencies", {}).get("blas", {})
    return f"{one.get('name', 'unknown')} {one.get('version', '')}".strip()


def compiled(home: Path) -> dict[str, Any]:
    """Compiled programs that are kept: how many, of how many kinds of machine, and how many empty.

    An emptied program is what a full disk leaves; jax compiles it again each time.
    """
    place = home / "compiled"
    kinds = [one for one in place.iterdir() if one.is_dir()] if place.is_dir() else []
    files = [one for kind in kinds for one in kind.glob("*-cache")]
    empty = [one for one in files if one.stat().st_size == 0]
    return {
        "programs": len(files),
        "kinds": len(kinds),
        "empty": len(empty),
        "writable": os.access(place if kinds else home, os.W_OK),
    }


def self_test(seconds: float = SELF_TEST_SECONDS) -> dict[str, Any]:
    """What `sweeps.self_test` says, from a process of its own that may take so long."""
    begun = time.monotonic()
    told = [sys.executable, "-m", "sweeps.self_test"]
    child = subprocess.Popen(
        told, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in the driver it may not die at once
            child.communicate(timeout=2)
        return {
            "trouble": f"no answer in {seconds:g} s: another process may hold the device, or its "
            "driver hangs; JAX_PLATFORMS=cpu goes without it"
        }
    if child.returncode:
        lines = err.strip().splitlines()
        return {"trouble": lines[-1] if lines else f"ended with {child.returncode}"}
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**found, "seconds": round(time.monotonic() - begun, 1)}


def problems(value: dict[str, Any]) -> list[str]:
    """What of a diagnosis is in the way of a sweep."""
    found = [
        f"package {name} is missing" for name, one in value["packages"].items() if one == MISSING
    ]
    for name in ("home", "here"):
        place = value[name]
        if place["free_gb"] < LITTLE_DISK_GB:
            found.append(f"{place['path']}: {place['free_gb']} GB are free")
        if place["locks"] != "work":
            found.append(f"{place['path']}: locks {place['locks']}")
    if value["compiled"]["empty"]:
        found.append(f"{value['compiled']['empty']} compiled programs are empty: delete them")
    if not value["compiled"]["writable"]:
        found.append("compiled programs cannot be kept: LAB_HOME cannot be written to")
    test = value["self_test"]
    if "trouble" in test:
        found.append(f"self-test: {test['trouble']}")
    elif not test["right"]:
        found.append(f"self-test: losses are off by {test['relative_error']} of what they must be")
    return found


# Packages -----------------------------------------------------------------------------------


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> Iterator[tuple[str, str]]:
    """(package, extra) of everything that the installed lab asks for."""
    try:
        told = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        told = []
    for one in told:
        name = re.match(r"[\w.-]+", one)
        extra = re.search(r"extra == ['\"](\w+)['\"]", one)
        if name:
            yield name[0], extra[1] if extra else ""


def _required(extra: str) -> list[str]:
    return [name for name, of in _requirements() if of == extra]


def _extras() -> list[str]:
    return list(dict.fromkeys(extra for _, extra in _requirements() if extra))


def _plugins() -> dict[str, str]:
    """What brings devices to jax: jaxlib, the plugins of accelerators, libtpu."""
    found = {}
    for one in importlib.metadata.distributions():
        name = str(one.metadata["Name"])
        if re.match(r"jaxlib|jax[-_]|libtpu|nvidia[-_]", name):
            found[name] = one.version
    return dict(sorted(found.items()))


def _commit(root: Path) -> str | None:
    """Commit of a checkout and whether files differ from it; None where it is none."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    try:
        told = [_git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "-uno")]
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0][:12] + (" and changes" if told[1] else "")


def _git(root: Path, *told: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *told],
        capture_output=True,
        text=True,
        check=True,
        timeout=GIT_SECONDS,
    )
    return done.stdout.strip()


# The system ---------------------------------------------------------------------------------


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _group_cores() -> float | None:
    """Cores that a control group gives (version 2, then 1), or None where it does not limit."""
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    if not period:
        quota = _text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _text("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit()):
        return None
    return round(int(quota) / int(period), 2)


def _size(path: Path, ends: float) -> int:
    """Bytes of the files below a folder, of those that are counted in time."""
    total = 0
    for place, _, files in os.walk(path):
        for name in files:
            try:
                total += os.stat(f"{place}/{name}", follow_symlinks=False).st_size
            except OSError:
                continue  # removed meanwhile
        if time.monotonic() > ends:
            break
    return total
