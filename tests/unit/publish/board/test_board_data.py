"""What the board asks for: bounded, from memory, hostile names and all; and the stream of the status."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.settings import PoolSettings
from pipeline.engine.types import Reading, StepOutput
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from pipeline.publish.board import stream
from pipeline.publish.board.overview import Overview
from tests.board_fleet import Fleet
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled, wait_until

CHAT = "llama-3.1-8b-instruct/chat"


@pytest.fixture
def server(feed: Feed) -> Iterator[Server]:
    with Server(feed) as server:
        yield server


def _get(server: Server, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(server.url + path, timeout=scaled(20)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_overview_says_of_each_pool_what_the_live_state_knows(server: Server, feed: Feed) -> None:
    status, told = _get(server, "/board/overview?span=24h")
    assert status == 200
    assert (told["as_of"], told["span"], told["stock_shared"]) == (feed.as_of, "24h", False)
    assert [(row["model"], row["pool"]) for row in told["pools"]] == [view.key for view in feed.live.snapshot().pools]
    for row in told["pools"]:
        advice = feed.live.pool(row["model"], row["pool"]).recommendation  # type: ignore[union-attr]
        assert advice is not None
        assert (row["current"], row["desired"], row["state"]) == (advice.current, advice.desired, "fresh")
        assert row["slo_attainment_ratio"]["1h"] == 0.97
        assert row["demand"]["step_seconds"] == 900
        assert row["demand"]["requests_per_second"][-1] > 0
        assert [at for at, _, _ in row["forecast"]] == [feed.as_of + s for s in (60, 300, 900, 1800, 3600)]
        assert row["capacity_requests_per_second"] == pytest.approx(3.0 * advice.current, rel=1e-3)  # type: ignore[operator]


def test_pools_whose_demand_is_from_a_bridge_alone_are_marked(server: Server, feed: Feed) -> None:
    first, second, third = feed.settings
    feed.tell_bridged(first, second)
    notes = dict(feed.live.health().event_notes) | {"bridge_ignored": {f"{second.model}|{second.pool}": 1}}
    feed.live.set_health(replace(feed.live.health(), event_notes=notes))  # the second has events meanwhile
    _, told = _get(server, "/board/overview")
    assert {(row["model"], row["pool"]) for row in told["pools"] if row["bridged"]} == {(first.model, first.pool)}
    for pool in (first, second, third):
        _, page = _get(server, f"/board/pools/{pool.model}/{pool.pool}")
        assert page["row"]["bridged"] is (pool is first)


def test_expired_advice_leaves_nothing_to_follow(server: Server, feed: Feed) -> None:
    feed.clock.advance(400)
    _, told = _get(server, "/board/overview")
    for row in told["pools"]:
        assert row["state"] == "expired"
        assert row["desired"] is row["headroom"] is row["run_out"] is None
        assert row["expires_at"] is not None


@pytest.mark.slow
def test_200_pools_fit_into_one_bounded_answer_made_at_most_twice_a_second() -> None:
    fleet, elapsed = Fleet(200, past_hours=24), [0.0]
    fleet.step()
    overview = Overview(fleet.live, lambda: elapsed[0])
    first = overview.render("24h")
    assert len(json.loads(first)["pools"]) == 200
    assert len(first) < 200 * 3_000, "bytes"
    fleet.clock.advance(5)
    assert overview.render("24h") is first, "however many ask"
    elapsed[0] = 0.6
    assert overview.render("24h") is not first
    second = overview.render("24h")
    fleet.step()
    assert overview.render("24h") is not second, "a new step is shown at once"


def revise(feed: Feed) -> StepOutput:
    """Raise the advice of a pool by two replicas, 15 seconds after the newest step."""
    view = feed.live.pool(*CHAT.split("/"))
    assert view is not None
    assert view.recommendation is not None
    advice = replace(view.recommendation, issued_at=feed.as_of + 15.0, desired=view.recommendation.desired + 2)
    output = StepOutput(feed.as_of + 15, recommendations=(advice,), readings=(Reading(view.key, None, 1, 1),))
    feed.live.update(output)
    return output


def test_advice_that_was_raised_between_two_windows_is_shown_at_once(server: Server, feed: Feed) -> None:
    overview = Overview(feed.live, lambda: 0.0)
    before = json.loads(overview.render("24h"))
    (raised,) = revise(feed).recommendations
    told = json.loads(overview.render("24h"))
    assert (told["as_of"], told["advised_at"]) == (before["as_of"], before["advised_at"] + 15)
    (row,) = [row for row in told["pools"] if (row["model"], row["pool"]) == (raised.model, raised.pool)]
    assert (row["desired"], row["issued_at"]) == (raised.desired, raised.issued_at)
    status = _get(server, "/v1/status")[1]
    assert (status["as_of"], status["advised_at"]) == (feed.as_of, feed.as_of + 15)


def test_a_pool_and_what_was_forecast_for_it(server: Server, feed: Feed) -> None:
    at = float(feed.as_of)
    feed.live.set_calendar([
        CalendarRecord("later", "launch", at + 3_600, at + 7_200, scope=Scope(None, "chat"), note="<b>new</b>"),
        CalendarRecord("sooner", "holiday", at, at + 60),
        CalendarRecord("of another", "holiday", at, at + 60, scope=Scope(None, "batch")),
        CalendarRecord("too far", "holiday", at + 20 * 86_400, at + 21 * 86_400),
    ])  # fmt: skip
    status, told = _get(server, f"/board/pools/{CHAT}")
    assert [event["id"] for event in told["calendar"]] == ["sooner", "later"]
    assert status == 200
    view = feed.live.pool(*CHAT.split("/"))
    assert view is not None
    assert view.recommendation is not None
    assert told["recommendation"]["generation"] == view.recommendation.generation
    assert len(told["forecasts"]) == len(view.forecasts)
    assert told["slo"] == {"ttft_seconds": 1.0, "tpot_seconds": 0.05}
    assert {card["span"] for card in told["scorecards"]} == {"1d", "7d", "30d"}
    _, past = _get(server, f"/board/pools/{CHAT}/past-forecasts?horizon_seconds=300")
    assert [row[0] for row in past["forecasts"]] == [feed.start + 60 * n + 300 for n in range(1, 16)]
    assert all(low <= median <= high for _, low, median, high in past["forecasts"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/board/overview?span=1y", 400),
        (f"/board/pools/{CHAT}/past-forecasts?horizon_seconds=-1", 400),
        (f"/board/pools/{CHAT}/past-forecasts?horizon_seconds=9999999", 400),
        (f"/board/pools/{CHAT}/past-forecasts?signal=none", 400),
        ("/board/pools/no/such", 404),
        ("/static/..%2Foverview.py", 404),
        ("/static/overview.py", 404),
    ],
)
def test_what_is_refused_is_a_problem_document(server: Server, path: str, status: int) -> None:
    found, problem = _get(server, path)
    assert (found, problem["status"]) == (status, status)


def test_a_slash_in_a_name_is_part_of_it() -> None:
    feed = Feed(
        (PoolSettings(model="meta-llama/L", pool="past-forecasts", profile="llama-3.1-8b", accelerator="L40S"),)
    )
    feed.step()
    with Server(feed) as server:
        assert _get(server, "/board/pools/meta-llama%2FL/past-forecasts")[1]["row"]["model"] == "meta-llama/L"


def _listen(server: Server) -> tuple[socket.socket, Any]:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=scaled(20))
    connection.sendall(b"GET /board/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection, connection.makefile("rb")


def _statuses(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_the_stream_tells_the_status_at_once_after_a_step_and_ends_with_the_server(server: Server, feed: Feed) -> None:
    connection, lines = _listen(server)
    with connection:
        head = b"".join(iter(lines.readline, b"\r\n"))
        assert b"text/event-stream" in head
        assert b"Content-Security-Policy" in head
        statuses = _statuses(lines)
        assert next(statuses)["as_of"] == feed.as_of
        feed.step()
        assert any(status["as_of"] == feed.as_of for status in statuses)
        server.stop()
        assert [status for status in statuses if status["as_of"] != feed.as_of] == [], "it ends"


def test_the_stream_tells_the_status_at_once_after_a_revision(
    server: Server, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STATUS_SECONDS", 1e9)
    connection, lines = _listen(server)
    with connection:
        statuses = _statuses(lines)
        while next(statuses)["advised_at"] != feed.as_of:
            pass
        revise(feed)
        assert any(status["advised_at"] == feed.as_of + 15 for status in statuses)
        server.stop()


def test_listeners_are_bounded_and_a_gone_one_makes_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_LISTENERS", 1)
    connection, lines = _listen(server)
    assert b"200" in lines.readline()
    status, problem = _get(server, "/board/stream")
    assert (status, problem["detail"]) == (503, "1 boards listen already")
    lines.close()
    connection.close()

    def heard() -> bool:
        again, lines = _listen(server)
        with again:
            return b"200" in lines.readline()

    wait_until(heard, 20.0, "the place of the listener that went is free")
