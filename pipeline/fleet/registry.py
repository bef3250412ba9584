"""The fleets that can be configured, by the name that ``fleet.source`` gives."""

from __future__ import annotations

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.extensions import available, load_extension
from pipeline.fleet.base import Fleet, FleetContext, FleetFactory
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaReader

__all__ = ["GROUP", "configured_fleet", "fleet_sources"]

#: Entry point group in which other distributions register fleets.
GROUP = "tokentide.fleets"


def _kafka(context: FleetContext) -> Fleet:
    if context.options:
        names = ", ".join(sorted(context.options))
        raise ConfigError(f"fleet.options: unknown {names}; the source kafka is configured in the section kafka")
    return ReplicaReader(context.settings, context.book)


def _kubernetes(context: FleetContext) -> Fleet:
    from pipeline.fleet.kubernetes.fleet import kubernetes_fleet

    return kubernetes_fleet(context)


_BUILTIN: dict[str, FleetFactory] = {"kafka": _kafka, "kubernetes": _kubernetes}


def fleet_sources() -> list[str]:
    """Return the names that ``fleet.source`` may have."""
    return available(GROUP, _BUILTIN)


def configured_fleet(settings: Settings, clock: Clock, book: ReplicaBook) -> Fleet:
    """Return the fleet of the settings, which reports into ``book``; nothing is connected yet.

    Raises:
        ConfigError: the source or an option is unknown or wrong, or ``fleet.actuate`` is set and the fleet cannot
            scale.
    """
    source = settings.fleet.source
    factory: FleetFactory = load_extension(GROUP, source, _BUILTIN, "fleet source")
    fleet = factory(FleetContext(settings, clock, book, settings.fleet.options))
    if settings.fleet.actuate and not fleet.can_scale:
        raise ConfigError(f"fleet.actuate is true, but the fleet source {source!r} only reports and cannot scale")
    return fleet
