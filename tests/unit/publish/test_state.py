from __future__ import annotations

import threading
from dataclasses import replace

from msgspec import structs

from pipeline.alerts.feedback import feedback_record
from pipeline.alerts.types import Alert, AlertKind
from pipeline.clock import ManualClock
from pipeline.engine.types import Reading, StepOutput
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.publish.health import PipelineHealth
from pipeline.publish.state import FORGET_SECONDS, MAX_ACTIVE_ALERTS, RECENT_ALERTS, LiveState
from pipeline.testing import closed_window


def _alert(
    number: int = 1, ended_at: float | None = None, kind: AlertKind = AlertKind.SPIKE_OBSERVED, pool: str = "p"
) -> Alert:
    return Alert(f"a{number}", kind, "m", pool, 100.0 + number, 100.0, ended_at, "warning", 2.0, None, "text")


def test_an_empty_state_knows_its_configured_pools_and_is_not_ready(feed):
    live = LiveState(ManualClock(10.0), feed.settings, "hash")
    snapshot = live.snapshot()
    assert [view.key.pool for view in snapshot.pools] == ["batch", "chat", "chat"]
    assert all(v.recommendation is v.expired is v.window is None and v.forecasts == () for v in snapshot.pools)
    assert snapshot.as_of is None
    assert live.health().ready is False
    assert live.pool("nobody", "knows") is None


def test_everything_of_the_newest_step_is_shown(feed):
    view = feed.live.pool("llama-3.1-8b-instruct", "chat")
    assert view.recommendation.issued_at == feed.as_of
    assert view.window.end == feed.as_of
    assert len(view.forecasts) == 4 * 5
    assert [f.horizon_seconds for f in view.forecasts[:5]] == [60, 300, 900, 1800, 3600]
    assert feed.live.as_of() == feed.as_of


def test_advice_expires_by_the_clock_alone(feed):
    key = ("llama-3.1-8b-instruct", "chat")
    expires_at = feed.live.pool(*key).recommendation.expires_at
    feed.clock.set(expires_at - 0.001)
    assert feed.live.pool(*key).recommendation is not None
    feed.clock.set(expires_at)
    view = feed.live.pool(*key)
    assert view.recommendation is None
    assert view.expired.expires_at == expires_at
    assert view.forecasts == ()
    assert view.window is None


def test_an_older_step_never_replaces_a_newer_one(feed):
    view = feed.live.pool("llama-3.1-8b-instruct", "chat")
    old = StepOutput(
        feed.as_of - 60,
        windows=(replace(view.window, start=view.window.start - 60, requests=1),),
        forecasts=(
            structs.replace(view.forecasts[0], issued_at=view.forecasts[0].issued_at - 60, quantiles=(9.0,) * 8),
        ),
        recommendations=(replace(view.recommendation, issued_at=view.recommendation.issued_at - 60, desired=63),),
    )
    feed.live.update(old)
    after = feed.live.pool("llama-3.1-8b-instruct", "chat")
    assert after.window == view.window
    assert after.forecasts == view.forecasts
    assert after.recommendation == view.recommendation
    assert feed.live.as_of() == feed.as_of


def test_alert_episodes_are_counted_once_and_move_to_the_ended_ones():
    live = LiveState(ManualClock(200.0))
    live.update(StepOutput(100, alerts=(_alert(),)))
    live.update(StepOutput(160, alerts=(replace(_alert(), severity="critical"),)))
    assert [a.severity for a in live.snapshot().alerts] == ["critical"]
    live.update(StepOutput(220, alerts=(_alert(ended_at=220.0),)))
    live.update(StepOutput(220, alerts=(_alert(ended_at=220.0),)))
    snapshot = live.snapshot()
    assert [a.ended_at for a in snapshot.alerts] == [220.0]
    assert snapshot.counters.alerts == {("m", "p", "spike_observed"): 1}


def test_alerts_are_bounded():
    live = LiveState(ManualClock(0.0))
    live.update(StepOutput(1, alerts=tuple(_alert(n, ended_at=5.0) for n in range(RECENT_ALERTS + 50))))
    live.update(StepOutput(1, alerts=tuple(_alert(10_000 + n) for n in range(MAX_ACTIVE_ALERTS + 5))))
    alerts = live.snapshot().alerts
    assert sum(a.ended_at is not None for a in alerts) == RECENT_ALERTS
    assert sum(a.ended_at is None for a in alerts) == MAX_ACTIVE_ALERTS


def test_a_pool_without_settings_that_went_away_is_forgotten_with_its_counters(feed):
    live = feed.live
    for name in ("gone", "stays"):
        alert = replace(_alert(), alert_id=name, pool=name)
        window = closed_window(feed.as_of - 60, 7, model="m", pool=name)
        live.update(StepOutput(feed.as_of, windows=(window,), alerts=(alert,)))
    end = feed.as_of + FORGET_SECONDS
    live.update(StepOutput(end - 60, windows=(closed_window(end - 120, 1, model="m", pool="stays"),)))
    assert live.pool("m", "gone") is not None
    live.update(StepOutput(end))
    assert live.pool("m", "gone") is None
    assert live.pool("m", "stays") is not None
    assert live.pool("llama-3.1-8b-instruct", "chat") is not None, "it has settings"
    counters = live.snapshot().counters
    assert counters.requests["m", "stays", "ok"] == 8
    told = [*counters.requests, *counters.tokens, *counters.alerts, *counters.unnamed_values]
    assert not [labels for labels in told if labels[1] == "gone"]
    assert [alert.pool for alert in live.snapshot().alerts if alert.model == "m"] == ["stays"]


