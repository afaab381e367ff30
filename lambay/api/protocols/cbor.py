"""CBOR (RFC 8949) as far as rpcv2Cbor needs it: every major type, definite and indefinite lengths, tag 1."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

from lambay.api import timestamps

_BREAK = object()
_MAX_DEPTH = 200
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}


class CBORError(ValueError):
    """The bytes are no CBOR document."""


def decode(encoded: bytes) -> Any:
    """One document. Timestamps (tag 1) become aware datetimes; other tags are dropped. Raises CBORError."""
    reader = _Reader(encoded)
    try:
        value = reader.item(0)
    except (
        IndexError,
        struct.error,
        UnicodeDecodeError,
        OverflowError,
        OSError,
        TypeError,
        RecursionError,
    ) as error:
        raise CBORError(f"not CBOR: {error}") from None
    if value is _BREAK or reader.at != len(encoded):
        raise CBORError(f"not CBOR: the document ends at byte {reader.at} of {len(encoded)}")
    return value


def encode(value: Any) -> bytes:
    """A document of dicts, lists, str, bytes, bool, int, float, None and datetimes (as tag 1)."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


class _Reader:
    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self.at = 0

    def item(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise CBORError(f"not CBOR: nested deeper than {_MAX_DEPTH}")
        first = self._encoded[self.at]
        self.at += 1
        major, extra = first >> 5, first & 31
        if major == 7:
            return self._simple(extra)
        length = self._length(extra)
        match major:
            case 0:
                return self._definite(length)
            case 1:
                return -1 - self._definite(length)
            case 2:
                return self._string(length, 2)
            case 3:
                return self._string(length, 3).decode()
            case 4:
                return self._list(length, depth)
            case 5:
                return self._map(length, depth)
            case _:
                inner = self.item(depth + 1)
                return self._timestamp(inner) if length == 1 else inner

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._encoded):
            raise CBORError(f"not CBOR: {count} bytes announced at byte {self.at} of {len(self._encoded)}")
        taken = self._encoded[self.at : end]
        self.at = end
        return taken

    def _length(self, extra: int) -> int | None:
        if extra < 24:
            return extra
        if extra <= 27:
            return int.from_bytes(self._take(1 << (extra - 24)), "big")
        if extra == 31:
            return None
        raise CBORError(f"not CBOR: additional information {extra} is reserved")

    def _definite(self, length: int | None) -> int:
        if length is None:
            raise CBORError("not CBOR: an integer of indefinite length")
        return length

    def _string(self, length: int | None, major: int) -> bytes:
        if length is not None:
            return self._take(length)
        chunks: list[bytes] = []
        while True:
            first = self._take(1)[0]
            if first == 0xFF:
                return b"".join(chunks)
            if first >> 5 != major:
                raise CBORError("not CBOR: a string's chunk is of another type")
            chunks.append(self._take(self._definite(self._length(first & 31))))

    def _list(self, length: int | None, depth: int) -> list[Any]:
        if length is not None:
            return [self._inner(depth) for _ in range(min(length, len(self._encoded)))]
        items = []
        while (item := self.item(depth + 1)) is not _BREAK:
            items.append(item)
        return items

    def _map(self, length: int | None, depth: int) -> dict[Any, Any]:
        pairs: dict[Any, Any] = {}
        if length is not None:
            for _ in range(min(length, len(self._encoded))):
                key = self._inner(depth)
                pairs[key] = self._inner(depth)
            return pairs
        while (key := self.item(depth + 1)) is not _BREAK:
            pairs[key] = self._inner(depth)
        return pairs

    def _inner(self, depth: int) -> Any:
        item = self.item(depth + 1)
        if item is _BREAK:
            raise CBORError(f"not CBOR: a break at byte {self.at}, where an item belongs")
        return item

    def _simple(self, extra: int) -> Any:
        if extra == 31:
            return _BREAK
        if extra in _SIMPLE:
            return _SIMPLE[extra]
        if extra in _FLOATS:
            form, size = _FLOATS[extra]
            return struct.unpack(form, self._take(size))[0]
        raise CBORError(f"not CBOR: simple value {extra}")

    def _timestamp(self, value: Any) -> datetime:
        if not isinstance(value, (int, float)):
            raise CBORError(f"not CBOR: a timestamp of {value!r}")
        try:
            return datetime.fromtimestamp(value, UTC)
        except ValueError as error:
            raise CBORError(f"not CBOR: {error}") from None


def _write(out: bytearray, value: Any) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int():
            _head(out, 0 if value >= 0 else 1, value if value >= 0 else -1 - value)
        case float():
            out += b"\xfb" + struct.pack(">d", value)
        case str():
            encoded = value.encode()
            _head(out, 3, len(encoded))
            out += encoded
        case bytes() | bytearray():
            _head(out, 2, len(value))
            out += value
        case datetime():
            out.append(0xC1)
            _write(out, timestamps.epoch(value))
        case list() | tuple():
            _head(out, 4, len(value))
            for item in value:
                _write(out, item)
        case dict():
            _head(out, 5, len(value))
            for key, item in value.items():
                _write(out, key)
                _write(out, item)
        case _:
            raise TypeError(f"{value!r} has no CBOR form")


def _head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * size):
            out.append(major << 5 | extra)
            out += number.to_bytes(size, "big")
            return
    raise OverflowError(f"{number} needs more than 64 bits")
