"""The demo: the whole product on one machine, fed by a simulated fleet, in simulated time.

The controller comes first: it serves the board at once and learns the past that this process simulates, while the
broker starts. When it has learned, this process becomes the master of simulated time and sends the fleet's events, no
faster than the pipeline keeps up (``pipeline.pacing``).
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import signal
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.settings import Settings, load
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.processes import PipelineProcesses
from pipeline.demo.scenario import Scenario, scenario
from pipeline.errors import ServerUnavailable
from pipeline.kafka.embedded_broker import EmbeddedBroker, free_port
from pipeline.pacing import PaceLimits, Pacemaker

__all__ = ["DemoOptions", "run_demo"]

#: How far before now the simulated present lies, so that simulated time never catches up with the wall clock.
_PAST_SECONDS = 21 * 86_400
#: The aggregator is started when so much of the past has been learned: its start costs CPU that learning needs first.
_AGGREGATE_FROM = 0.6
_LOOK_SECONDS = 0.5
_REPORT_SECONDS = 3.0
_REPORT_LIVE_SECONDS = 10.0

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs. ``seconds``: stop by itself so many wall seconds after events began to flow (None: never)."""

    port: int = 8321
    speed: float = 60.0
    history_days: float = 1.0
    seed: int = 7
    seconds: float | None = None

    @property
    def url(self) -> str:
        """Address of the board."""
        return f"http://127.0.0.1:{self.port}"


