"""Sends events to Kafka from a thread of its own: a server's event loop must never wait for a broker."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tokentide_emitter.config import EmitterConfig

__all__ = ["KafkaSink", "shared_sink"]

_log = logging.getLogger("tokentide_emitter")

#: Events that wait for the broker; beyond it new ones are dropped and counted. About 10 MB.
_MOST_WAITING = 20_000
_RETRY_SECONDS = 5.0
_REPORT_SECONDS = 60.0
_FLUSH_SECONDS = 5.0


class KafkaSink:
    """``put`` returns at once and raises nothing; ``dropped`` counts what could not be kept or sent.

    The key is ``model|pool``, so that a producer's retry reaches the partition of the first try. ``producer`` makes
    the Kafka producer (tests pass a fake one).
    """

    def __init__(self, config: EmitterConfig, producer: Callable[[EmitterConfig], Any] | None = None) -> None:
        self.config = config
        self.dropped = 0
        self.sent = 0
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(maxsize=_MOST_WAITING)
        self._producer = producer or _kafka_producer
        self._reported_at = 0.0
        self._thread = threading.Thread(target=self._run, name="tokentide-emitter", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, event: Mapping[str, Any]) -> None:
        """Queue one event."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._drop("the queue is full: is Kafka reachable?")

    def close(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Send what is queued, for ``seconds`` at most."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        producer = self._connected()
        while True:
            event = self._queue.get()
            if event is None:
                producer.flush(timeout=_FLUSH_SECONDS)
                return
            try:
                pending = producer.send(
                    self.config.topic,
                    json.dumps(event, separators=(",", ":")).encode(),
                    key=f"{event['model']}|{event['pool']}".encode(),
                    timestamp_ms=int(event["completed_at"] * 1000),
                )
                pending.add_errback(lambda error: self._drop(repr(error)))
                self.sent += 1
            except Exception as error:
                self._drop(repr(error))

    def _connected(self) -> Any:
        while True:
            try:
                return self._producer(self.config)
            except Exception as error:
                _log.warning("no connection to Kafka at %s, trying again: %s", ",".join(self.config.bootstrap), error)
                time.sleep(_RETRY_SECONDS)

    def _drop(self, why: str) -> None:
        self.dropped += 1
        if time.monotonic() - self._reported_at > _REPORT_SECONDS or self.dropped == 1:
            self._reported_at = time.monotonic()
            _log.error("%d request events were lost so far: %s", self.dropped, why)


def _kafka_producer(config: EmitterConfig) -> Any:
    from kafka import KafkaProducer

    return KafkaProducer(
        bootstrap_servers=list(config.bootstrap),
        acks="all",
        linger_ms=50,
        # Bounds how long one send may wait for metadata; the thread is blocked, never the server.
        max_block_ms=10_000,
        client_id="tokentide-emitter",
        **config.security,
    )


_lock = threading.Lock()
_shared: list[KafkaSink] = []


def shared_sink() -> KafkaSink | None:
    """The sink of this process, made at the first call; None when ``TOKENTIDE_KAFKA`` is not set."""
    with _lock:
        if not _shared:
            config = EmitterConfig.from_environment(os.environ)
            if config is None:
                return None
            _shared.append(KafkaSink(config))
        return _shared[0]
