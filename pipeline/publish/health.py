"""How the pipeline does, as the controller tells it and metrics and the API show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.windows.unknown_models import UnknownDemand

__all__ = ["PipelineHealth"]


@dataclass(frozen=True, slots=True)
class PipelineHealth:
    """How the pipeline does: readiness, event-time progress, the ledger of records, lag. Written by the controller.

    ``ledger_known`` is False until the ledger has been read: its totals are unknown then, not 0. Since the process
    started, ``fleet_reports_rejected`` reports of replicas were refused, and alert rules failed ``alert_rule_errors``
    times, by rule.

    ``watermark`` and ``last_success`` are epoch seconds. The ledger balances:
    ``records == ignored + sum(dead_letters.values()) + event_records``, and ``events + duplicates`` are the events that
    those records gave. ``event_notes`` is what records held besides their events, by kind and name
    (``StoreReaders.event_notes``). ``lag_records`` is keyed by (topic, partition).
    ``store_write_seconds`` is how long the newest transaction took. ``unknown_model_events`` counts events of models
    for which no pool is configured, ``unknown_models`` is their share of late (None: not known), ``sink_dropped``
    counts results that sinks gave up since the start, ``exogenous_rows`` rows from outside by outcome (empty: none are
    configured). ``detail`` says why the pipeline is not ready. ``starting``: it
    has not been ready yet, and has had little time for it. ``server_clock_offsets``: seconds that the clocks of
    servers are ahead, of those that are off.
    """

    ready: bool = False
    detail: str = ""
    starting: bool = False
    ledger_known: bool = True
    watermark: float | None = None
    records: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    lost: int = 0
    ignored: int = 0
    event_records: int = 0
    event_notes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    deltas_applied: int = 0
    deltas_dropped: int = 0
    fleet_reports_rejected: int = 0
    alert_rule_errors: Mapping[str, int] = field(default_factory=dict)
    delta_gaps: int = 0
    lag_records: Mapping[tuple[str, int], int] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    store_write_seconds: float | None = None
    unknown_model_events: int = 0
    unknown_models: UnknownDemand | None = None
    sink_dropped: int = 0
    exogenous_rows: Mapping[str, int] = field(default_factory=dict)
    server_clock_offsets: Mapping[str, float] = field(default_factory=dict)

    @property
    def dead_letters_total(self) -> int:
        """Dead letters of all reasons."""
        return sum(self.dead_letters.values())
