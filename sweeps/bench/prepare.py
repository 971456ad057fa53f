"""`lab bench data`: MB/s at which a user's text becomes a token store."""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.bench.timing import apart
from sweeps.speed import cores

MEGABYTES = 64
WORDS, WORDS_A_DOCUMENT = 20_000, 500


def bench_prepare(repeats: int, megabytes: int = MEGABYTES) -> dict[str, Any]:
    """MB/s of JSON lines prepared as bytes, on one core and on all, medians over repeats."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "text.jsonl"
        write_lines(source, megabytes)
        size = source.stat().st_size / 1e6
        speeds = {
            processes: size
            / statistics.median(
                apart(seconds, f"{folder}/{processes}-{k}", str(source), processes)
                for k in range(repeats)
            )
            for processes in sorted({1, cores()})
        }
    return {
        "prepared_megabytes": size,
        "prepared_megabytes_per_second": max(speeds.values()),
        "prepared_by_processes": {str(count): speed for count, speed in speeds.items()},
    }


def seconds(home: str, source: str, processes: int) -> float:
    """Seconds to prepare a corpus in a folder of its own; for a process of its own."""
    from lab.prepare import Recipe, prepare
    from lab.sources import Columns

    os.environ["LAB_HOME"] = home
    begun = time.perf_counter()
    prepare("bench", Recipe((source,), Columns()), processes)
    return time.perf_counter() - begun


def write_lines(path: Path, megabytes: int) -> None:
    """Records of words, some of them often: the same file every time."""
    draw = np.random.default_rng(0)
    letters = draw.integers(ord("a"), ord("z") + 1, (WORDS, 8), np.uint8)
    words = [bytes(word[: 2 + k % 7]).decode() for k, word in enumerate(letters)]
    chance = 1 / (np.arange(WORDS) + 3)
    picked = draw.choice(WORDS, (200, WORDS_A_DOCUMENT), p=chance / chance.sum())
    texts = [" ".join(words[k] for k in row) for row in picked]
    number = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            for text in texts:  # each is another document by its number
                file.write(json.dumps({"text": f"{number} {text}", "score": number % 10}) + "\n")
                number += 1
