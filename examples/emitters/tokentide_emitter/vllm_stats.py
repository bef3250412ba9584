"""vLLM stat logger plugin: one event per request that the engine finished.

vLLM loads it through the entry point ``vllm.stat_logger_plugins``; where ``VLLM_PLUGINS`` is set, that variable
must list ``tokentide``. One instance runs in every API server for every engine.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

from tokentide_emitter.event import EventIds, finished_event
from tokentide_emitter.requests_in_flight import REQUESTS
from tokentide_emitter.sink import shared_sink
from tokentide_emitter.vllm_events import request_fields, request_key

try:
    from vllm.v1.metrics.loggers import StatLoggerBase
except ImportError:  # outside of vLLM, in tests
    StatLoggerBase = object

__all__ = ["TokentideStatLogger"]

_log = logging.getLogger("tokentide_emitter")


class TokentideStatLogger(StatLoggerBase):
    """Turns ``iteration_stats.finished_requests`` into events. ``record`` never raises: vLLM would stop serving."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        names = getattr(vllm_config.model_config, "served_model_name", None) or vllm_config.model_config.model
        self._model = names if isinstance(names, str) else names[0]
        self._engine = engine_index
        self._ids = EventIds()
        self._sink = shared_sink()
        self._failed = False
        REQUESTS.models.update([names] if isinstance(names, str) else names)
        parallel = getattr(vllm_config, "parallel_config", None)
        self._labels: dict[str, Any] = {
            "model": self._model,
            "server_id": socket.gethostname(),
            "engine": "vllm",
            "engine_version": _vllm_version(),
            "source": "vllm.stat_logger",
            "accelerators_per_replica": getattr(parallel, "world_size", None),
        }
        if self._sink is None:
            _log.warning("TOKENTIDE_KAFKA is not set: no request events are emitted")

    def record(
        self,
        scheduler_stats: Any = None,  # noqa: ARG002
        iteration_stats: Any = None,
        mm_cache_stats: Any = None,  # noqa: ARG002
        engine_idx: int = 0,
        **_: Any,
    ) -> None:
        """Emit what finished in one iteration of the engine."""
        if self._sink is None or iteration_stats is None:
            return
        try:
            for finished in iteration_stats.finished_requests:
                self._sink.put(self._event(finished, iteration_stats.iteration_timestamp, engine_idx))
        except Exception:
            if not self._failed:
                _log.exception("request events are missing: this version of vLLM reports requests otherwise")
            self._failed = True

    def _event(self, finished: Any, completed_at: float, engine: int) -> dict[str, Any]:
        assert self._sink is not None
        fields = request_fields(finished, completed_at)
        request = REQUESTS.engine_finished(request_key(fields["request_id"]))
        if request is not None:
            fields |= {"tenant": request.tenant, "stream": request.stream, "operation": request.operation}
            if request.model and request.model not in REQUESTS.models:
                fields["variant"] = request.model  # a LoRA adapter
        config = self._sink.config
        labels = {**self._labels, **config.labels, "pool": config.pool}
        return finished_event({"event_id": self._ids(engine), **fields}, labels)

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

    def log(self) -> None:
        """Nothing to say."""


def _vllm_version() -> str | None:
    try:
        from vllm import __version__
    except ImportError:
        return None
    return str(__version__)
