"""The bridge: every few seconds the counters of all targets become one delta, exactly once.

Of each round the state file is written first, then the delta. A bridge that was killed finds in the log of deltas
whether its last delta is there, and writes the same one if not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pipeline.bridge.deltas import bridge_delta
from pipeline.bridge.increments import advance
from pipeline.bridge.rows import PoolRows, pool_rows
from pipeline.bridge.scrape import Scrape, scrape_all
from pipeline.bridge.state_file import BridgeState, load_state, save_state
from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.errors import ServerUnavailable, TokentideError
from pipeline.kafka.producer import new_producer
from pipeline.stream.kafka.delta_log import DeltaLog, DeltaTooLarge
from pipeline.windows.bridged import bridge_source
from pipeline.windows.delta import decode, encode
from pipeline.windows.sharding import ShardChains
from pipeline.windows.types import Delta

__all__ = ["Bridge", "run_bridge"]

_log = logging.getLogger(__name__)

#: The partition of the deltas that a bridge writes to: one chain, like that of a source partition.
PARTITION = 0
_RETRY_SECONDS = 5.0


class Bridge:
    """One life of a bridge: ``start``, then ``step`` as often as wanted, then ``stop``."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._bridge = settings.bridge
        self._clock = clock
        self._aliases = settings.aliases()
        self._source = bridge_source(settings.bridge.name)
        self._state = BridgeState(self._source)
        self._producer: Any = None
        self._log: DeltaLog | None = None
        self._chains = ShardChains([])
        self._problems: dict[str, str] = {}

    async def start(self) -> None:
        """Connect, and write the last delta of the life before where it is missing.

        Raises:
            InputError: the state file cannot be used.
            ServerUnavailable: no broker answers.
        """
        kafka = self._settings.kafka
        self._state = load_state(self._bridge.state_path, self._source)
        self._producer = new_producer(self._settings, "bridge")
        await self._producer.start()
        self._log = DeltaLog(kafka, kafka.deltas_topics(), self._producer)
        pending = decode(self._state.delta) if self._state.delta else None
        begin = self._now_number() if pending is None else pending.from_offset
        self._chains = await self._log.chains(self._source, PARTITION, begin)
        if pending is not None and self._chains.position == pending.from_offset:
            _log.info("the last round of the life before is written now")
            await self._append(pending)
        elif self._chains.position != self._state.through + 1:
            if pending is not None or self._chains.reached != begin:
                _log.warning("the state file does not belong to the log of deltas: counters are counted from now on")
            self._state = BridgeState(self._source)
        if self._chains.cuts:  # the life before ended between two shards, and its state file is gone
            filling = self._chains.position, self._chains.reached - 1
            await self._append(bridge_delta(self._source, PARTITION, *filling, None, []))

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    def forget(self) -> None:
        """Begin anew with the next start: what the counters say then is the baseline.

        Raises:
            TokentideError: the state file cannot be written.
        """
        save_state(self._bridge.state_path, BridgeState(self._source))

    async def step(self) -> Delta:
        """Scrape every target once and write what has been added; returns the delta, which the log has.

        Raises:
            ServerUnavailable: the broker does not take it; after a new ``start`` it is written first.
            TokentideError: the state file cannot be written, or another process writes as this bridge.
        """
        scrapes = await scrape_all(self._bridge.targets, self._clock, self._bridge.timeout_seconds)
        targets, parts = dict(self._state.targets), []
        for scrape in scrapes:
            self._note(scrape)
            if scrape.reading is None:
                continue
            key = scrape.target.key
            targets[key], increments, left_out = advance(targets.get(key), scrape.reading, scrape.at)
            if left_out:
                _log.warning("%s: %.0f requests are left out: no telling when they came", key, left_out)
            if increments is not None:
                pool = self._aliases.pool_of(scrape.target.model, scrape.target.pool)
                parts.append(pool_rows(increments, pool))
        configured = {target.key for target in self._bridge.targets}
        at = max((scrape.at for scrape in scrapes if scrape.reading is not None), default=None)
        delta = self._delta(at, parts)
        kept = {key: target for key, target in targets.items() if key in configured}
        state = BridgeState(self._source, delta.through_offset, encode(delta), kept)
        await asyncio.to_thread(save_state, self._bridge.state_path, state)
        self._state = state
        await self._append(delta)
        return delta

    def _delta(self, at: float | None, parts: list[PoolRows]) -> Delta:
        start = self._chains.position
        return bridge_delta(self._source, PARTITION, start, max(start, self._now_number()), at, parts)

    def _now_number(self) -> int:
        """Numbers of the sequence are milliseconds: a bridge that has lost its state file never repeats one."""
        return max(0, int(self._clock.now() * 1000.0))

    async def _append(self, delta: Delta) -> None:
        assert self._log is not None
        await self._log.append(delta, self._chains)
        if self._chains.position != delta.through_offset + 1:
            raise TokentideError(
                f"another process writes as {self._source}: give each bridge a name (bridge.name) and run it once"
            )

    def _note(self, scrape: Scrape) -> None:
        """Log what is wrong with a target once, and that it is over."""
        key = scrape.target.key
        if scrape.problem and scrape.problem != self._problems.get(key):
            _log.warning("%s cannot be read: %s", key, scrape.problem)
        elif not scrape.problem and key in self._problems:
            _log.info("%s can be read again", key)
        self._problems = {k: v for k, v in self._problems.items() if k != key} | (
            {key: scrape.problem} if scrape.problem else {}
        )


async def run_bridge(settings: Settings, clock: Clock, stopping: asyncio.Event) -> None:
    """Run until ``stopping`` is set; a broker that is away is waited for.

    Raises:
        TokentideError: as ``Bridge.start`` and ``Bridge.step``, but for ``ServerUnavailable``.
    """
    while not stopping.is_set():
        bridge = Bridge(settings, clock)
        try:
            await bridge.start()
            while not stopping.is_set():
                began = asyncio.get_running_loop().time()
                delta = await bridge.step()
                _log.info("%d requests of %d pools", delta.events, len(delta.keys))
                took = asyncio.get_running_loop().time() - began
                await _wait(stopping, max(0.0, settings.bridge.scrape_seconds - took))
        except DeltaTooLarge as error:
            _log.error("%s: this round is left out, and counters are counted from now on", error)
            bridge.forget()
        except ServerUnavailable as error:
            _log.warning("%s; trying again in %.0f s", error, _RETRY_SECONDS)
            await _wait(stopping, _RETRY_SECONDS)
        finally:
            await bridge.stop()


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
