"""Files as trackers write them, made of bytes here: no tracker need be installed to test readers.

`tests/sweeps/test_tracked_back.py` has the packages themselves write, where they are installed.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

CASTAGNOLI = 0x82F6_3B78


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def float32(field: int, value: float) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<f", value)


def float64(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def masked_crc(data: bytes) -> int:
    """CRC-32C bit by bit, as its definition says; not by the reader's table."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ CASTAGNOLI * (crc & 1)
    crc ^= 0xFFFF_FFFF
    return ((crc >> 15 | crc << 17) + 0xA282_EAD8) & 0xFFFF_FFFF


def tf_record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    checks = (struct.pack("<I", masked_crc(one)) for one in (head, data))
    return head + next(checks) + data + next(checks)


def scalar(tag: str, value: float) -> bytes:
    """Summary.Value with a simple_value, as tensorboardX and PyTorch write it."""
    return text(1, tag) + float32(2, value)


def tensor_scalar(tag: str, value: float) -> bytes:
    """The same as TensorFlow 2 writes it: a tensor of one float."""
    content = number(1, 1) + message(2, b"") + message(4, struct.pack("<f", value))
    metadata = message(1, text(1, "scalars"))
    return text(1, tag) + message(8, content) + message(9, metadata)


def hparams(values: Mapping[str, float | str | bool]) -> bytes:
    entries = b""
    for name, value in values.items():
        if isinstance(value, bool):
            one = number(4, value)
        else:
            one = text(3, value) if isinstance(value, str) else float64(2, value)
        entries += message(1, text(1, name) + message(2, one))
    plugin = text(1, "hparams") + message(2, message(3, entries))
    return text(1, "_hparams_/session_start_info") + message(9, message(1, plugin))


def event(step: int, *values: bytes) -> bytes:
    return float64(1, 1.0) + number(2, step) + message(5, b"".join(message(1, v) for v in values))


def event_file(folder: Path, events: Iterable[bytes], time: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{time}.host"
    version = float64(1, 1.0) + text(3, "brain.Event:2")
    path.write_bytes(b"".join(map(tf_record, [version, *events])))
    return path


def wandb_file(
    folder: Path,
    key: str,
    name: str,
    config: Mapping[str, object],
    rows: Mapping[int, Mapping[str, object]],
) -> Path:
    """A run's file: run with its config, then a record a step."""

    def item(one: str, value: object) -> bytes:
        return message(1, text(2, one) + text(16, json.dumps(value)))

    settings = b"".join(
        message(1, text(1, one) + text(16, json.dumps(v))) for one, v in config.items()
    )
    run = text(1, key) + message(4, settings) + text(8, name)
    records = [number(1, 1) + message(17, run)]
    for step, row in rows.items():
        items = b"".join(item(one, value) for one, value in {**row, "_step": step}.items())
        records.append(message(2, items + message(2, number(1, step))))
    content = b":W&B\xe1\xbe\x00"
    for record in records:
        content += level_record(len(content), record)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run-{key}.wandb"
    path.write_bytes(content)
    return path


def level_record(place: int, data: bytes) -> bytes:
    """A record of LevelDB's log that begins at a place: in parts where blocks of 32 KiB end."""
    out, begun = b"", False
    while True:
        left = 32_768 - (place + len(out)) % 32_768
        if left < 7:
            out += b"\0" * left
            continue
        part, data = data[: left - 7], data[left - 7 :]
        kind = (3 if data else 4) if begun else (2 if data else 1)
        check = zlib.crc32(bytes([kind]) + part)
        out += struct.pack("<IHB", check, len(part), kind) + part
        begun = True
        if not data:
            return out
