"""quixstreams: its own tumbling windows (RocksDB), no changelog; count and two sums per (pool, window)."""

from __future__ import annotations

import tempfile
from typing import Any

import orjson
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum
from quixstreams.models import JSONDeserializer

from benchmarks.stream.readers.common import Meter, read_task, report
from benchmarks.stream.workload import WINDOW_SECONDS


def completed_ms(value: dict[str, Any], *_: Any) -> int:
    """Event time of the window job."""
    return round(value["completed_at"] * 1000)


def main() -> None:
    """Read the task's events. Windows are emitted at every update, so that the last ones are counted too."""
    task = read_task()
    meter = Meter()
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="quix-") as folder:
        app = Application(
            broker_address=task.bootstrap,
            consumer_group=task.name,
            auto_offset_reset="earliest",
            state_dir=folder,
            use_changelog_topics=False,
            loglevel="ERROR",
        )
        topic = app.topic(
            task.topic, value_deserializer=JSONDeserializer(loads=orjson.loads), timestamp_extractor=completed_ms
        )
        frame = app.dataframe(topic)

        def begin(_value: Any) -> None:
            meter.start()

        frame = frame.update(begin)
        windows = frame.tumbling_window(WINDOW_SECONDS * 1000, grace_ms=5_000).agg(
            count=Count(), latency=Sum("e2e_seconds"), output=Sum("output_tokens")
        )

        def keep(value: Any, key: Any, _timestamp: Any, _headers: Any) -> None:
            newest[key, value["start"]] = value

        windows.current().update(keep, metadata=True)
        app.run(count=task.events, timeout=60)
        measured = meter.stop()
    report(
        measured,
        {
            "events": sum(v["count"] for v in newest.values()),
            "latency_ms": round(sum(v["latency"] for v in newest.values()) * 1000),
            "output_tokens": sum(v["output"] for v in newest.values()),
            "groups": len(newest),
        },
    )


if __name__ == "__main__":
    main()
