"""The Faust app of the controller: its agent, its resources, and what it does by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from faust.types import TP

from pipeline.alerts.rule_registry import alert_rules
from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.fleet.registry import configured_fleet
from pipeline.publish.api import create_app
from pipeline.publish.exporter import Exporter
from pipeline.publish.http.server import HttpServer
from pipeline.publish.keda.server import KedaServer
from pipeline.publish.recent_demand import KEPT_SECONDS, STEP_SECONDS
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.sinks.fleet import FleetSink
from pipeline.sinks.kafka import KafkaSink
from pipeline.sinks.live import LiveStateSink
from pipeline.sinks.registry import configured_sinks
from pipeline.store.store import Store
from pipeline.stream.controller.calendar_topic import CalendarReader, announce_one
from pipeline.stream.controller.controller import Controller
from pipeline.stream.exogenous.topics import ExogenousReader
from pipeline.stream.kafka.batch import batch_topic
from pipeline.stream.kafka.faust_app import PipelineApp, kafka_app
from pipeline.stream.kafka.membership import MembershipGuard
from pipeline.stream.process.watchdog import Watchdog, guard, stall_seconds
from pipeline.windows.types import PoolKey

__all__ = ["controller_app"]

HEALTH_SECONDS = 2.0
RETAIN_SECONDS = 3600.0


def controller_app(
    settings: Settings,
    clock: Clock,
    store: Store,
    advisor: Advisor,
    live: LiveState,
    partitions: int,
    sources: Mapping[str, int] | None = None,
    *,
    served: Exporter | None = None,
) -> PipelineApp:
    """The Faust app of the controller; ``app.controller`` is its ``Controller``, ``app.http`` its server.

    ``partitions`` is that of the deltas topic, ``sources`` that of every topic of events (None: the requests topic has
    ``partitions``). The caller opens and closes the store. With ``served``, which writes the metrics of ``live``, the
    caller serves the API itself, and there is no ``app.http``.
    """
    app = kafka_app(settings, "control")
    exporter = served or Exporter(live, alert_rules(settings.alerts.rules))
    stored = store.last_output()
    if stored is not None:  # the first scrape must not miss advice that is still good
        live.recall_demand(store.recent_rates(KEPT_SECONDS, STEP_SECONDS))
        live.restore(stored)
    split = store.fleet_split()
    if live.fleet is not None and split is not None:
        live.fleet.restore(split)
    shown = LiveStateSink(live, lambda finished: controller.show_metrics(finished=finished))
    book = ReplicaBook(
        configured=[PoolKey(pool.model, pool.pool) for pool in settings.pools],
        now=clock.now,
        max_ahead_seconds=settings.stream.max_ahead_seconds,
    )
    fleet = configured_fleet(settings, clock, book)
    scaling = [FleetSink(fleet, clock)] if settings.fleet.actuate else []
    sinks = SinkFanout([shown, KafkaSink(settings), *configured_sinks(settings, clock), *scaling])
    controller = app.controller = Controller(
        settings, clock, store, advisor, live, sinks, partitions, lambda: app.consumer, exporter, sources, book
    )
    controller.reports_rejected = lambda: fleet.rejected
    if served is None:
        mark = partial(announce_one, settings)
        app.http = HttpServer(create_app(live, store, settings.publish, clock, exporter, mark), settings.publish)
        app.resources.append(app.http)
    app.resources += [sinks, fleet]
    if settings.publish.keda_port is not None:
        app.resources.append(KedaServer(live, settings.publish))
    app.resources.append(CalendarReader(settings, controller.calendar))
    if controller.exogenous is not None and settings.forecast.exogenous_topics():
        app.resources.append(ExogenousReader(settings, controller.exogenous))
    app.resources.append(controller)

    def name_membership(problem: str) -> None:
        controller.health.membership = problem
        if problem:  # nothing else brings the health up to date before there is an assignment
            live.set_health(replace(live.health(), ready=False, detail=problem))

    app.resources.append(MembershipGuard(app, settings.kafka, name_membership))
    app.transport.position_source = controller.intake.start_partitions
    topic = batch_topic(app, settings.kafka.deltas_topic, queued_batches=settings.stream.queued_batches)

    @app.agent(topic, name="control", concurrency=1)  # type: ignore[untyped-decorator]
    async def control(stream: Any) -> None:
        by_hand = stream.noack()
        async for event in by_hand.events():
            # An error ends the process; what was not stored is read again from the position in the store.
            await controller.begin(event.value, partial(by_hand.ack, event), app.crash)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget(_app: Any, revoked: set[TP], **_: Any) -> None:
        controller.intake.forget(revoked)

    watchdog = Watchdog(stall_seconds(settings))
    controller.moved = watchdog.moved

    @app.task  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await guard(app, watchdog)

    @app.task  # type: ignore[untyped-decorator]
    async def tick() -> None:
        while not app.should_stop:
            if not app.rebalancing:
                await controller.tick()
                watchdog.look(*controller.intake.work())
            await controller.wait()

    @app.task  # type: ignore[untyped-decorator]
    async def show_health() -> None:
        while not app.should_stop:
            await controller.show_health()
            await app.sleep(HEALTH_SECONDS)

    @app.task  # type: ignore[untyped-decorator]
    async def retain() -> None:
        while not app.should_stop:
            await app.sleep(RETAIN_SECONDS)
            await controller.retain()

    @app.task  # type: ignore[untyped-decorator]
    async def export() -> None:
        while settings.store.export_folder is not None and not app.should_stop:
            await app.sleep(settings.store.export_every_seconds)
            await controller.export()

    return app
