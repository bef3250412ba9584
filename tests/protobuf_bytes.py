"""Protobuf written by hand, byte by byte, so that a test may write what no library does."""

from __future__ import annotations

import struct

__all__ = ["any_value", "attribute", "field", "groups", "varint"]


def varint(number: int, longer: int = 0) -> bytes:
    """A number in 64 bits; ``longer`` by so many bytes than it has to be."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    for _ in range(longer):
        found[-1] |= 0x80
        found.append(0)
    return bytes(found)


def field(number: int, content: bytes, *, length: int | None = None, longer: int = 0) -> bytes:
    """A field with a length, which may be another one than the content has, or written longer than it has to be."""
    return varint(number << 3 | 2) + varint(len(content) if length is None else length, longer) + content


def groups(depth: int, number: int = 100) -> bytes:
    """Groups inside each other, of a field that nobody knows."""
    return varint(number << 3 | 3) * depth + varint(number << 3 | 4) * depth


def any_value(value: str | bool | int | float | list[str] | bytes | None) -> bytes:
    """An ``AnyValue`` of OTLP; bytes: what stands in place of it."""
    if value is None or isinstance(value, bytes):
        return value or b""
    if isinstance(value, str):
        return field(1, value.encode())
    if isinstance(value, bool | int):
        return (b"\x10" if isinstance(value, bool) else b"\x18") + varint(int(value))
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return field(5, b"".join(field(1, any_value(text)) for text in value))


def attribute(name: str, value: bytes, *, value_first: bool = False) -> bytes:
    """A ``KeyValue`` of OTLP; SDKs write the key first, the collector the value."""
    parts = [field(1, name.encode()), field(2, value)]
    return b"".join(reversed(parts) if value_first else parts)
