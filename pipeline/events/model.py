"""The request event: what one finished LLM request tells about demand.

The contract is ``schemas/request.v1.schema.json``. Absent is not zero: an optional field that the emitter does not know
stays None. All latencies run from the request's arrival at the emitting hop.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["SCHEMA", "STATUSES", "RejectReason", "RequestEvent"]

SCHEMA = "tokentide.request.completed.v1"

#: Every status counts as demand; only ``ok`` is load that was served to the end.
STATUSES = ("ok", "error", "cancelled", "rejected", "timeout")


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


class RequestEvent(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """One finished request (``tokentide.request.completed.v1``).

    Times are epoch seconds or RFC 3339 text; two of ``arrived_at``, ``completed_at`` and ``e2e_seconds`` must be given.
    ``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning.
    """

    event_id: str
    model: str
    input_tokens: int
    output_tokens: int
    status: str
    schema: str = SCHEMA
    arrived_at: float | str | None = None
    completed_at: float | str | None = None
    e2e_seconds: float | None = None
    pool: str = "default"
    variant: str | None = None
    operation: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    cached_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    ttft_seconds: float | None = None
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    tpot_seconds: float | None = None
    preemptions: int | None = None
    error_type: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    stream: bool | None = None
    tenant: str | None = None
    workload: str | None = None
    priority: str | None = None
    region: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    server_id: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    accelerator: str | None = None
    accelerators_per_replica: int | None = None
    source: str | None = None
