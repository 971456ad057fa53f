"""Scalars and hyperparameters of TensorBoard's event files.

Field numbers are those of TensorBoard's event.proto, summary.proto, tensor.proto and the plugin
hparams' plugin_data.proto. Scalars come as `simple_value` (tensorboardX, PyTorch) or as a tensor of
one number (TensorFlow 2, JAX's clu).
"""

import struct
from collections.abc import Iterator
from typing import Any

from fits.logs.log import Log
from fits.logs.wire import Damaged, fields, nested, signed, text, tf_records, varints, whole

HPARAMS = "_hparams_/session_start_info"
_FLOAT, _DOUBLE, _INT32, _INT64 = 1, 2, 3, 9  # tensor.proto, DataType
_FORMS = {_FLOAT: "<f", _DOUBLE: "<d", _INT32: "<i", _INT64: "<q"}


def read_events(content: bytes, log: Log) -> str | None:
    """Put an event file's values into a log. Says why not all could be read, if so."""
    try:
        for record in tf_records(content):
            step, summaries = 0, list[bytes]()
            for number, value in fields(record):
                if number == 2 and isinstance(value, int):
                    step = signed(value)
                elif number == 5 and isinstance(value, bytes):
                    summaries.append(value)
            for summary in summaries:
                for one in nested(summary, 1):
                    _put(one, step, log)
    except Damaged as damage:
        return f"{damage}; the rest is not read"
    return None


def _put(summary_value: bytes, step: int, log: Log) -> None:
    tag, number = "", None
    for field, found in fields(summary_value):
        if field == 1 and isinstance(found, bytes):
            tag = found.decode("utf-8", "replace")
        elif field == 2 and isinstance(found, bytes) and len(found) == 4:
            number = float(struct.unpack("<f", found)[0])
        elif field == 8 and isinstance(found, bytes):
            numbers = list(_tensor(found))
            number = numbers[0] if len(numbers) == 1 else None  # else a picture, a text ...
    if tag == HPARAMS:
        log.settings |= _hparams(summary_value)
    elif number is not None and not tag.startswith("_hparams_/"):
        log.put(step, tag, number)


def _tensor(tensor: bytes) -> Iterator[float]:
    """The numbers of a tensor, of the kinds that scalars come in."""
    form = _FORMS.get(whole(tensor, 1))
    if form is None:
        return
    size = struct.calcsize(form)
    for number, value in fields(tensor):
        if number in (4, 5, 6) and isinstance(value, bytes):  # bytes, packed floats, doubles
            if len(value) % size:
                raise Damaged("a tensor that is cut")
            yield from (float(one) for (one,) in struct.iter_unpack(form, value))
        elif number in (7, 10):  # whole numbers, packed or one by one
            each = varints(value) if isinstance(value, bytes) else [value]
            yield from (float(signed(one)) for one in each)


def _hparams(value: bytes) -> dict[str, Any]:
    """Hyperparameters by name: metadata, plugin's data, content, the session's start."""
    found: dict[str, Any] = {}
    for metadata in nested(value, 9):
        for plugin in nested(metadata, 1):
            for content in nested(plugin, 2):
                for session in nested(content, 3):
                    for entry in nested(session, 1):
                        found[text(entry, 1)] = next(map(_plain, nested(entry, 2)), None)
    return {name: one for name, one in found.items() if one is not None}


def _plain(value: bytes) -> Any:
    """A google.protobuf.Value: number, text or truth; None of anything else."""
    for number, one in fields(value):
        if number == 2 and isinstance(one, bytes):
            return float(struct.unpack("<d", one)[0])
        if number == 3 and isinstance(one, bytes):
            return one.decode("utf-8", "replace")
        if number == 4:
            return bool(one)
    return None
