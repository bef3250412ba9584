"""bytewax: KafkaSource, msgspec decode, ``fold_window`` by event time; count and two sums per (pool, window)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.stream.readers.common import Event, Meter, read_task, report
from benchmarks.stream.workload import WINDOW_SECONDS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Collect(DynamicSink[Any]):
    """Keeps what the dataflow emits, in this process."""

    def __init__(self, found: list[Any]) -> None:
        self._found = found

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Any:  # noqa: ARG002
        found = self._found

        class Partition(StatelessSinkPartition[Any]):
            def write_batch(self, items: list[Any]) -> None:
                found.extend(items)

        return Partition()


def main() -> None:
    """Read the task's events: the source ends where the topic ends.

    ``wait_for_system_duration`` is far longer than the topic, so that reading one partition first makes none late:
    with five seconds, as one would set it in live operation, bytewax drops what its clock has run past.
    """
    task = read_task()
    meter = Meter()
    decode = msgspec.json.Decoder(Event).decode
    found: list[Any] = []
    flow = Dataflow("bench")
    source = KafkaSource(
        [task.bootstrap], [task.topic], tail=False, batch_size=5_000, add_config={"group.id": task.name}
    )

    def keyed(message: Any) -> tuple[str, Event]:
        meter.start()
        event = decode(message.value)
        return event.pool, event

    def build() -> list[int]:
        return [0, 0, 0]

    def fold(sums: list[int], event: Event) -> list[int]:
        sums[0] += 1
        sums[1] += round(event.e2e_seconds * 1000)
        sums[2] += event.output_tokens
        return sums

    def merge(a: list[int], b: list[int]) -> list[int]:
        return [x + y for x, y in zip(a, b, strict=True)]

    clock = EventClock(
        ts_getter=lambda e: datetime.fromtimestamp(e.completed_at, UTC),
        wait_for_system_duration=timedelta(seconds=float(task.options.get("wait_seconds", 3600.0))),
    )
    windower = TumblingWindower(length=timedelta(seconds=WINDOW_SECONDS), align_to=_EPOCH)
    messages = op.input("in", flow, source)
    events = op.map("decode", messages, keyed)
    windows = windowing.fold_window("windows", events, clock, windower, build, fold, merge)
    op.output("out", windows.down, _Collect(found))
    run_main(flow)
    measured = meter.stop()
    sums = [value for _, (_, value) in found]
    report(
        measured,
        {
            "events": sum(s[0] for s in sums),
            "latency_ms": sum(s[1] for s in sums),
            "output_tokens": sum(s[2] for s in sums),
            "groups": len(sums),
        },
    )


if __name__ == "__main__":
    main()
