"""Keeps the C heap of a process that reads much and holds little small, and gives back what is free in it."""

from __future__ import annotations

import ctypes
import gc
from functools import cache
from typing import Any

__all__ = ["bound_heap", "collect_all", "collect_young", "trim_heap"]

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
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    wanted = (_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES), (_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
    return all(mallopt(*setting) for setting in wanted)


def collect_young() -> None:
    """Collect young garbage: batches hang in cycles, and few containers hold many megabytes.

    Python's own collector counts containers, so it would come late.
    """
    gc.collect(1)


def collect_all() -> None:
    """Collect all garbage but what was frozen.

    Python's own collector would not come: what is collected young does not count for it, and garbage that was in use
    for a few seconds (a connection, a batch that waited) has grown old by then.
    """
    gc.collect()


def trim_heap() -> bool:
    """Return free pages of the C heap to the operating system; False where the C library cannot (musl, macOS).

    Records are read by one thread and freed by another, between objects that stay: glibc then keeps the holes, and a
    process that works off a burst seems to grow by as much as it has read (``malloc_trim(3)``).
    """
    trim = _function("malloc_trim")
    if trim is None:
        return False
    collect_young()
    trim(0)
    return True


@cache
def _function(name: str) -> Any:
    """A function of the C library; None where there is none. Loaded once: a library brings a class and its cycles."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
