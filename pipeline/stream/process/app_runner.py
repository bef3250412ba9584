"""Runs one Faust app in this process until it is told to stop or fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["EXIT_FAILED", "EXIT_OK", "run_app", "serve_app"]

EXIT_OK = 0
EXIT_FAILED = 1

FAILED_STOP_SECONDS = 5.0

_log = logging.getLogger(__name__)


def run_app(
    make_app: Callable[[], Any],
    shutdown_seconds: float,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> int:
    """Build the app and run it to its end; returns the exit status of the process.

    One of ``signals`` stops in order: no more records, what is in hand is finished and committed. A second signal, or
    ``shutdown_seconds`` without an end, ends the process at once: everything is exact after any kill, only later.
    """
    return asyncio.run(serve_app(make_app, shutdown_seconds, signals))


async def serve_app(
    make_app: Callable[[], Any],
    shutdown_seconds: float,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> int:
    """``run_app`` within a loop that runs already."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(name: str) -> None:
        if stop.is_set():
            _log.warning("%s again: ending at once", name)
            os._exit(EXIT_FAILED)
        _log.info("%s: stopping", name)
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, on_signal, number.name)
    app = make_app()
    crashed = asyncio.create_task(app._crashed.wait())
    started = asyncio.create_task(_start(app))
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([started, crashed, stopping], return_when=asyncio.FIRST_COMPLETED)
        if started in done and started.exception() is None:
            await asyncio.wait([crashed, stopping], return_when=asyncio.FIRST_COMPLETED)
        failure = _failure(app, started)
        if failure is not None:
            _log.error("stopping after a failure: %s: %s", type(failure).__name__, failure)
        # A stop can hang on a broker that is gone; then the process ends without it. After a failure it is not waited
        # for long: what was not finished is read again.
        limit = shutdown_seconds if failure is None else min(shutdown_seconds, FAILED_STOP_SECONDS)
        loop.call_later(limit, _give_up, limit)
        started.cancel()
        try:
            await app.stop()
        except Exception:
            # Half stopped (a consumer whose thread has died cannot commit): threads may still hold the store, and the
            # process would hang instead of ending. It is exact after any end.
            _log.exception("cannot stop in order: ending at once")
            logging.shutdown()
            os._exit(EXIT_FAILED)
        return EXIT_FAILED if failure is not None else EXIT_OK
    finally:
        for task in (crashed, started, stopping):
            task.cancel()


def _give_up(seconds: float) -> None:
    _log.error("not stopped after %g s: ending at once", seconds)
    logging.shutdown()
    os._exit(EXIT_FAILED)


async def _start(app: Any) -> None:
    app.finalize()
    await app.start()


def _failure(app: Any, started: asyncio.Task[None]) -> BaseException | None:
    if app.crashed:
        return app.crash_reason or RuntimeError("the app crashed")
    if started.done() and not started.cancelled():
        return started.exception()
    return None
