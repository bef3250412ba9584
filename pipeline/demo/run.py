"""The demo: the whole product on one machine, fed by a simulated fleet, in simulated time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from pipeline.advise.engine import Advisor
from pipeline.clock import ScaledClock
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.emit import EmitTotals, emit
from pipeline.demo.fleet import history
from pipeline.demo.scenario import Scenario, scenario
from pipeline.errors import ServerUnavailable
from pipeline.settings import Settings, load, to_environment
from pipeline.store.store import Store
from pipeline.stream.broker import EmbeddedBroker
from pipeline.stream.topics import ensure_topics

__all__ = ["DemoOptions", "run_demo"]

#: How far before now the simulated present lies, so that simulated time never catches up with the wall clock.
_PAST_SECONDS = 21 * 86_400
#: Wall seconds before simulated time begins to run: the emitter is connected by then, the pipeline nearly up.
_START_SECONDS = 10.0
_READY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs. ``seconds``: stop by itself after so many wall seconds (None: until interrupted)."""

    port: int = 8321
    speed: float = 60.0
    history_days: float = 2.0
    seed: int = 7
    seconds: float | None = None


def run_demo(options: DemoOptions, say: Callable[[str], None]) -> int:
    """Run until interrupted; return an exit code. Everything it started is stopped and every file removed.

    Raises:
        ServerUnavailable: the port is taken, or a part did not come up.
    """
    _claim_port(options.port)
    folder = Path(tempfile.mkdtemp(prefix="tokentide-demo-"))
    try:
        with _Interruption() as interruption:
            return _run(options, folder, say, interruption)
    except KeyboardInterrupt:
        say("stopped")
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(options: DemoOptions, folder: Path, say: Callable[[str], None], interruption: _Interruption) -> int:
    live_start = float((time.time() - _PAST_SECONDS) // 3600 * 3600)
    fleet = scenario("demo", live_start, options.seed)
    say("starting an embedded Kafka-protocol broker")
    with EmbeddedBroker() as broker:
        settings = _settings(options, folder, broker.bootstrap, fleet)
        ensure_topics(settings.kafka)
        _load_history(settings, fleet, live_start, options.history_days, say, interruption)
        clock = ScaledClock(live_start, time.time() + _START_SECONDS, options.speed)
        settings = settings.model_copy(
            update={
                "clock": settings.clock.model_copy(
                    update={"origin": clock.origin, "wall_origin": clock.wall_origin, "speed": clock.speed}
                )
            }
        )
        say("starting the aggregator and the controller")
        interruption.check()
        with _pipeline(settings, folder / "pipeline.log") as process:
            return asyncio.run(_feed(options, settings, fleet, clock, process, folder / "pipeline.log", say))


def _settings(options: DemoOptions, folder: Path, bootstrap: str, fleet: Scenario) -> Settings:
    return load(
        None,
        kafka={"bootstrap": bootstrap, "partitions": 4, "session_timeout_seconds": 10.0},
        stream={"heartbeat_seconds": 0.25, "instance_id": "demo"},
        windows={"allowed_lateness_seconds": 30.0, "dimensions": ("tenant",)},
        forecast={"tenant_series": 4},
        store={"path": folder / "demo.duckdb"},
        publish={"port": options.port},
    ).model_copy(update={"pools": fleet.pool_settings()})


def _load_history(
    settings: Settings,
    fleet: Scenario,
    live_start: float,
    days: float,
    say: Callable[[str], None],
    interruption: _Interruption,
) -> None:
    """Pass simulated days through the very core that runs live: same windows, same engine, same store."""
    store = Store.open(settings.store.path, settings.store, settings.windows)
    try:
        advisor = Advisor(settings)
        start = live_start - days * 86_400
        began = told = time.monotonic()
        for chunk in history(fleet, start, live_start):
            interruption.check()
            store.backfill(chunk.keys, chunk.rows, chunk.histograms)
            outputs = [advisor.step(step) for step in chunk.steps(settings.windows.grain_seconds)]
            store.record_steps(outputs, advisor.snapshot() if chunk.end >= live_start else None)
            if time.monotonic() - told > 2.0:
                told = time.monotonic()
                say(f"learning {days:g} simulated days of history: {(chunk.end - start) / (live_start - start):.0%}")
        say(f"learned {days:g} simulated days in {time.monotonic() - began:.0f} s")
    finally:
        store.close()


async def _feed(
    options: DemoOptions,
    settings: Settings,
    fleet: Scenario,
    clock: ScaledClock,
    process: subprocess.Popen[bytes],
    log: Path,
    say: Callable[[str], None],
) -> int:
    """Emit events until interrupted, until ``seconds`` have passed or until the pipeline died.

    Emitting begins before the pipeline is up: as in life, it finds events waiting and has to catch up.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    told = time.monotonic()
    counted = 0

    def progress(totals: EmitTotals) -> None:
        nonlocal told, counted
        now = time.monotonic()
        if now - told < 10.0:
            return
        rate = (totals.events - counted) / (now - told)
        told, counted = now, totals.events
        simulated = time.strftime("%a %H:%M", time.gmtime(totals.event_time))
        say(f"{simulated}  {totals.events:,} events sent ({rate:,.0f}/s)")

    async def supervise() -> None:
        try:
            url = f"http://127.0.0.1:{options.port}"
            await _await_ready(url, process, log, stop)
            say(f"board    {url}/\nAPI      {url}/v1/status\nmetrics  {url}/metrics")
            say(f"one minute passes every {60 / options.speed:.2g} s; Ctrl-C stops")
            ends = math.inf if options.seconds is None else time.monotonic() + options.seconds
            while not stop.is_set() and time.monotonic() < ends:
                if process.poll() is not None:
                    raise ServerUnavailable(f"the pipeline ended with status {process.returncode}:\n{_tail(log)}")
                await asyncio.sleep(0.5)
        finally:
            stop.set()

    watcher = asyncio.create_task(supervise())
    await emit(settings.kafka, fleet, clock, FleetActuator(fleet), stop=stop, progress=progress)
    await watcher
    say("stopping")
    return 0


@contextlib.contextmanager
def _pipeline(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Both roles in a process group of their own, so that the terminal's Ctrl-C reaches this process alone."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run"],
            env=os.environ | to_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(settings.stream.shutdown_seconds + 5.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path, stop: asyncio.Event) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return True
        except (URLError, TimeoutError, OSError):
            return False

    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None and not stop.is_set():
        if await asyncio.to_thread(answers):
            return
        await asyncio.sleep(0.25)
    if not stop.is_set():
        raise ServerUnavailable(f"the pipeline did not become ready; its last words:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _claim_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerUnavailable(f"port {port} is taken ({error.strerror}); choose another with --port") from error


class _Interruption:
    """SIGTERM ends the demo as Ctrl-C does.

    The request is remembered besides being raised: where a library swallows the exception, ``check`` raises it again.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._previous: list[tuple[int, Any]] = []

    def __enter__(self) -> _Interruption:
        self._previous = [(n, signal.signal(n, self._handle)) for n in (signal.SIGINT, signal.SIGTERM)]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous:
            signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        self._wanted = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if the end was asked for."""
        if self._wanted:
            raise KeyboardInterrupt
