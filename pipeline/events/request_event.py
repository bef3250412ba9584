"""The request event: what one finished LLM request tells about demand.

The contract is ``schemas/request.v1.schema.json``. Absent is not zero: what the emitter does not know stays None. All
latencies run from the request's arrival at the emitting hop.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

__all__ = [
    "DEFAULT_POOL",
    "MAX_LATENCY_SECONDS",
    "MAX_TEXT_LENGTH",
    "MAX_TOKENS",
    "SCHEMA",
    "STATUSES",
    "RejectReason",
    "RequestEvent",
]

SCHEMA: Final = "tokentide.request.completed.v1"
DEFAULT_POOL: Final = "default"

#: Every status counts as demand; only ``ok`` is load that was served to the end.
STATUSES = ("ok", "error", "cancelled", "rejected", "timeout")

#: Bounds beyond which a value is taken for a fault of the emitter. They also keep every sum of a batch inside 64 bits.
MAX_TEXT_LENGTH = 256
MAX_TOKENS = 10_000_000
MAX_LATENCY_SECONDS = 86_400.0

Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Seconds = Annotated[float, Meta(ge=0.0, le=MAX_LATENCY_SECONDS)]


class RejectReason(StrEnum):
    """Why a record became a dead letter. Append only: dashboards and alerts know these words."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNKNOWN_STATUS = "unknown_status"
    NEGATIVE = "negative"
    NOT_FINITE = "not_finite"
    IMPLAUSIBLE = "implausible"
    INCONSISTENT = "inconsistent"
    TOO_OLD = "too_old"
    FROM_FUTURE = "from_future"
    UNKNOWN_FORMAT = "unknown_format"
    UNREADABLE = "unreadable"


class RequestEvent(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """One finished request (``tokentide.request.completed.v1``).

    Times are epoch seconds or RFC 3339 text; two of ``arrived_at``, ``completed_at`` and ``e2e_seconds`` must be given.
    ``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning; None: the usage is unknown, as it often
    is of requests that were refused or cancelled. The annotated bounds are enforced where an event is decoded
    (``codecs``, ``convert``) and where one is checked (``check``), not by the constructor.
    """

    event_id: Name
    model: Name
    status: str
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    schema: str = SCHEMA
    arrived_at: float | str | None = None
    completed_at: float | str | None = None
    e2e_seconds: Seconds | None = None
    pool: Name = DEFAULT_POOL
    variant: Text | None = None
    operation: Text | None = None
    request_id: Text | None = None
    trace_id: Text | None = None
    cached_input_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    max_output_tokens: Count | None = None
    n: Count | None = None
    ttft_seconds: Seconds | None = None
    queue_seconds: Seconds | None = None
    prefill_seconds: Seconds | None = None
    decode_seconds: Seconds | None = None
    tpot_seconds: Seconds | None = None
    preemptions: Count | None = None
    attempt: Count | None = None
    error_type: Text | None = None
    http_status: Count | None = None
    finish_reason: Text | None = None
    stream: bool | None = None
    tenant: Text | None = None
    workload: Text | None = None
    priority: Text | None = None
    region: Text | None = None
    cluster: Text | None = None
    namespace: Text | None = None
    server_id: Text | None = None
    engine: Text | None = None
    engine_version: Text | None = None
    accelerator: Text | None = None
    accelerators_per_replica: Count | None = None
    source: Text | None = None
