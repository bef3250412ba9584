"""Envoy AI Gateway's JSON access log: one line per request, with ``gen_ai.`` fields beside Envoy's own.

``start_time`` is arrival, ``duration`` the whole in milliseconds (docs/capabilities/observability/accesslogs.md of
envoyproxy/ai-gateway, v0.4). Formatters write unknown values as ``-`` or null, and numbers as numbers or text.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord
from pipeline.events.codecs.values import at, count, hashed_id, milliseconds, status_of_http, text, time
from pipeline.events.request_event import RejectReason

__all__ = ["EnvoyAiGatewayCodec"]

#: Response flags of Envoy that say more than the code: the client left; an upstream limit or circuit breaker refused;
#: a timeout.
_FLAGS = {
    "DC": "cancelled",
    "DownstreamConnectionTermination": "cancelled",
    "UO": "rejected",
    "RL": "rejected",
    "UH": "rejected",
    "UT": "timeout",
    "UpstreamRequestTimeout": "timeout",
    "SI": "timeout",
    "StreamIdleTimeout": "timeout",
    "DT": "timeout",
    "DurationTimeout": "timeout",
}
#: Flags of answers that broke off after their code was sent.
_BROKEN = frozenset(
    (
        "UC",
        "UpstreamConnectionTermination",
        "UR",
        "UpstreamRemoteReset",
        "LR",
        "LocalReset",
        "UPE",
        "UpstreamProtocolError",
    )
)


class EnvoyAiGatewayCodec:
    """Lines without a ``gen_ai.`` model are other traffic of the gateway and are ignored."""

    name = "envoy_ai_gateway"
    title = "Envoy AI Gateway access log"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record has the access log's names."""
        if not record.is_object():
            return False
        fields = record.object()
        return "start_time" in fields and "duration" in fields and "response_code" in fields

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event of one line.

        Raises:
            EventRejected: it has no time, no duration or no code.
        """
        fields = record.object()
        missing = [name for name in ("start_time", "duration", "response_code") if fields.get(name) in (None, "", "-")]
        if missing:
            raise EventRejected(RejectReason.MISSING_FIELD, f"no {', '.join(missing)} in the {self.title}")
        model = text(_named(fields, "gen_ai.request.model")) or text(_named(fields, "gen_ai.response.model"))
        if model is None:
            return Decoded((), 1)
        return Decoded((self._event(record, fields, model),))

    def _event(self, record: RawRecord, fields: dict[str, Any], model: str) -> dict[str, Any]:
        code = count(fields["response_code"])
        flags = str(fields.get("response_flags") or "").split(",")
        status = next((_FLAGS[flag] for flag in flags if flag in _FLAGS), None) or status_of_http(code) or "error"
        if status == "ok" and not _BROKEN.isdisjoint(flags):
            status = "error"
        request_id = text(fields.get("x-request-id"))
        used = {
            name: count(_named(fields, f"gen_ai.usage.{name}"))
            for name in ("input_tokens", "output_tokens", "cached_input_tokens")
        }
        if used["cached_input_tokens"] is None:
            used["cached_input_tokens"] = count(_named(fields, "gen_ai.usage.cache_read.input_tokens"))
        if status != "ok" and not any(used.values()):  # the formatter's zero of a request that has no usage
            used = dict.fromkeys(used)
        started = time(fields["start_time"])
        took = milliseconds(fields["duration"])
        if took is None:
            shown = str(fields["duration"])[:24]
            raise EventRejected(RejectReason.WRONG_TYPE, f"duration is {shown!r}; expected milliseconds (%DURATION%)")
        return {
            "event_id": hashed_id(request_id, fields["start_time"]) if request_id else record.digest(),
            "request_id": request_id,
            "model": model,
            "pool": text(_named(fields, "tokentide.pool")),
            "arrived_at": started if started is not None else str(fields["start_time"]),
            "e2e_seconds": took,
            **used,
            "status": status,
            "http_status": code,
            "server_id": text(fields.get("upstream_host")),
            "source": self.name,
        }


def _named(fields: dict[str, Any], name: str) -> Any:
    """The value of a name with dots; log pipelines into Elasticsearch make nested objects of them."""
    return fields[name] if name in fields else at(fields, *name.split("."))
