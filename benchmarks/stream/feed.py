"""Emits live events at a steady rate until told to stop; a process of its own, so that measuring does not slow it.

    python -m benchmarks.stream.feed BOOTSTRAP TOPIC EVENTS_PER_SECOND KEYS [BURST_FACTOR BURST_FROM BURST_SECONDS]

It prints one line per second: the events sent so far.
"""

from __future__ import annotations

import random
import sys
import time

from confluent_kafka import Producer

from benchmarks.stream.workload import PARTITIONS

__all__ = ["MODEL", "live_event"]

MODEL = "llama-3.1-8b-instruct"

_TICK_SECONDS = 0.02


def live_event(number: int, pool: str, completed_at: float, rng: random.Random) -> bytes:
    """One event of 250 bytes that completed at ``completed_at`` (epoch seconds)."""
    output = rng.randrange(1, 900)
    e2e = 0.2 + output * 0.012
    return (
        f'{{"event_id":"live-{number:016x}","model":"{MODEL}","pool":"{pool}",'
        f'"completed_at":{completed_at:.3f},"e2e_seconds":{e2e:.3f},"ttft_seconds":0.200,"queue_seconds":0.010,'
        f'"input_tokens":{rng.randrange(1, 6000)},"cached_input_tokens":0,"output_tokens":{output},"status":"ok"}}'
    ).encode()


def main() -> None:
    """Send at the rate that the command line asks for; catches up after a pause."""
    bootstrap, topic, rate, keys = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    factor, burst_from, burst_seconds = (*map(float, sys.argv[5:8]), 1.0, 0.0, 0.0)[:3]
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all", "batch.size": 200_000})
    rng = random.Random(11)
    sent, due, told = 0, 0.0, 0.0
    began = before = time.monotonic()
    while True:
        now = time.monotonic()
        inside = burst_from <= now - began < burst_from + burst_seconds
        due += (now - before) * rate * (factor if inside else 1.0)
        before = now
        while sent < due:
            key = sent % keys
            value = live_event(sent, f"pool-{key:05d}", time.time(), rng)
            try:
                producer.produce(topic, value, partition=key % PARTITIONS)
            except BufferError:
                producer.poll(0.05)
                continue
            sent += 1
        producer.poll(0)
        if now - told >= 1.0:
            told = now
            print(sent, flush=True)
        time.sleep(_TICK_SECONDS)


if __name__ == "__main__":
    main()
