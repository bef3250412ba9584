"""For tests of Tokentide and of programs around it: events, an oracle that counts them, and a pipeline without Kafka.

Nothing here is used by the pipeline itself.
"""

from pipeline.testing.driver import MemoryLog, PipelineTestDriver, TestAggregator
from pipeline.testing.memory_store import MemoryStore
from pipeline.testing.oracle import Contents, Oracle, added_after_closing, contents, request_event
from pipeline.testing.windows import closed_window

__all__ = [
    "Contents",
    "MemoryLog",
    "MemoryStore",
    "Oracle",
    "PipelineTestDriver",
    "TestAggregator",
    "added_after_closing",
    "closed_window",
    "contents",
    "request_event",
]
