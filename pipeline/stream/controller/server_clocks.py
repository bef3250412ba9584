"""Servers whose clocks are off, as the deltas name them: a bounded number, each for a while."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MAX_NAMED_SERVERS", "NAMED_SECONDS", "ServerClocks"]

#: Servers that are named at a time: each is a series of a metric.
MAX_NAMED_SERVERS = 32
#: A server that no delta has named for so long is not off any more, or gone.
NAMED_SECONDS = 300.0


class ServerClocks:
    """The newest offset of each server that was named, seconds ahead; the furthest ``MAX_NAMED_SERVERS`` of them.

    One thread notes, others may read.
    """

    def __init__(self) -> None:
        self._named: dict[str, tuple[float, float]] = {}  # offset, and when it was named

    def note(self, offsets: Mapping[str, float], now: float) -> None:
        """Note what deltas have named; ``now`` in epoch seconds."""
        if offsets:
            named = self._still_named(now) | {server: (offset, now) for server, offset in offsets.items()}
            furthest = sorted(named, key=lambda server: (-abs(named[server][0]), server))
            self._named = {server: named[server] for server in furthest[:MAX_NAMED_SERVERS]}

    def offsets(self, now: float) -> dict[str, float]:
        """Return {server: seconds ahead} of the servers that are off at ``now`` (epoch seconds), by name."""
        return {server: offset for server, (offset, _) in sorted(self._still_named(now).items())}

    def _still_named(self, now: float) -> dict[str, tuple[float, float]]:
        return {server: told for server, told in self._named.items() if abs(now - told[1]) <= NAMED_SECONDS}
