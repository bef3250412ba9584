"""Small things about processes."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

__all__ = ["death_signal", "end_with_parent"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def death_signal(number: int = signal.SIGTERM) -> Callable[[], object] | None:
    """A function that, called in a child, makes the kernel send it ``number`` when its parent thread ends.

    None where there is no such thing (only Linux has it).
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded now: between fork and exec the child only calls it

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))

    return ask


def end_with_parent() -> None:
    """Ask, from within a child, to be ended with the parent, where that is possible."""
    ask = death_signal()
    if ask is not None:
        ask()
