"""The sinks that can be configured, by the name that ``kind`` gives in a ``[[sinks]]`` table."""

from __future__ import annotations

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.extensions import available, load_extension
from pipeline.sinks.base import Sink, SinkContext, SinkFactory
from pipeline.sinks.parquet import parquet_sink
from pipeline.sinks.webhook import webhook_sink

__all__ = ["GROUP", "configured_sinks", "sink_kinds"]

#: Entry point group in which other distributions register sinks.
GROUP = "tokentide.sinks"

_BUILTIN: dict[str, SinkFactory] = {"parquet": parquet_sink, "webhook": webhook_sink}


def sink_kinds() -> list[str]:
    """Return the names that ``kind`` may have."""
    return available(GROUP, _BUILTIN)


def configured_sinks(settings: Settings, clock: Clock) -> list[Sink]:
    """Return one sink for every ``[[sinks]]`` table, in their order; nothing is connected yet.

    Raises:
        ConfigError: a kind is unknown, or an option of it is unknown or wrong; the text names the table.
    """
    sinks = []
    for table in settings.sinks:
        factory: SinkFactory = load_extension(GROUP, table.kind, _BUILTIN, "sink")
        sinks.append(factory(SinkContext(settings, clock, table.options)))
    return sinks
