"""What both Faust apps of the pipeline have in common."""

from __future__ import annotations

import os
import socket
from typing import Any, Protocol

import faust

from pipeline.config.settings import Settings
from pipeline.kafka.security import faust_options, servers
from pipeline.stream.kafka.transport import SCHEME

__all__ = ["PipelineApp", "Resource", "instance_id", "kafka_app"]


class Resource(Protocol):
    """Something that an app needs from before its first record until after its last."""

    async def start(self) -> None:
        """Begin; an exception keeps the app from starting."""
        ...

    async def stop(self) -> None:
        """End; called once, also when ``start`` did not finish."""
        ...


#: What a broker sends of one partition at once, at most.
FETCH_BYTES = 8 * 1024 * 1024


class PipelineApp(faust.App):  # type: ignore[misc]
    """A Faust app with resources: started before it in order, stopped after it in reverse order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.resources: list[Resource] = []
        super().__init__(*args, **kwargs)

    async def on_start(self) -> None:
        """Start the resources, then the app."""
        for resource in self.resources:
            await resource.start()
        await super().on_start()

    async def on_stop(self) -> None:
        """Let the agents finish, then stop the resources."""
        await super().on_stop()
        for resource in reversed(self.resources):
            await resource.stop()

    def _create_directories(self) -> None:
        """No tables, so no folders on disk."""


def instance_id(settings: Settings) -> str:
    """The name of this process: as configured, else host name and process id."""
    return settings.stream.instance_id or f"{socket.gethostname()}-{os.getpid()}"


#: How often consumers read the cluster's metadata (aiokafka's own default is five minutes).
METADATA_SECONDS = 10


def kafka_app(settings: Settings, role: str) -> PipelineApp:
    """Make a Faust app for ``role`` on the folding transport: in-memory, no web server, no leader topic, no tables.

    An exception in an agent ends the process (Faust's default would skip the record that caused it).
    """
    kafka = settings.kafka
    app = PipelineApp(
        f"{kafka.group_prefix}-{role}",
        broker=";".join(f"{SCHEME}://{server}" for server in servers(kafka.bootstrap)),
        broker_client_id=f"tokentide-{role}",
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=min(3.0, kafka.session_timeout_seconds / 5),
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        # A group that formed while a restarting broker knew no partitions has none until metadata is read again.
        consumer_metadata_max_age_ms=METADATA_SECONDS * 1000,
        # A static member takes its partitions back at once after a restart; one whose name changes with each start
        # would only keep the group waiting for the one before it, when it stops in order too.
        consumer_group_instance_id=f"{role}-{settings.stream.instance_id}" if settings.stream.instance_id else None,
        store="memory://",
        agent_supervisor="mode.CrashingSupervisor",
        cython_optimizations=True,
        stream_wait_empty=True,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        **faust_options(kafka),
    )
    app.transport.max_batch_records = settings.stream.max_batch_records
    app.transport.max_batch_bytes = settings.stream.max_batch_bytes
    return app
