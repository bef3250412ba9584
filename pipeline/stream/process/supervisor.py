"""Runs the pipeline: one stage in this process, or both in child processes that are kept alive."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from pipeline.clock import Clock, PacedClock, ScaledClock, WallClock
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError, StoreTooNew, TokentideError
from pipeline.kafka.compression import HOW_TO_INSTALL, codec_problems
from pipeline.kafka.topics import ensure_topics
from pipeline.prctl import end_with_parent
from pipeline.stream.process.app_runner import EXIT_FAILED, EXIT_OK, run_app
from pipeline.stream.process.tuning import tune_process

__all__ = ["EXIT_CONFIG", "STAGES", "Supervisor", "clock_from", "run_all", "run_stage"]

STAGES = ("aggregate", "control")

#: Exit status of a process that would fail the same way again: it is not restarted.
EXIT_CONFIG = 78

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
_MOST_PORT = 65_535
#: A child that lived this long has its backoff forgotten.
_HEALTHY_SECONDS = 60.0

_log = logging.getLogger(__name__)


def clock_from(settings: Settings) -> Clock:
    """The clock that the settings ask for: simulated when ``clock.pace_file`` or ``clock.origin`` is set.

    Raises:
        ConfigError: the pace file cannot be read.
    """
    clock = settings.clock
    if clock.pace_file is not None:
        return PacedClock(clock.pace_file)
    if clock.origin is None or clock.wall_origin is None:
        return WallClock()
    return ScaledClock(clock.origin, clock.wall_origin, clock.speed)


def run_stage(
    settings: Settings, stage: str, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)
) -> int:
    """Run ``aggregate`` or ``control`` in this process until a signal or a failure; returns the exit status.

    With ``kafka.shards`` the settings of a controller are those of its shard (``Settings.for_shard``).

    Raises:
        ConfigError: no such stage, or settings or topics on which it cannot work.
        ServerUnavailable: no broker answers.
        StoreError: the store cannot be opened (``StoreLocked``, ``StoreTooNew``).
    """
    configure_logging()
    for codec, reason in codec_problems().items():
        _log.error("%s cannot be read (%s): such batches become dead letters; %s", codec, reason, HOW_TO_INSTALL)
    clock = clock_from(settings)
    shutdown = settings.stream.shutdown_seconds
    if stage == "aggregate":
        from pipeline.stream.aggregator.aggregator import aggregator_app

        tune_process()
        ensure_topics(settings.kafka, sources=settings.source_topics())
        return run_app(lambda: aggregator_app(settings, clock), shutdown, signals)
    if stage == "control":
        if settings.kafka.shards > 1:
            raise ConfigError(f"which of the {settings.kafka.shards} shards is this controller? (--shard I/M)")
        return _run_control(settings, clock, signals)
    raise ConfigError(f"no stage {stage!r}; there are {', '.join(STAGES)}")


def _run_control(settings: Settings, clock: Clock, signals: Sequence[signal.Signals]) -> int:
    from pipeline.config.catalog import catalog_for
    from pipeline.config.prices import pool_prices
    from pipeline.engine.advisor import Advisor
    from pipeline.publish.fleet_reads import fleet_planner
    from pipeline.publish.state import LiveState
    from pipeline.store.store import Store
    from pipeline.stream.controller.app import controller_app

    tune_process()
    inputs = settings.forecast.exogenous_topics()
    counts = ensure_topics(settings.kafka, sources=settings.source_topics(), inputs=inputs)
    partitions, sources = counts[settings.kafka.deltas_topic], {name: counts[name] for name in settings.source_topics()}
    with Store.open(settings.store.path, settings.store, settings.windows) as store:

        def make() -> Any:
            catalog = catalog_for(settings)
            live = LiveState(clock, settings.pools, settings.config_hash())
            live.set_prices(pool_prices(settings, catalog))
            live.fleet = fleet_planner(settings, catalog)
            advisor = Advisor(settings, catalog)
            return controller_app(settings, clock, store, advisor, live, partitions, sources)

        return run_app(make, settings.stream.shutdown_seconds, signals)


def run_all(settings: Settings) -> int:
    """Run both stages as child processes until SIGTERM or SIGINT; returns the exit status.

    With ``kafka.shards`` there is one controller for each, and shard *i* serves its API on ``publish.port`` + *i*.
    A child that fails is restarted after a pause that grows; the other goes on meanwhile.

    Raises:
        ConfigError: there are no ports for the APIs of so many shards.
    """
    last_port = settings.publish.port + settings.kafka.shards - 1
    if settings.publish.port and last_port > _MOST_PORT:
        raise ConfigError(
            f"publish.port {settings.publish.port} with kafka.shards {settings.kafka.shards} goes up to {last_port}; a "
            f"port of at most {_MOST_PORT + 1 - settings.kafka.shards} would do"
        )
    configure_logging()
    if settings.stream.instance_id is None:
        # The same for every life of a child and of this process, which is the only one with this store: whatever is
        # killed takes its partitions back at once when it is started again.
        store = zlib.crc32(str(settings.store.path.resolve()).encode())
        own = settings.stream.model_copy(update={"instance_id": f"{socket.gethostname()}-{store:08x}"})
        settings = settings.model_copy(update={"stream": own})
    shards = settings.kafka.shards
    controllers = ["control"] if shards == 1 else [f"control-{shard}" for shard in range(shards)]
    return Supervisor(settings, _stage_main, ["aggregate", *controllers]).run()


def _stage_main(settings: Settings, name: str) -> None:
    """A child of ``run_all``: Ctrl-C reaches it too, but stopping it is its parent's business."""
    stage, _, shard = name.partition("-")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    configure_logging()
    try:
        if shard:
            port = settings.publish.port and settings.publish.port + int(shard)  # 0: any free one
            settings = settings.for_shard(int(shard))
            settings = settings.model_copy(update={"publish": settings.publish.model_copy(update={"port": port})})
        code = run_stage(settings, stage, signals=(signal.SIGTERM,))
    except (ConfigError, StoreTooNew) as error:
        _log.error("%s: %s", name, error)
        code = EXIT_CONFIG
    except TokentideError as error:
        _log.error("%s: %s", name, error)
        code = EXIT_FAILED
    raise SystemExit(code)


