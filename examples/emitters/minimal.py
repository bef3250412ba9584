"""The smallest emitter: one JSON object per finished request. Needs kafka-python.

python minimal.py localhost:9092
"""

import json
import sys
import time
import uuid

from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers=sys.argv[1], acks="all")
event = {"event_id": str(uuid.uuid4()), "model": "llama-3.1-8b-instruct", "pool": "chat", "status": "ok"}
event |= {"arrived_at": time.time() - 6.4, "e2e_seconds": 6.4, "ttft_seconds": 0.31}
event |= {"input_tokens": 1840, "output_tokens": 233}
producer.send("inference.requests.v1", json.dumps(event).encode(), key=b"llama-3.1-8b-instruct|chat").get(timeout=30)
producer.flush()
