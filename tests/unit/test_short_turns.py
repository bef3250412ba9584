"""Turns of threads, as the kernel has them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable

import pytest

from pipeline.short_turns import TURN_SECONDS, take_short_turns

NUMBERS = {"x86_64": 315, "aarch64": 275}  # of sched_getattr
on_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="only Linux has turns to choose"
)


def turn_seconds() -> float | None:
    """How long the calling thread runs at a time; None: the kernel does not say."""
    told = ctypes.create_string_buffer(56)
    call = ctypes.CDLL(None).syscall
    arguments = (NUMBERS[platform.machine()], 0, told, len(told), 0)
    if call(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) != 0:
        return None
    return int(struct.unpack("=IIQiIQQQII", told.raw)[5]) / 1e9


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@on_linux
def test_only_the_thread_that_asks_gets_short_turns() -> None:
    found: dict[str, object] = {}

    def ask() -> None:
        found["usual"], found["nice"] = turn_seconds(), os.getpriority(os.PRIO_PROCESS, 0)
        found["taken"] = take_short_turns(), take_short_turns()
        found["short"], found["nice after"] = turn_seconds(), os.getpriority(os.PRIO_PROCESS, 0)
        in_a_thread(lambda: found.update(started=turn_seconds()))

    before = turn_seconds()
    in_a_thread(ask)
    assert turn_seconds() == before
    assert found["nice after"] == found["nice"]
    if found["taken"] != (True, True) or not found["usual"]:
        pytest.skip("this kernel has no turns to choose, or the priority is set by somebody else")
    assert found["short"] == pytest.approx(TURN_SECONDS)
    assert found["started"] == found["usual"]


def test_threads_that_somebody_has_put_first_are_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(os, "getpriority", lambda *_: -5)
    assert not take_short_turns()


def test_other_machines_have_no_turns_to_choose(monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not take_short_turns()
