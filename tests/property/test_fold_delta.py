"""Whatever events are accepted, the delta that they are folded into is one that readers accept."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.events.validation import EventLimits
from pipeline.windows.delta import decode, encode
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import split

NOW = 1_767_225_600.0
DIMENSIONS = ("tenant", "region")

#: Most of them are not printable, or are marks of the notation of keys.
ODD = st.text(st.sampled_from("|=%\n\x00\U0010ffff\ue000é€a"), max_size=8) | st.builds(
    str.__mul__, st.sampled_from(["\U0010ffff", "|", "€", "a"]), st.sampled_from([255, 256])
)
NAME = st.sampled_from(["m", "€" * 256, "🜂" * 256, "a|b=c%"])
#: Near the epoch, on the edges of windows, and beyond what is accepted.
TIME = st.sampled_from([0.0, -0.0, -5.0, -1e-300, 1e-300, 5.0, 9.999_999_999_999_999, 10.0, 86_400.0]) | st.floats(
    -100, 700_000
)
SECONDS = st.sampled_from([0.0, 5e-324, 1e-9, 86_400.0]) | st.floats(0, 86_400)
COUNT = st.sampled_from([0, 1, 10_000_000]) | st.integers(0, 10_000_000)
EVENT = st.fixed_dictionaries(
    {
        "event_id": st.text("ab€", min_size=1, max_size=4),
        "model": NAME,
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "status": st.sampled_from(["ok", "error", "odd"]),
    },
    optional={
        "pool": NAME,
        "arrived_at": TIME,
        "completed_at": TIME,
        "e2e_seconds": SECONDS,
        "ttft_seconds": SECONDS,
        "queue_seconds": SECONDS,
        "tpot_seconds": SECONDS,
        "cached_input_tokens": COUNT,
        "reasoning_output_tokens": COUNT,
        "preemptions": COUNT,
        "tenant": ODD,
        "region": ODD,
    },
)
TENANT = "\U0010ffff" * 256
BASE = {"event_id": "a", "model": "m", "input_tokens": 1, "output_tokens": 1, "status": "ok"}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(EVENT, st.sampled_from([0, 1, 5_000, 100_000_000, -1])), min_size=1, max_size=12))
@example([(BASE | {"arrived_at": -5.0, "completed_at": 0.0}, 0)])
@example([(BASE | {"arrived_at": 0.0, "e2e_seconds": 1.0, "tenant": TENANT, "region": TENANT}, 0)])
def test_readers_accept_what_is_folded(records: list[tuple[dict[str, object], int]]) -> None:
    aggregator = PartitionAggregator("t", 0, "p", EventLimits(), 100, DIMENSIONS)
    values = [msgspec.json.encode(event) for event, _ in records]
    n = len(values)
    delta, refused = aggregator.fold(values, range(n), [stamp for _, stamp in records], 0, n, NOW)
    assert delta is not None
    assert delta.events + delta.duplicates + len(refused) == n
    for part in (delta, *split(delta, 3)):
        assert decode(encode(part)) == part
