"""Keeps the C heap of a process that reads much and holds little small, and gives back what is free in it."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["bound_heap", "collect_young", "trim_heap"]

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: Buffers from this size on get pages of their own. Batches and what is computed from them stay below it: their pages
#: are used again by the next batch, where fresh ones would have to be cleared by the kernel each time.
_OWN_PAGES_BYTES = 32 << 20
_KEPT_FREE_BYTES = 64 << 20


def bound_heap() -> bool:
    """Let all threads share one heap that keeps what a batch needs for the next; False where the C library cannot.

    By default every thread has a heap that only grows, and sizes from which buffers get pages of their own adapt to
    what was freed (``mallopt(3)``). ``trim_heap`` gives back what is free now and then. Call before the threads start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = (_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES), (_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
    return all(mallopt(*setting) for setting in wanted)


def collect_young() -> None:
    """Collect young garbage: batches hang in cycles, and few containers hold many megabytes.

    Python's own collector counts containers, so it would come late.
    """
    gc.collect(1)


def trim_heap() -> bool:
    """Return free pages of the C heap to the operating system; False where the C library cannot (musl, macOS).

    Records are read by one thread and freed by another, between objects that stay: glibc then keeps the holes, and a
    process that works off a burst seems to grow by as much as it has read (``malloc_trim(3)``).
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    collect_young()
    trim(0)
    return True
