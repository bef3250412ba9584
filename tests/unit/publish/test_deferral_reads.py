"""Leases: spare running replicas, one room for all readers of a step, and nothing without what it would rest on."""

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from pipeline.publish.deferral import WaitingWork, pool_deferral_data
from sizing.types import RecommendationState
from tests.publish_feed import PER_REPLICA
from tests.publish_server import Server
from tests.waiting import scaled


@pytest.fixture
def view(feed):
    """The first pool with 12 ready replicas, all of them advised."""
    view = feed.live.snapshot().pools[0]
    advice = replace(view.recommendation, desired=12)
    return replace(view, recommendation=advice, window=replace(view.window, ready_replicas=12))


def test_spare_replicas_for_one_window_are_told(view):
    lease = pool_deferral_data(view)
    assert lease["held_because"] is None
    assert lease["spare_replicas"] == pytest.approx(12 - lease["urgent_replicas"])
    assert lease["may_start_requests"] == int(lease["spare_replicas"] * PER_REPLICA * 60 + 1e-9)
    assert lease["expires_at"] == view.recommendation.expires_at
    observed = replace(
        view.recommendation, evidence=view.recommendation.evidence | {"observed_requests_per_second": 33.0}
    )
    assert pool_deferral_data(replace(view, recommendation=observed))["urgent_replicas"] == pytest.approx(11.0)


def test_replicas_that_are_advised_away_are_not_given_to_work_that_waits(view):
    fewer = replace(view, recommendation=replace(view.recommendation, desired=1))
    assert pool_deferral_data(fewer)["may_start_requests"] == 0


def test_the_currency_that_binds_bounds_what_starts(view):
    evidence = dict(view.recommendation.evidence)
    need = evidence["replicas_needed_by_requests"]
    tokens = replace(view.recommendation, evidence=evidence | {"replicas_needed_by_kv_tokens": 2 * need})
    half = pool_deferral_data(replace(view, recommendation=tokens))
    assert half["urgent_replicas"] == pytest.approx(2 * pool_deferral_data(view)["urgent_replicas"])


def test_a_deadline_asks_for_capacity_and_what_is_due_is_released(view):
    room = pool_deferral_data(view)["may_start_requests"]
    small = pool_deferral_data(view, WaitingWork(3, 86_400))
    assert (small["may_start_requests"], small["due"], small["level_within_max_replicas"]) == (3, False, True)
    large = pool_deferral_data(view, WaitingWork(room * 100, 3600))
    assert large["may_start_requests"] == room
    assert large["level_replicas"] > 12
    huge = pool_deferral_data(view, WaitingWork(10**9, 3600))
    assert huge["level_within_max_replicas"] is False
    assert pool_deferral_data(view, WaitingWork(10**9, 30))["may_start_requests"] == 10**9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: {"recommendation": None}, "no valid advice"),
        (lambda v: {"recommendation": replace(v.recommendation, state=RecommendationState.HOLD)}, "hold, not fresh"),
        (lambda v: {"window": None}, "how many replicas run"),
        (lambda v: {"window": replace(v.window, ready_replicas=None, current_replicas=None)}, "how many replicas run"),
        (lambda v: {"recommendation": replace(v.recommendation, evidence={})}, "what a replica carries"),
        (lambda v: {"forecasts": ()}, "no valid forecast"),
    ],
)
def test_without_what_it_rests_on_nothing_starts_but_what_is_due(view, change, words):
    unknown = replace(view, **change(view))
    lease = pool_deferral_data(unknown, WaitingWork(1000, 7200))
    assert words in lease["held_because"]
    assert (lease["may_start_requests"], lease["spare_replicas"]) == (0, None)
    if unknown.recommendation is not None and unknown.window is not None:
        assert pool_deferral_data(unknown, WaitingWork(1000, 10))["may_start_requests"] == 1000


def test_every_reader_of_a_step_has_the_same_lease_and_it_expires(feed):
    with Server(feed) as server:

        def get(path):
            with urllib.request.urlopen(f"{server.url}/v1/deferral{path}", timeout=scaled(20)) as response:
                return json.load(response)

        first = get("?limit=2")
        assert first["truncated"]
        rest = get(f"?cursor={first['next_cursor']}")
        leases = first["leases"] + rest["leases"]
        assert len(leases) == 3
        feed.clock.advance(5)
        assert get("")["leases"] == leases
        one = get("/llama-3.1-8b-instruct/chat?requests=5&deadline_seconds=7200")
        assert one["lease_id"] == leases[1]["lease_id"]
        feed.step()
        assert get("")["leases"][1]["lease_id"] != one["lease_id"]
        feed.clock.advance(10_000)
        assert {lease["held_because"] for lease in get("")["leases"]} == {"there is no valid advice"}
        for path, status in (("/no/such", 404), ("/llama-3.1-8b-instruct/chat?requests=0", 400)):
            with pytest.raises(urllib.error.HTTPError, match=str(status)):
                get(path)