def run_demo(options: DemoOptions, notify: Notify) -> int:
    """Run until interrupted; return an exit code. Everything it started is stopped and every file removed.

    Raises:
        ServerUnavailable: the port is in use, or a part did not come up.
    """
    _claim_port(options.port)
    folder = Path(tempfile.mkdtemp(prefix="tokentide-demo-"))
    try:
        with _Interruption() as interruption:
            return _run(options, folder, notify, interruption)
    except KeyboardInterrupt:
        notify("stopped")
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(options: DemoOptions, folder: Path, notify: Notify, interruption: _Interruption) -> int:
    live_start = float((time.time() - _PAST_SECONDS) // 3600 * 3600)
    fleet = scenario("demo", live_start, options.seed)
    port = free_port()
    settings = _settings(options, folder, f"127.0.0.1:{port}", fleet)
    past_start = live_start - options.history_days * 86_400
    Pacemaker(past_start, options.speed, PaceLimits.of(settings), path=settings.clock.pace_file)
    with PipelineProcesses(settings, folder) as processes:
        notify("starting the controller: it serves the board and learns the simulated past")
        controller = processes.start("control", f"{live_start:.0f}", repr(options.history_days))
        _write_past(fleet, options.history_days, settings, controller.stdin)
        notify("starting an embedded Kafka-protocol broker")
        interruption.check()
        with EmbeddedBroker(port, start_timeout_seconds=60.0):
            try:
                interruption.check()
                return asyncio.run(_Demo(options, settings, fleet, processes, notify).run())
            finally:
                processes.stop()


def _settings(options: DemoOptions, folder: Path, bootstrap: str, fleet: Scenario) -> Settings:
    return load(
        None,
        kafka={"bootstrap": bootstrap, "partitions": 4, "session_timeout_seconds": 10.0},
        stream={"heartbeat_seconds": 0.25, "instance_id": "demo"},
        windows={"allowed_lateness_seconds": 30.0, "dimensions": ("tenant",)},
        forecast={"tenant_series": 4},
        store={"path": folder / "demo.duckdb"},
        publish={"port": options.port},
        clock={"pace_file": folder / "pace", "speed": options.speed},
    ).model_copy(update={"pools": fleet.pool_settings()})


def _write_past(fleet: Scenario, days: float, settings: Settings, sink: Any) -> None:
    """Simulate the past in a thread of its own and pass it on as the controller learns it."""

    def write() -> None:
        from pipeline.demo.learning import write_past

        write_past(fleet, days, settings.windows.grain_seconds, sink)

    threading.Thread(target=write, name="tokentide-past", daemon=True).start()


class _Demo:
    """What runs once the broker answers: wait for the past to be learned, then send events."""

    def __init__(
        self, options: DemoOptions, settings: Settings, fleet: Scenario, processes: PipelineProcesses, notify: Notify
    ) -> None:
        self._options = options
        self._settings = settings
        self._fleet = fleet
        self._processes = processes
        self._notify = notify
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal, until ``seconds`` have passed, or until a process ended for good."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        from pipeline.kafka.topics import ensure_topics

        await asyncio.to_thread(ensure_topics, self._settings.kafka)
        await self._learned()
        if not self._stop.is_set():
            await self._live()
        self._notify("stopping")
        return 0

    async def _learned(self) -> None:
        """Return when the controller has learned the past; say how far it is, and start the aggregator in time."""
        reported_at, aggregates, shown = 0.0, False, False
        while not self._stop.is_set():
            self._processes.check(restart=False)
            status = await asyncio.to_thread(_status, self._options.url)
            progress = status and status["progress"]
            if status and not shown:
                shown = True
                self._notify(f"board    {self._options.url}/\nAPI      {self._options.url}/v1/status")
                self._notify(f"metrics  {self._options.url}/metrics\nKafka    {self._settings.kafka.bootstrap}")
            learned = bool(status) and progress is None and status["now"] >= self._fleet.live_start
            if not aggregates and (learned or (progress and progress["share"] >= _AGGREGATE_FROM)):
                aggregates = True
                self._processes.start("aggregate")
            if learned:
                return
            if progress and time.monotonic() - reported_at >= _REPORT_SECONDS:
                reported_at = time.monotonic()
                left = progress["remaining_seconds"]
                about = "" if left is None else f", about {left:.0f} s left"
                self._notify(f"{progress['task']}: {progress['share']:.0%}{about}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _live(self) -> None:
        """Send events until interrupted, until ``seconds`` have passed or until the pipeline ended."""
        from pipeline.demo.emit import EmitTotals, emit
        from pipeline.replay.follow import ClosedWindows

        options, settings, fleet = self._options, self._settings, self._fleet
        pacemaker = Pacemaker(fleet.live_start, options.speed, PaceLimits.of(settings), path=settings.clock.pace_file)
        self._notify(f"events flow; one minute passes every {60 / options.speed:.2g} s at most; Ctrl-C stops")
        reported_at, counted = time.monotonic(), 0

        def progress(totals: EmitTotals) -> None:
            nonlocal reported_at, counted
            now = time.monotonic()
            if now - reported_at < _REPORT_LIVE_SECONDS:
                return
            rate = (totals.events - counted) / (now - reported_at)
            reported_at, counted = now, totals.events
            simulated = time.strftime("%a %H:%M", time.gmtime(totals.event_time))
            speed = pacemaker.speed().actual
            self._notify(f"{simulated}  {totals.events:,} events sent ({rate:,.0f}/s), {speed:.0f}× real time")

        watcher = asyncio.create_task(self._watch())
        closed = ClosedWindows([spec.key for spec in fleet.pools], fleet.live_start, certain=True)
        try:
            await emit(
                settings.kafka,
                fleet,
                pacemaker,
                FleetActuator(fleet),
                closed=closed,
                stop=self._stop,
                progress=progress,
            )
        finally:
            self._stop.set()
            await watcher

    async def _watch(self) -> None:
        seconds = self._options.seconds
        ends = math.inf if seconds is None else time.monotonic() + seconds
        try:
            while not self._stop.is_set() and time.monotonic() < ends:
                for role in self._processes.check(restart=True):
                    self._notify(f"the {role} process ended and was started again")
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._stop.set()


def _status(url: str) -> Any:
    """The pipeline's status; None: nothing answers yet."""
    try:
        with urllib.request.urlopen(f"{url}/v1/status", timeout=5) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def _claim_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerUnavailable(
                f"port {port} is already in use ({error.strerror}); choose another with --port"
            ) from error


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
