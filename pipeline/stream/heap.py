"""Gives memory that is free inside the process back to the machine."""

from __future__ import annotations

import ctypes

__all__ = ["trim_heap"]


def trim_heap() -> bool:
    """Return free pages of the C heap to the operating system; False where the C library cannot (musl, macOS).

    Records are read by one thread and freed by another, between objects that stay: glibc then keeps the holes, and a
    process that works off a burst seems to grow by as much as it has read (``malloc_trim(3)``).
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    trim(0)
    return True
