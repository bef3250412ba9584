"""The demo's pipeline processes: ``python -m pipeline.demo.child aggregate|control``; settings from the environment.

``control LIVE_START DAYS`` serves the board first, then learns the past that its standard input holds, then runs the
controller on the same port. ``control`` alone continues from what the store has, after a failure.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial

from pipeline.alerts.rule_registry import alert_rules
from pipeline.clock import Clock
from pipeline.config.settings import Settings, load
from pipeline.errors import TokentideError
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.publish.api import create_app
from pipeline.publish.exporter import Exporter
from pipeline.publish.health import PipelineHealth
from pipeline.publish.http.server import HttpServer
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.process.app_runner import EXIT_FAILED, serve_app
from pipeline.stream.process.supervisor import clock_from, configure_logging, run_stage
from pipeline.stream.process.tuning import tune_process

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run one process; returns its exit status."""
    if not arguments or arguments[0] not in ("aggregate", "control"):
        raise SystemExit(f"the role must be aggregate or control, got {' '.join(arguments)!r}")
    configure_logging()
    settings = load(None)
    try:
        if arguments[0] == "aggregate":
            return run_stage(settings, "aggregate", signals=(signal.SIGTERM,))
        span = None
        if len(arguments) == 3:
            live_start, days = float(arguments[1]), float(arguments[2])
            span = (live_start - days * 86_400, live_start)
        return asyncio.run(_control(settings, clock_from(settings), span))
    except TokentideError as error:
        _log.error("%s: %s", arguments[0], error)
        return EXIT_FAILED


async def _mark(settings: Settings, record: CalendarRecord) -> None:
    from pipeline.stream.controller.calendar_topic import announce_one

    await announce_one(settings, record)


async def _control(settings: Settings, clock: Clock, span: tuple[float, float] | None) -> int:
    live = LiveState(clock, settings.pools, settings.config_hash())
    live.set_health(PipelineHealth(detail="starting", starting=True, ledger_known=False))
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        exporter = Exporter(live, alert_rules(settings.alerts.rules))
        http = HttpServer(
            create_app(live, store, settings.publish, clock, exporter, partial(_mark, settings)), settings.publish
        )
        await http.start()
        try:
            # What is imported from here on is heavy; the board answers already.
            await asyncio.to_thread(_prepare, settings, store, live, span)

            from pipeline.config.catalog import catalog_for
            from pipeline.config.prices import pool_prices
            from pipeline.engine.advisor import Advisor
            from pipeline.publish.fleet_reads import fleet_planner
            from pipeline.stream.controller.app import controller_app

            catalog = catalog_for(settings)
            live.set_prices(pool_prices(settings, catalog))
            live.fleet = fleet_planner(settings, catalog)
            advisor, partitions = Advisor(settings, catalog), settings.kafka.partitions
            return await serve_app(
                lambda: controller_app(settings, clock, store, advisor, live, partitions, served=exporter),
                settings.stream.shutdown_seconds,
                (signal.SIGTERM,),
            )
        finally:
            await http.stop()


def _prepare(settings: Settings, store: Store, live: LiveState, span: tuple[float, float] | None) -> None:
    from pipeline.config.catalog import catalog_for
    from pipeline.demo.learning import HistoryLearner, read_past
    from pipeline.engine.advisor import Advisor
    from pipeline.pacing import PaceLimits, Pacemaker
    from pipeline.stream.controller import app  # noqa: F401 -- so that live operation begins without a pause

    tune_process()
    if span is None:
        return
    pacemaker = Pacemaker(span[0], settings.clock.speed, PaceLimits.of(settings), path=settings.clock.pace_file)
    learner = HistoryLearner(settings, store, live, pacemaker, span)
    learner.learn(read_past(sys.stdin.buffer), Advisor(settings, catalog_for(settings)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
