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
            step = whole(record, 2)
            for summary in nested(record, 5):
                for value in nested(summary, 1):
                    _put(value, step, log)
    except Damaged as damage:
        return str(damage)
    return None


def _put(value: bytes, step: int, log: Log) -> None:
    tag = text(value, 1)
    if tag == HPARAMS:
        log.settings |= _hparams(value)
        return
    if tag.startswith("_hparams_/"):
        return
    number = _number(value)
    if number is not None:
        log.put(step, tag, number)


def _number(value: bytes) -> float | None:
    """A scalar, or None of a picture, a text, a histogram."""
    for number, found in fields(value):
        if number == 2 and isinstance(found, bytes) and len(found) == 4:
            return float(struct.unpack("<f", found)[0])
        if number == 8 and isinstance(found, bytes):
            numbers = list(_tensor(found))
            return numbers[0] if len(numbers) == 1 else None
    return None


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
