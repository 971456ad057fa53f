"""The two binary formats under trackers' files: records with checksums, and protocol buffers.

TFRecord (TensorFlow's, of event files): length [8], its masked CRC-32C [4], data, its masked CRC.
LevelDB's log (of W&B's files): blocks of 32 KiB of records in parts: CRC-32 [4], length [2], kind
[1]. Protocol buffers: encoding as in https://protobuf.dev/programming-guides/encoding.
"""

import struct
import zlib
from collections.abc import Iterator

BLOCK, PART_HEAD = 32_768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
CHECKED_BYTES = 65_536  # of TFRecords up to here: scalars are small, pictures are not read anyway


class Damaged(ValueError):
    """The bytes do not go on as they should."""


# Protocol buffers -------------------------------------------------------------------------------

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field: an int of varints, else bytes. Raises Damaged."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == BYTES:
            length, place = _varint(message, place)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise Damaged(f"a field of kind {kind}")
        if place + length > len(message):
            raise Damaged("a field that is longer than its message")
        yield key >> 3, message[place : place + length]
        place += length


def nested(message: bytes, number: int) -> Iterator[bytes]:
    """The messages, texts or packed numbers in the fields of one number."""
    for found, value in fields(message):
        if found == number and isinstance(value, bytes):
            yield value


def text(message: bytes, number: int) -> str:
    """The last text in the fields of one number, or nothing."""
    found = list(nested(message, number))
    return found[-1].decode("utf-8", "replace") if found else ""


def whole(message: bytes, number: int) -> int:
    """The last signed whole number (int64) in the fields of one number, or 0, as proto3 means."""
    found = [value for k, value in fields(message) if k == number and isinstance(value, int)]
    return signed(found[-1]) if found else 0


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def varints(packed: bytes) -> Iterator[int]:
    """Numbers one after the other."""
    place = 0
    while place < len(packed):
        value, place = _varint(packed, place)
        yield value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    if place < len(message) and message[place] < 0x80:  # nearly all are one byte
        return message[place], place + 1
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
    raise Damaged("a number that does not end")


# Records ----------------------------------------------------------------------------------------


def tf_records(content: bytes) -> Iterator[bytes]:
    """The data of each TFRecord. Raises Damaged at the first that is cut or fails its checksum."""
    place = 0
    while place < len(content):
        if place + 12 > len(content):
            raise Damaged(f"it ends within a record, at byte {place}")
        length, check = struct.unpack_from("<QI", content, place)
        if _masked(content[place : place + 8]) != check:
            raise Damaged(f"a checksum fails at byte {place}")
        end = place + 12 + length
        if end + 4 > len(content):
            raise Damaged(f"it ends within a record, at byte {place}")
        data = content[place + 12 : end]
        (check,) = struct.unpack_from("<I", content, end)
        if length <= CHECKED_BYTES and _masked(data) != check:
            raise Damaged(f"a checksum fails at byte {place}")
        yield data
        place = end + 4


def level_records(content: bytes, head: int) -> Iterator[bytes]:
    """The data of each record of a LevelDB log whose own header is `head` long. Raises Damaged."""
    place, parts = head, list[bytes]()
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < PART_HEAD:  # padding: no part begins so late in a block
            place += left
            continue
        if place + PART_HEAD > len(content):
            raise Damaged(f"it ends within a record, at byte {place}")
        check, length, kind = struct.unpack_from("<IHB", content, place)
        data = content[place + PART_HEAD : place + PART_HEAD + length]
        if len(data) < length:
            raise Damaged(f"it ends within a record, at byte {place}")
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != check:
            raise Damaged(f"a checksum fails at byte {place}")
        if kind not in (FULL, FIRST, MIDDLE, LAST) or (kind in (FULL, FIRST)) == bool(parts):
            raise Damaged(f"a record lacks a part at byte {place}")
        parts.append(data)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
        place += PART_HEAD + length


def _crc_table() -> tuple[int, ...]:
    """Of CRC-32C, which zlib does not have (Castagnoli's polynomial, reflected)."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F6_3B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()


def _masked(data: bytes) -> int:
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFF_FFFF
    return ((crc >> 15 | crc << 17) + 0xA282_EAD8) & 0xFFFF_FFFF
