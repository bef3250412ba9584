"""vLLM middleware: what the engine's statistics leave out. Tokens and times stay those of the stat logger.

    vllm serve … --middleware tokentide_emitter.vllm_asgi.TokentideMiddleware

Emits requests that were refused, failed before the engine, or were left by their client (the engine forgets these), and
gives the stat logger tenant, LoRA name, operation and whether the answer was streamed.
"""

from __future__ import annotations

from typing import Any

from tokentide_emitter import asgi
from tokentide_emitter.requests_in_flight import REQUESTS, RequestInFlight
from tokentide_emitter.sink import KafkaSink

__all__ = ["TokentideMiddleware"]


class TokentideMiddleware(asgi.TokentideMiddleware):
    """Emits only what the stat logger does not."""

    source = "vllm.middleware"

    def __init__(self, app: Any, sink: KafkaSink | None = None) -> None:
        super().__init__(app, sink, model_of=_served)

    def began(self, request: RequestInFlight) -> None:
        """Make the request known to the stat logger."""
        REQUESTS.begin(request)

    def ended(self, sink: KafkaSink, request: RequestInFlight, fields: dict[str, Any]) -> None:
        """Emit the request unless the engine reported it."""
        REQUESTS.end(request)
        if not request.engine_finished and fields["status"] != "ok":
            # A disconnected client saw no usage, and a refusal has none.
            super().ended(sink, request, {**fields, "engine": "vllm"})


def _served(model: str) -> str | None:
    """The served name that a request is for. Adapters are served too, but any other name is a client's mistake (404).

    Before the stat logger has said which names are served, the client's name is taken.
    """
    if model in REQUESTS.models or not REQUESTS.models:
        return model
    return sorted(REQUESTS.models)[0]
