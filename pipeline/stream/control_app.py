"""The Faust app of the controller: its agent, its resources, and what it does by the clock."""

from __future__ import annotations

from functools import partial
from typing import Any

from faust.types import TP

from pipeline.advise.engine import Advisor
from pipeline.clock import Clock
from pipeline.publish.api import create_app
from pipeline.publish.state import LiveState
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.app import PipelineApp, kafka_app
from pipeline.stream.batch import batch_topic
from pipeline.stream.calendar import CalendarReader
from pipeline.stream.controller import Controller
from pipeline.stream.http import HttpServer
from pipeline.stream.replicas import ReplicaReader
from pipeline.stream.results import ResultPublisher
from pipeline.stream.watchdog import Watchdog, guard, stall_seconds

__all__ = ["controller_app"]

HEALTH_SECONDS = 2.0
RETAIN_SECONDS = 3600.0


def controller_app(
    settings: Settings, clock: Clock, store: Store, advisor: Advisor, live: LiveState, partitions: int
) -> PipelineApp:
    """The Faust app of the controller; ``app.controller`` is its ``Controller``, ``app.http`` its server.

    ``partitions`` is that of the requests (and deltas) topic. The caller opens and closes the store.
    """
    app = kafka_app(settings, "control")
    results = ResultPublisher(settings)
    controller = app.controller = Controller(
        settings, clock, store, advisor, live, results, partitions, lambda: app.consumer
    )
    app.http = HttpServer(create_app(live, store, settings.publish, clock), settings.publish)
    app.resources += [app.http, results, ReplicaReader(settings, controller.replicas)]
    app.resources += [CalendarReader(settings, controller.calendar), controller]
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
