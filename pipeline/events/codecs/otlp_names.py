"""Names of attributes that tell of requests to models, in the vocabularies that there are, and what each stands for.

The GenAI conventions (semantic-conventions v1.41.0, ``docs/gen-ai``), their deprecated token names, those of vLLM's
``llm_request`` span (``vllm/tracing/utils.py``, 0.32), which SGLang uses as well, OpenLLMetry's before them (``llm.``),
LiteLLM's call types as operation, Vercel's AI SDK, OpenInference (``openinference-semantic-conventions``, which Arize
Phoenix reads) and Langfuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.events.codecs import otlp_langfuse as langfuse
from pipeline.events.codecs.values import count, milliseconds, number

__all__ = [
    "ATTRIBUTES",
    "EMBEDDINGS",
    "FIELDS",
    "OPERATIONS",
    "POOL_OF_SERVER",
    "REQUESTS",
    "REQUEST_ATTRIBUTES",
    "REQUEST_NAME",
    "RESOURCE_ATTRIBUTES",
    "RESOURCE_TEXTS",
    "USAGE",
]

_SPAN_KIND = "openinference.span.kind"
OPERATIONS = ("gen_ai.operation.name", "llm.request.type", _SPAN_KIND, langfuse.OBSERVATION_TYPE)
EMBEDDINGS = frozenset({"embeddings", "embedding", "aembedding", "ai.embed.doembed", "ai.embedmany.doembed"})
#: Operations that are one request to a model, in lower case; LiteLLM's call types begin with an a where asynchronous.
REQUESTS = EMBEDDINGS | {
    *("chat", "text_completion", "generate_content", "completion", "completions"),
    *("chat_completion", "chat.completions"),
    *("responses", "messages", "anthropic_messages", "generate", "generate_content_stream", "llm", "generation"),
    *("acompletion", "atext_completion", "aresponses", "agenerate_content", "agenerate_content_stream"),
    *("ai.generatetext.dogenerate", "ai.streamtext.dostream"),
    *("ai.generateobject.dogenerate", "ai.streamobject.dostream"),
}
REQUEST_NAME = "llm_request"
#: A request span has one of these attributes, or the name.
REQUEST_ATTRIBUTES = frozenset({*OPERATIONS, "gen_ai.request.model", "gen_ai.response.model"})

#: Event field to the attributes that have it; the first that is there counts.
_COUNTS = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cached_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cached_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "reasoning_output_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "max_output_tokens": ("gen_ai.request.max_tokens",),
    "n": ("gen_ai.request.n", "gen_ai.request.choice.count"),
    "http_status": ("http.response.status_code", "http.status_code"),
    "attempt": ("http.request.resend_count",),
}
_SECONDS = {
    "ttft_seconds": (
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
        "gen_ai.latency.time_to_first_token",
    ),
    "e2e_seconds": ("gen_ai.latency.e2e",),
    "queue_seconds": ("gen_ai.latency.time_in_queue",),
    "prefill_seconds": ("gen_ai.latency.time_in_model_prefill",),
    "decode_seconds": ("gen_ai.latency.time_in_model_decode",),
}
_MILLISECONDS = {"ttft_seconds": ("ai.response.msToFirstChunk",)}
_TEXTS = {
    "model": (
        "gen_ai.request.model",
        "gen_ai.response.model",
        "llm.model_name",
        "embedding.model_name",
        "llm.request.model",
        langfuse.MODEL,
    ),
    "pool": ("tokentide.pool",),
    "tenant": ("tokentide.tenant",),
    "workload": ("tokentide.workload",),
    "request_id": ("gen_ai.response.id", "gen_ai.request.id"),
    "operation": OPERATIONS,
    "engine": ("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    "error_type": ("error.type",),
}
_OTHERS = (
    *("gen_ai.request.stream", "llm.is_streaming", "gen_ai.response.finish_reasons"),
    *(langfuse.USAGE, langfuse.COMPLETION_START),
)
RESOURCE_TEXTS = {
    "model": ("tokentide.model",),
    "pool": ("tokentide.pool",),
    "region": ("cloud.region",),
    "cluster": ("k8s.cluster.name",),
    "namespace": ("k8s.namespace.name",),
}
POOL_OF_SERVER = "k8s.deployment.name"


def _by_attribute(*tables: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, int]]:
    """Attribute to (event field, rank among the attributes of that field)."""
    return {
        attribute: (field, rank)
        for table in tables
        for field, attributes in table.items()
        for rank, attribute in enumerate(attributes)
    }


#: Every attribute of a span that is read; decoders skip all others.
ATTRIBUTES = frozenset({*_by_attribute(_COUNTS, _SECONDS, _MILLISECONDS, _TEXTS), *_OTHERS})
#: Every attribute of a resource that is read.
RESOURCE_ATTRIBUTES = frozenset({*_by_attribute(RESOURCE_TEXTS), POOL_OF_SERVER, "service.name", "service.instance.id"})
#: Attribute to the event's field, its rank among the attributes of that field, and what reads its value.
FIELDS: dict[str, tuple[str, int, Callable[[Any], Any] | None]] = {
    attribute: (*place, read)
    for table, read in ((_TEXTS, None), (_COUNTS, count), (_MILLISECONDS, milliseconds), (_SECONDS, number))
    for attribute, place in _by_attribute(table).items()
}
#: Attributes that have the tokens of a request.
USAGE = frozenset({*_COUNTS["input_tokens"], *_COUNTS["output_tokens"]})