class Supervisor:
    """Keeps one child process per name alive; ``main(settings, name)`` is what a child runs."""

    def __init__(self, settings: Settings, main: Callable[[Settings, str], None], names: Sequence[str]) -> None:
        self._settings = settings
        self._main = main
        self._names = names
        self._context = multiprocessing.get_context("spawn")
        self._children: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._backoff: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._signals = 0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a child says that it can never work; returns the exit status."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for name in self._names:
                self._start(name)
            status = EXIT_OK
            while not self._signals and status == EXIT_OK:
                wait([child.sentinel for child in self._children.values()], timeout=0.25)
                status = self._revive()
            return self._stop(status)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:  # a second one: the children end at once
            self._forward(signal.SIGTERM)
        _log.info("%s: stopping", signal.Signals(number).name)

    def _start(self, name: str) -> None:
        child = self._context.Process(target=self._main, args=(self._settings, name), name=f"tokentide-{name}")
        child.start()
        self._children[name] = child
        self._started[name] = time.monotonic()
        _log.info("%s runs as process %d", name, child.pid)

    def _revive(self) -> int:
        """Note ended children and restart those whose pause is over."""
        now = time.monotonic()
        for name, child in list(self._children.items()):
            if child.exitcode is None:
                continue
            del self._children[name]
            if child.exitcode == EXIT_CONFIG:
                return EXIT_CONFIG
            lived = now - self._started[name]
            pause = _FIRST_BACKOFF_SECONDS if lived > _HEALTHY_SECONDS else self._backoff.get(name, 0.0) * 2
            pause = min(max(pause, _FIRST_BACKOFF_SECONDS), _LONGEST_BACKOFF_SECONDS)
            self._backoff[name] = pause
            self._due[name] = now + pause
            _log.error("%s ended with status %s after %.0f s; again in %.1f s", name, child.exitcode, lived, pause)
        for name, due in list(self._due.items()):
            if now >= due:
                del self._due[name]
                self._start(name)
        return EXIT_OK

    def _forward(self, number: signal.Signals) -> None:
        for child in list(self._children.values()):
            if child.pid is not None and child.exitcode is None:
                os.kill(child.pid, number)

    def _stop(self, status: int) -> int:
        self._forward(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stream.shutdown_seconds + 5.0
        for name, child in self._children.items():
            child.join(max(0.0, deadline - time.monotonic()))
            if child.exitcode is None:
                _log.error("%s does not stop: killed", name)
                child.kill()
                child.join()
            if child.exitcode != EXIT_OK and status == EXIT_OK:
                status = EXIT_FAILED
        return status


class OncePerSecond(logging.Filter):
    """Lets each message of these libraries through once a second: while a broker is away they repeat it without end.

    >>> once = OncePerSecond("aiokafka")
    >>> record = logging.LogRecord("aiokafka.client", logging.ERROR, "", 0, "cannot reach %s", ("a",), None)
    >>> once.filter(record), once.filter(record)
    (True, False)
    """

    def __init__(self, *libraries: str) -> None:
        super().__init__()
        self._libraries = libraries
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log ``record``."""
        if record.name.split(".")[0] not in self._libraries:
            return True
        message = str(record.msg)
        if record.created - self._told.get(message, 0.0) < 1.0:
            return False
        if len(self._told) > 1_000:  # messages that are formatted before they are logged
            self._told.clear()
        self._told[message] = record.created
        return True


def configure_logging() -> None:
    """Log to stderr unless the program has set up logging itself; other people's libraries only from warnings on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("aiokafka", "faust", "kafka", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OncePerSecond("aiokafka", "kafka"))
    # mode logs every start and stop of a service under the name of the module that defines it.
    for name in ("faust_app", "consumer", "fetch"):
        logging.getLogger(f"pipeline.stream.kafka.{name}").setLevel(logging.WARNING)
