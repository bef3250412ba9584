"""Keeps the C heap of a process that reads much and holds little small, and gives back what is free in it."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["bound_heap", "trim_heap"]

# glibc's malloc.h
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def bound_heap() -> bool:
    """Let all threads share one heap and large buffers have pages of their own; False where the C library cannot.

    By default every thread has a heap that only grows, and the first large buffer that is freed moves the limit from
    which buffers get pages of their own, so that fetched megabytes then leave holes (``mallopt(3)``). Call before the
    threads start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_ARENA_MAX, 1) and mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(-1, 64 << 20))


def trim_heap() -> bool:
    """Return free pages of the C heap to the operating system; False where the C library cannot (musl, macOS).

    Records are read by one thread and freed by another, between objects that stay: glibc then keeps the holes, and a
    process that works off a burst seems to grow by as much as it has read (``malloc_trim(3)``). Young garbage is
    collected first: batches hang in cycles, and few containers hold many megabytes, so that Python's own collector,
    which counts containers, would come late.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    gc.collect(1)
    trim(0)
    return True
