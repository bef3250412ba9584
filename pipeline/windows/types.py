"""The nouns of event-time windows: keys, measures, deltas, closed windows.

A *delta* is what an aggregator learned from one range of offsets of one source partition: partial window rows that add
up. A *closed window* is the value of one (model, pool) minute as it stood when the watermark passed it; it never
changes afterwards and is the only thing that forecasters learn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.windows.fleet import FleetReport
from pipeline.windows.service import Service

__all__ = [
    "BASE_SECONDS",
    "HISTOGRAMS",
    "MEASURES",
    "REST",
    "Breakdown",
    "ClosedWindow",
    "DeadLetterRef",
    "Delta",
    "DeltaRows",
    "HistogramColumns",
    "HistogramRows",
    "Histograms",
    "Part",
    "PoolKey",
    "WindowKey",
]

#: Width of a base window in seconds.
BASE_SECONDS = 10

#: Additive integer measures of a window row, in storage order. Integers add up the same in any order, so a run with
#: crashes can be compared with one without for equality.
MEASURES = (
    "requests",  # all statuses: demand
    "ok",
    "error",
    "cancelled",
    "rejected",
    "timeout",
    "input_tokens",  # including cached
    "cached_input_tokens",
    "cached_known",  # events that told how many input tokens were cached
    "output_tokens",  # including reasoning
    "reasoning_output_tokens",
    "input_tokens_squared",
    "output_tokens_squared",
    "input_output_product",
    "kv_token_milliseconds",  # Σ (input + output/2) · (e2e − queue): KV residency
    "inflight_milliseconds",  # Σ e2e: mean concurrency · window length
    "preemptions",
    "input_tokens_unknown",  # requests whose usage is unknown: what they add to the sums is missing, not 0
    "output_tokens_unknown",
)

#: Mergeable log-bucket histograms of a window row; the index in this tuple is the stored metric id. Append only.
HISTOGRAMS = (
    "input_tokens",
    "output_tokens",
    "ttft_seconds",
    "tpot_seconds",
    "queue_seconds",
    "e2e_seconds",
    "servers",  # of no values: the buckets are servers (pipeline.windows.servers)
    "service",  # of no values: the buckets are outcomes (pipeline.windows.service)
)


class PoolKey(NamedTuple):
    """What is scaled: one pool serving one model."""

    model: str
    pool: str


class WindowKey(NamedTuple):
    """What is counted: a pool, and the extra dimensions asked for, as ``name=value`` joined by ``|`` (or empty)."""

    model: str
    pool: str
    dims: str


class DeadLetterRef(msgspec.Struct, gc=False, frozen=True):
    """One record that became a dead letter: where it lay and why it was refused."""

    offset: int
    reason: str
    detail: str


class DeltaRows(msgspec.Struct, gc=False):
    """Partial window rows in columns of equal length; ``key`` indexes ``Delta.keys``.

    ``measures[i]`` is the column of ``MEASURES[i]``; ``max_completed_ms`` is the newest completion per row (epoch ms).
    """

    window: list[int]
    key: list[int]
    measures: list[list[int]]
    max_completed_ms: list[int]


class HistogramRows(msgspec.Struct, gc=False):
    """Sparse histogram counts in columns of equal length; ``row`` indexes the rows of ``DeltaRows``."""

    row: list[int]
    metric: list[int]
    bucket: list[int]
    n: list[int]


class HistogramColumns(NamedTuple):
    """``HistogramRows`` as arrays, for counts that do not leave as JSON."""

    row: NDArray[np.integer]
    metric: NDArray[np.integer]
    bucket: NDArray[np.integer]
    n: NDArray[np.integer]

    def to_rows(self) -> HistogramRows:
        """Return the same counts as lists."""
        return HistogramRows(*(column.tolist() for column in self))


Histograms = HistogramRows | HistogramColumns


class Delta(msgspec.Struct):
    """What one offset range [from_offset, through_offset] of one source partition adds to the windows.

    ``from_offset`` is also a statement about the log of deltas: after the record at ``base_delta_offset`` of this delta
    partition (−1: before the first), the applied position was ``from_offset``. With it an aggregator that starts anew
    finds the covered position from the tail alone (docs/adr/0001).

    ``through_offset == from_offset - 1`` is a heartbeat: nothing new, the partition is caught up (``idle``).
    ``lost`` counts offsets in the range that the broker no longer had.

    The ledger: ``records`` = ``ignored`` + dead letters + ``event_records``, those that gave events; and the events
    that they gave are ``events`` (counted) + ``duplicates``. What else is counted: ``ignored_parts`` of records (spans
    that are no requests), ``refused_parts`` of records that gave other events by reason, ``unknown`` values by field,
    ``reused_ids``, and records by ``codecs`` other than the native one.

    ``max_event_at`` is the event time that the partition has reached, epoch seconds (None: there is no event, in the
    range or, for a heartbeat, at all), and ``clock_offsets`` how far the clocks of servers are ahead, in seconds, of
    those that are off (``pipeline.windows.partition_clock``). ``latency_statuses``: whose TTFT and TPOT are in the
    histograms; requests with status "ok", or "all" as in version 1.
    """

    topic: str
    partition: int
    from_offset: int
    through_offset: int
    base_delta_offset: int
    producer_id: str
    records: int
    events: int
    duplicates: int
    lost: int
    max_event_at: float | None
    idle: bool
    dead_letters: list[DeadLetterRef]
    keys: list[WindowKey]
    rows: DeltaRows
    histograms: HistogramRows
    schema: str = "tokentide.window-delta.v2"
    base_seconds: int = BASE_SECONDS
    event_records: int = 0
    ignored: int = 0
    ignored_parts: int = 0
    refused_parts: dict[str, int] = msgspec.field(default_factory=dict)
    unknown: dict[str, int] = msgspec.field(default_factory=dict)
    reused_ids: int = 0
    codecs: dict[str, int] = msgspec.field(default_factory=dict)
    clock_offsets: dict[str, float] = msgspec.field(default_factory=dict)
    latency_statuses: Literal["ok", "all"] = "ok"


#: The name of everything that a breakdown does not name.
REST = "*"


class Part(NamedTuple):
    """What the requests with one value of a dimension add to a window; all sums."""

    value: str
    requests: int
    input_tokens: int  # including cached
    cached_input_tokens: int
    output_tokens: int


class Breakdown(NamedTuple):
    """A window by the values of one dimension: the heaviest, most requests first, then ``REST`` for everything else.

    ``values`` is how many distinct values were seen; ``parts`` add up to the window and are bounded
    (``pipeline.windows.breakdown``).
    """

    dimension: str
    values: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """One (model, pool) window as it stood when it closed; all sums, no rates.

    ``start`` is epoch seconds, the window is [start, start + grain_seconds). ``requests`` counts every status.
    ``completeness`` in (0, 1] is the estimated share of the window's requests that had been reported at closing.
    ``gap`` means that telemetry is missing: the counts say nothing about demand.
    ``current_replicas`` and ``ready_replicas`` are what the fleet reported last (None: not reported, or too long ago);
    ``fleet`` is that report and the changes that led to it (None: none).
    ``closed_after_seconds`` is the age in event time at which the window closes (None: not known). ``servers`` is
    how many servers its requests name (None: too few name one), ``service`` how they were served (None: not told).
    ``breakdown`` has one entry per configured dimension; empty without dimensions, or when nothing was counted.
    ``ttft_seconds`` and ``tpot_seconds`` are means over the requests served to the end (None: too few told them).
    ``input_tokens_unknown`` and ``output_tokens_unknown`` are requests whose usage is unknown: the sums of tokens are
    those of the others (``pipeline.windows.usage``).
    """

    start: int
    grain_seconds: int
    model: str
    pool: str
    requests: int
    ok: int
    rejected: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    input_tokens_squared: int
    output_tokens_squared: int
    input_output_product: int
    kv_token_milliseconds: int
    inflight_milliseconds: int
    preemptions: int
    completeness: float = 1.0
    gap: bool = False
    current_replicas: int | None = None
    ready_replicas: int | None = None
    breakdown: tuple[Breakdown, ...] = ()
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    input_tokens_unknown: int = 0
    output_tokens_unknown: int = 0
    fleet: FleetReport | None = None
    closed_after_seconds: float | None = None
    servers: int | None = None
    service: Service | None = None

    @property
    def key(self) -> PoolKey:
        """The pool that this window belongs to."""
        return PoolKey(self.model, self.pool)

    @property
    def end(self) -> int:
        """End of the window, epoch seconds, exclusive."""
        return self.start + self.grain_seconds
