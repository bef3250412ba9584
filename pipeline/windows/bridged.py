"""Window deltas that no request events stand behind: how they are told from those of events.

A bridge makes them from the counters of servers. Their source id is no name of a Kafka topic, and their offsets are a
sequence of the bridge's own, in which every number is above the one before; numbers may be left out.
"""

from __future__ import annotations

__all__ = ["BRIDGE_DIMS", "bridge_source", "is_bridged"]

_PREFIX = "bridge:"

#: The dimensions of every window key of a bridge: rows of lower fidelity stay apart from those of events.
BRIDGE_DIMS = "source=bridge"


def bridge_source(name: str) -> str:
    """Return the source id of the bridge of that name.

    >>> bridge_source("prometheus"), is_bridged("bridge:prometheus"), is_bridged("inference.requests.v1")
    ('bridge:prometheus', True, False)
    """
    return _PREFIX + name


def is_bridged(source: str) -> bool:
    """Whether deltas of this source were made by a bridge; a topic of Kafka has no colon in its name."""
    return source.startswith(_PREFIX)
