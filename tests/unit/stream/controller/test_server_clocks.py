from __future__ import annotations

from pipeline.stream.controller.server_clocks import MAX_NAMED_SERVERS, NAMED_SECONDS, ServerClocks


def test_the_newest_offset_of_a_server_stands_until_it_is_named_no_more() -> None:
    clocks = ServerClocks()
    clocks.note({"a": 55.0, "b": -20.0}, 1_000.0)
    clocks.note({"a": 54.0}, 1_100.0)
    assert clocks.offsets(1_100.0) == {"a": 54.0, "b": -20.0}
    assert clocks.offsets(1_001.0 + NAMED_SECONDS) == {"a": 54.0}
    assert clocks.offsets(1_101.0 + NAMED_SECONDS) == {}


def test_of_many_servers_the_furthest_are_named() -> None:
    clocks = ServerClocks()
    for i in range(10 * MAX_NAMED_SERVERS):
        clocks.note({f"s{i:04d}": float(-i)}, 1_000.0)
    named = clocks.offsets(1_000.0)
    assert len(named) == MAX_NAMED_SERVERS
    assert min(named.values()) == 1.0 - 10 * MAX_NAMED_SERVERS
    assert max(named.values()) == -9.0 * MAX_NAMED_SERVERS
