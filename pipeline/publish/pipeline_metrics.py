"""The metrics of the pipeline itself: records, events, deltas, clocks and lags."""

from __future__ import annotations

from pipeline.publish.metric import POOL, Metric, counters, gauges

__all__ = ["PIPELINE_METRICS"]

PIPELINE_METRICS: tuple[Metric, ...] = (
    *counters(
        "Pipeline",
        (
            "events_consumed",
            (),
            "Records read from the request topics: those with events, rejected ones and ignored ones.",
        ),
        ("events_accepted", (), "Events counted in windows."),
        ("events_rejected", ("reason",), "Records that were rejected and became dead letters."),
        (
            "events_duplicate",
            (),
            "Events that had arrived before (same id, attempt, arrival time and size) and were not counted again.",
        ),
        ("events_ignored", (), "Records of a known format that contain no request."),
        ("event_parts_ignored", (), "Parts of records, such as spans, that are not requests."),
        ("event_parts_rejected", ("reason",), "Rejected parts of records whose other parts gave events."),
        (
            "event_ids_reused",
            (),
            "Events with the same id as another event of the same batch, but another arrival time or size.",
        ),
        ("unknown_fields", ("field",), "Unusable values in fields of events, and token counts that are unknown."),
        ("records_by_codec", ("codec",), "Records read by a codec other than the native one."),
        ("events_late", (), "Events that arrived after their window had closed."),
        ("events_lost", (), "Offsets that the broker had already deleted when they were to be read."),
        ("events_unknown_model", (), "Events with a model and pool that have no settings."),
        (
            "deltas",
            ("result",),
            "Window deltas read by the controller: applied, or dropped because their events were already counted.",
        ),
        ("delta_gaps", (), "Window deltas refused because offsets before them are missing."),
        (
            "exogenous_rows",
            ("outcome",),
            "Rows of external forecasts and signals that were read: taken, or the reason why not.",
        ),
        ("sink_dropped", (), "Results that sinks could not deliver and gave up since the process started."),
        ("fleet_reports_rejected", (), "Reports of replicas that were rejected since the process started."),
        ("steps", (), "Steps of the forecast and recommendation engine since the process started."),
    ),
    *gauges(
        "Pipeline",
        (
            "bridge_requests",
            (*POOL, "result"),
            "Requests reported by a bridge since the store was created: counted, or ignored because the pool has "
            "events. Requests that events replace later move from counted to ignored.",
        ),
        (
            "unknown_model_requests_ratio",
            (),
            "Share of recent requests with a model and pool that have no settings (half-life 10 minutes of event "
            "time).",
        ),
        (
            "unknown_model_similar_pool_ratio",
            (*POOL, "similar_model", "similar_pool"),
            "The same share for each of the ten models and pools with the most requests, with the configured pool that "
            "each looks like (empty: none).",
        ),
        ("ready", (), "1 when the pipeline is ready: partitions assigned, state restored, store writable."),
        ("clock_timestamp_seconds", (), "The pipeline's clock (simulated in a replay), epoch seconds."),
        ("watermark_timestamp_seconds", (), "Event time up to which windows are closed, epoch seconds."),
        ("watermark_lag_seconds", (), "The pipeline's clock minus the watermark."),
        (
            "server_clock_offset_seconds",
            ("server",),
            "Estimated offset of a server's clock; positive: ahead, negative: behind (or its events are delivered "
            "late). Only servers off by more than 5 s, and of these the 32 with the largest offset.",
        ),
        ("consumer_lag_records", ("topic", "partition"), "Records not yet read."),
        ("store_write_duration_seconds", (), "Duration of the newest store transaction."),
        ("stage_last_success_timestamp_seconds", ("stage",), "When a stage last succeeded, epoch seconds."),
        ("pools", (), "Number of pools known from settings or events."),
        ("build_info", ("version",), "1, with the version as label."),
        ("config_info", ("hash",), "1, with the hash of the settings that affect recommendations as label."),
    ),
)
