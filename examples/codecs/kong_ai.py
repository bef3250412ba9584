"""A codec of one's own: Kong AI Gateway's ``kafka-log``, one JSON object per request.

Put it in a package, list it in that package's pyproject.toml, and name it in the settings::

    [project.entry-points."tokentide.codecs"]
    kong_ai = "acme_tokentide.kong_ai:KongAiCodec"

    [[stream.sources]]
    topic = "kong-logs"
    codec = "kong_ai"
"""

from __future__ import annotations

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Decoded, RawRecord
from pipeline.events.codecs.values import at, count, hashed_id, milliseconds, status_of_http, text
from pipeline.events.request_event import RejectReason


class KongAiCodec:
    """Requests that went through the ``ai-proxy`` plugin; all others are ignored."""

    name = "kong_ai"
    title = "Kong AI Gateway log"

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record has names that only Kong's log has."""
        return record.is_object() and {"started_at", "latencies", "service"} <= record.object().keys()

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event of one request.

        Raises:
            EventRejected: it has no start or no duration.
        """
        fields = record.object()
        proxy = at(fields, "ai", "proxy")
        if not isinstance(proxy, dict):
            return Decoded((), ignored_parts=1)
        started, took = milliseconds(fields.get("started_at")), milliseconds(at(fields, "latencies", "request"))
        if started is None or took is None:
            raise EventRejected(RejectReason.MISSING_FIELD, "no started_at or latencies.request")
        code = count(at(fields, "response", "status"))
        status = status_of_http(code) or "error"
        request_id = text(at(fields, "request", "id"))
        usage = proxy.get("usage") if status == "ok" else None
        return Decoded(
            (
                {
                    "event_id": hashed_id(request_id, started) if request_id else record.digest(),
                    "model": text(at(proxy, "meta", "response_model")) or text(at(proxy, "meta", "request_model")),
                    "pool": text(at(fields, "service", "name")),
                    "arrived_at": started,
                    "e2e_seconds": took,
                    "input_tokens": count(at(usage, "prompt_tokens")),
                    "output_tokens": count(at(usage, "completion_tokens")),
                    "status": status,
                    "http_status": code,
                    "source": self.name,
                },
            )
        )