def test_changes_of_the_advice_are_counted_by_generation(feed):
    before = feed.live.snapshot().counters.recommendation_changes
    advice = feed.live.pool("llama-3.1-8b-instruct", "batch").recommendation
    feed.live.update(StepOutput(feed.as_of, recommendations=(replace(advice, issued_at=advice.issued_at + 1),)))
    assert feed.live.snapshot().counters.recommendation_changes == before
    changed = replace(advice, issued_at=advice.issued_at + 2, generation=advice.generation + 1)
    feed.live.update(StepOutput(feed.as_of, recommendations=(changed,)))
    after = feed.live.snapshot().counters.recommendation_changes
    assert sum(after.values()) == sum(before.values()) + 1


def test_counters_follow_the_windows_and_leave_gaps_out():
    from tests.publish_feed import Feed

    feed = Feed()
    feed.step(3)
    counters = feed.live.snapshot().counters
    assert sum(counters.requests.values()) == feed.requests
    assert sum(counters.tokens.values()) == feed.requests * (900 + 240)
    window = feed.live.pool("llama-3.1-8b-instruct", "chat").window
    feed.live.update(StepOutput(feed.as_of + 60, windows=(replace(window, start=feed.as_of, gap=True),)))
    assert sum(feed.live.snapshot().counters.requests.values()) == feed.requests


def test_health_sums_its_dead_letters():
    assert PipelineHealth(dead_letters={"malformed": 2, "negative": 3}).dead_letters_total == 5


def test_readers_and_a_writer_share_it_without_torn_snapshots(feed):
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            views = [v for v in feed.live.snapshot().pools if v.recommendation and v.window]
            wrong.extend(v.key for v in views if v.recommendation.issued_at != v.window.end)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    feed.step(30)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []


def test_marks_of_alerts_are_no_announced_events() -> None:
    live = LiveState(ManualClock(0.0))
    launch = CalendarRecord("launch", "launch", 100.0, 200.0)
    live.set_calendar([feedback_record("spike_observed|m|p|60", "false", 120.0), launch])
    assert live.calendar("m", "p") == [launch]


def test_a_pool_is_looked_at_once_for_each_change_of_it(feed):
    live = feed.live
    model, pool = feed.settings[0].model, feed.settings[0].pool
    seen = live.pool(model, pool)
    feed.clock.advance(1)
    assert live.pool(model, pool) is seen
    assert seen in live.snapshot().pools
    feed.step()
    stepped = live.pool(model, pool)
    assert stepped != seen
    feed.clock.set(stepped.valid_until)
    assert live.pool(model, pool) != stepped
    feed.clock.set(feed.as_of + 65.0)  # set back: what had expired is there again
    assert live.pool(model, pool) == stepped


def test_an_alert_that_is_given_up_is_not_shown_any_more():
    live = LiveState(ManualClock(0.0))
    live.update(StepOutput(60, windows=(closed_window(0, 5, model="m", pool="p"),)))
    live.update(StepOutput(60, alerts=(_alert(0),)))
    assert len(live.pool("m", "p").alerts) == 1
    live.update(StepOutput(60, alerts=tuple(_alert(n, pool="q") for n in range(1, MAX_ACTIVE_ALERTS + 1))))
    assert live.pool("m", "p").alerts == ()


def test_a_revision_changes_advice_and_nothing_else(feed):
    before = feed.live.pool("llama-3.1-8b-instruct", "batch")
    steps = feed.live.counters().steps
    at = feed.as_of + 15
    raised = replace(before.recommendation, issued_at=float(at), desired=before.recommendation.desired + 2)
    reading = Reading(before.key, None, 1, 1)
    feed.live.update(StepOutput(at, recommendations=(raised,), readings=(reading,)))
    after = feed.live.pool("llama-3.1-8b-instruct", "batch")
    assert (after.recommendation, after.window, after.forecasts) == (raised, before.window, before.forecasts)
    assert (feed.live.as_of(), feed.live.advised_at(), feed.live.snapshot().advised_at) == (feed.as_of, at, at)
    counters = feed.live.counters()
    assert counters.steps == steps
    assert {key: count for key, count in counters.revisions.items() if count} == {tuple(before.key): 1}
    feed.step()
    assert feed.live.advised_at() == feed.live.as_of() == feed.as_of


def test_a_step_that_is_shown_again_tells_when_its_newest_advice_was_made(feed):
    live = LiveState(feed.clock, feed.settings, "hash")
    advice = feed.live.pool("llama-3.1-8b-instruct", "batch").recommendation
    live.restore(StepOutput(feed.as_of, recommendations=(replace(advice, issued_at=feed.as_of + 30.0),)))
    assert (live.as_of(), live.advised_at()) == (feed.as_of, feed.as_of + 30)
    assert live.counters().revisions == {}


def test_what_comes_of_pools_in_any_order_is_shown_of_each(feed) -> None:
    """Series of a pool come one after another; where they do not, none is lost or shown of another pool."""
    before = feed.live.snapshot().pools
    later = feed.as_of + 60
    mixed = [f for row in zip(*(view.forecasts for view in before), strict=True) for f in row]
    scores = [s for row in zip(*(view.scores for view in before), strict=True) for s in row]
    output = StepOutput(
        later,
        forecasts=tuple(structs.replace(f, issued_at=float(later)) for f in mixed),
        scores=tuple(scores),
    )

    feed.live.update(output)

    for view in before:
        shown = feed.live.pool(*view.key)
        assert [(f.series, f.horizon_seconds) for f in shown.forecasts] == [
            (f.series, f.horizon_seconds) for f in view.forecasts
        ]
        assert {f.issued_at for f in shown.forecasts} == {float(later)}
        assert shown.scores == view.scores
