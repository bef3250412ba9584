"""Decode request events as the aggregator does: every record is counted, refused with a reason, or ignored."""

import json

from pipeline import decode_batch
from pipeline.events.validation import EventLimits

now = 1_795_981_560.0
event = {
    "event_id": "req-1",
    "model": "llama-3.1-8b-instruct",
    "pool": "chat",
    "arrived_at": now - 6.4,
    "e2e_seconds": 6.4,
    "input_tokens": 1840,
    "output_tokens": 233,
    "status": "ok",
}
records = [json.dumps(event).encode(), b'{"model": "llama"}']
batch = decode_batch(records, [int(now * 1000)] * 2, now, EventLimits())
print(f"{len(batch.columns.arrived_at)} event; refused: {[rejection.reason for rejection in batch.rejections]}")
