"""For tests of Tokentide and of programs around it: events, an oracle that counts them, and a pipeline without Kafka.

Nothing here is used by the pipeline itself.
"""

from pipeline.testing.alert_rules import check_alert_rule, raised_alerts
from pipeline.testing.codecs import check_codec
from pipeline.testing.decision_rules import check_decision_rule
from pipeline.testing.driver import MemoryLog, PipelineTestDriver, TestAggregator
from pipeline.testing.fleets import RecordedReports, check_fleet
from pipeline.testing.memory_store import MemoryStore
from pipeline.testing.oracle import Contents, Oracle, added_after_closing, contents, request_event
from pipeline.testing.sinks import check_sink
from pipeline.testing.windows import closed_window

__all__ = [
    "Contents",
    "MemoryLog",
    "MemoryStore",
    "Oracle",
    "PipelineTestDriver",
    "RecordedReports",
    "TestAggregator",
    "added_after_closing",
    "check_alert_rule",
    "check_codec",
    "check_decision_rule",
    "check_fleet",
    "check_sink",
    "closed_window",
    "contents",
    "raised_alerts",
    "request_event",
]
