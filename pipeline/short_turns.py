"""Asks the kernel to let the thread that answers readers run soon, at the cost of running for shorter at a time.

A process that folds a stream has several threads that want a core, and other processes want it, too. Linux from 6.12
on lets a thread say for how long it runs at a time: the shorter, the sooner it has its turn, with the same share of
the processor (earliest eligible virtual deadline first; ``Documentation/scheduler/sched-eevdf.rst`` of Linux 6.12, and
``sched_runtime`` in sched_setattr(2)). No privilege is needed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

__all__ = ["TURN_SECONDS", "take_short_turns"]

#: Of the thread that answers. Linux takes 0.1 ms to 100 ms, and has 1.4 ms for all threads on a machine of two cores.
TURN_SECONDS = 0.0002

#: Numbers of the system call (asm/unistd_64.h of x86, asm-generic/unistd.h).
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
#: What the thread starts later, threads and processes, is scheduled as usual (linux/sched.h).
_RESET_ON_FORK = 1
#: ``struct sched_attr`` (linux/sched/types.h): size, policy, flags, nice, priority, runtime, deadline, period, and the
#: least and the greatest utilisation.
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")


def take_short_turns(seconds: float = TURN_SECONDS) -> bool:
    """Let the calling thread run for so long at a time and have its turn sooner; return whether the kernel took it.

    A kernel before 6.12 takes it and changes nothing. Threads whose priority somebody has set, above the usual one or
    in another class, are left as they are.
    """
    number = _SET_ATTRIBUTES.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # of the thread: on Linux 0 is the caller
    if nice < 0:  # it would be taken from what the thread starts later
        return False
    turn = int(seconds * 1e9)
    told = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, turn, 0, 0, 0, 0)
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return bool(call(ctypes.c_long(number), ctypes.c_long(0), told, ctypes.c_long(0)) == 0)
