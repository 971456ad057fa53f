"""What an engine is told with `--engine-set KEY=VALUE`."""

from collections.abc import Iterable, Mapping, Sequence

from lab.errors import Refused, meant

ENGINES = ("local", "ray", "slurm")


def read_options(told: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` each, printable text on one line. Raises Refused."""
    found: dict[str, str] = {}
    for one in told:
        key, equals, value = one.partition("=")
        if not (equals and key and value and value.isprintable()):
            raise Refused(f"--engine-set {one!r}: must read KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def refuse_unknown(engine: str, told: Mapping[str, str], known: Sequence[str]) -> None:
    """Raise Refused unless the engine has these options."""
    for key in told:
        if key not in known:
            hint = meant(key, known)
            raise Refused(f"--engine-set {key}: {engine} can be told {', '.join(known)}{hint}")


def number_of(told: Mapping[str, str], name: str) -> float | None:
    """A number that an option was told, if it was. Raises Refused."""
    if name not in told:
        return None
    try:
        value = float(told[name])
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise Refused(f"--engine-set {name}={told[name]}: must be a number that is not negative")
    return value if value != int(value) else int(value)
