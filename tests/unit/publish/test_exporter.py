from __future__ import annotations

import gzip
import queue
import threading
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.alerts.types import Alert, AlertKind
from pipeline.clock import ManualClock
from pipeline.engine.types import StepOutput, TenantDemand
from pipeline.events.request_event import RejectReason
from pipeline.publish.api import status_data
from pipeline.publish.exporter import Exporter
from pipeline.publish.health import PipelineHealth
from pipeline.publish.http.gzip_pieces import piece
from pipeline.publish.metric_catalogue import METRICS
from pipeline.publish.state import LiveState
from tests.waiting import scaled

CHAT = {"model": "llama-3.1-8b-instruct", "pool": "chat"}


def _samples(live: LiveState) -> dict[tuple[str, frozenset], float]:
    families = text_string_to_metric_families(Exporter(live).render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def _value(samples: dict, name: str, **labels: str) -> float | None:
    return samples.get((f"tokentide_{name}", frozenset(labels.items())))


def test_advice_and_demand_are_exposed(feed):
    samples = _samples(feed.live)
    view = feed.live.pool(*CHAT.values())
    assert _value(samples, "recommended_replicas", **CHAT) == view.recommendation.desired
    assert _value(samples, "recommended_replicas_upper", **CHAT) == view.recommendation.upper
    assert _value(samples, "recommended_accelerators", **CHAT, accelerator="L40S") == view.recommendation.desired
    assert _value(samples, "current_replicas", **CHAT) == view.window.current_replicas
    assert _value(samples, "capacity_requests_per_second", **CHAT) == 3.0 * view.recommendation.current
    assert _value(samples, "demand_completeness_ratio", **CHAT) == 0.98
    assert _value(samples, "recommendation_state", **CHAT, state="fresh") == 1
    assert _value(samples, "recommendation_state", **CHAT, state="hold") == 0
    assert _value(samples, "events_rejected_total", reason="malformed") == 7
    assert _value(samples, "watermark_lag_seconds") == 65


def test_forecast_bands_are_the_quantiles(feed):
    samples = _samples(feed.live)
    (forecast,) = (
        f
        for f in feed.live.pool(*CHAT.values()).forecasts
        if f.series.signal == "decode_tokens_per_second" and f.horizon_seconds == 900
    )
    at = {**CHAT, "horizon_seconds": "900", "token_type": "output"}
    assert _value(samples, "forecast_tokens_per_second", **at, band="p50") == forecast.quantiles[3]
    assert _value(samples, "forecast_tokens_per_second", **at, band="p90") == forecast.quantiles[5]


def test_expired_advice_and_stale_forecasts_disappear_but_the_pool_stays(feed):
    feed.clock.advance(400)
    names = {name for name, _ in _samples(feed.live)}
    assert not {n for n in names if n.startswith(("tokentide_recommended", "tokentide_forecast", "tokentide_demand"))}
    assert "tokentide_pool_info" in names
    assert "tokentide_watermark_lag_seconds" in names
    assert "tokentide_requests_total" in names


def test_before_the_first_step_unknown_is_absent_not_zero():
    names = {name for name, _ in _samples(LiveState(ManualClock(5.0)))}
    assert "tokentide_watermark_timestamp_seconds" not in names
    assert "tokentide_ready" in names


LOSSES = {
    *(("events_rejected_total", frozenset({("reason", reason.value)})) for reason in RejectReason),
    *(("event_parts_rejected_total", frozenset({("reason", reason.value)})) for reason in RejectReason),
    *(
        (name, frozenset())
        for name in (
            *("events_duplicate_total", "events_late_total", "events_lost_total", "events_ignored_total"),
            *("event_parts_ignored_total", "event_ids_reused_total", "events_accepted_total", "events_consumed_total"),
        )
    ),
}
SINCE_THE_START = {
    "events_unknown_model_total",
    "delta_gaps_total",
    "sink_dropped_total",
    "fleet_reports_rejected_total",
}


def test_every_reason_of_loss_begins_at_0_once_the_ledger_is_known():
    """A 0 before the totals of an old store would look like an increase by all of them."""
    live = LiveState(ManualClock(5.0))
    before = {name.removeprefix("tokentide_"): value for (name, _), value in _samples(live).items()}
    assert {before[name] for name in SINCE_THE_START} == {0.0}
    assert not {name for name, _ in LOSSES} & before.keys()
    live.set_health(replace(live.health(), ready=False, detail="no assignment"))
    assert not {f"tokentide_{name}" for name, _ in LOSSES} & {name for name, _ in _samples(live)}
    live.set_health(PipelineHealth())
    samples = _samples(live)
    assert {samples.get((f"tokentide_{name}", labels)) for name, labels in LOSSES} == {0.0}


def test_alerts_of_every_kind_show_while_they_last_and_are_counted(feed):
    alert = Alert("y", "requests_refused", *CHAT.values(), 1.0, 1.0, None, "warning", 0.4, None, "")
    feed.live.update(StepOutput(feed.as_of, alerts=(alert,)))
    samples = _samples(feed.live)
    assert _value(samples, "alert_active", **CHAT, kind="requests_refused") == 1
    assert _value(samples, "alerts_total", **CHAT, kind="requests_refused") == 1
    assert _value(samples, "spikes_total", **CHAT, kind="requests_refused") is None
    assert _value(samples, "alert_rule_errors_total", rule="telemetry_gap") == 0
    feed.live.set_health(replace(feed.live.health(), alert_rule_errors={"telemetry_gap": 3}))
    feed.live.update(StepOutput(feed.as_of, alerts=(replace(alert, ended_at=2.0),)))
    samples = _samples(feed.live)
    assert _value(samples, "alert_active", **CHAT, kind="requests_refused") is None
    assert _value(samples, "alert_rule_errors_total", rule="telemetry_gap") == 3


def test_only_servers_that_are_off_are_named(feed):
    assert not [name for name, _ in _samples(feed.live) if name == "tokentide_server_clock_offset_seconds"]
    offsets = {'gpu-7"\n': 55.1, "gpu-8": -20.0}
    feed.live.set_health(replace(feed.live.health(), server_clock_offsets=offsets))
    samples = _samples(feed.live)
    for server, offset in offsets.items():
        assert _value(samples, "server_clock_offset_seconds", server=server) == offset
    told = status_data(feed.live.snapshot())["server_clock_offsets"]
    assert {named["server"]: named["offset_seconds"] for named in told} == offsets


def test_a_gap_has_no_demand(feed):
    window = feed.live.pool(*CHAT.values()).window
    feed.live.update(StepOutput(feed.as_of + 60, windows=(replace(window, start=feed.as_of, gap=True),)))
    samples = _samples(feed.live)
    assert _value(samples, "telemetry_gap", **CHAT) == 1
    assert _value(samples, "demand_requests_per_second", **CHAT) is None


def test_tenants_that_went_away_leave_nothing_behind(feed):
    exporter, view = Exporter(feed.live), feed.live.pool(*CHAT.values())
    for number in range(60):
        tenants = tuple(TenantDemand(*CHAT.values(), f"t{number}-{i}", 1.0, 0.1, ()) for i in range(20))
        feed.live.update(StepOutput(feed.as_of, windows=(view.window,), tenants=tenants))
        lines = len(exporter.render().splitlines())
        assert len(exporter._writer) <= 2 * lines, number
    assert 'tenant="t59-19"' in exporter.render().decode()


def test_spikes_show_while_they_last(feed):
    assert _value(_samples(feed.live), "spike_active", **CHAT, kind="observed") == 0
    alert = Alert("x", AlertKind.SPIKE_OBSERVED, *CHAT.values(), 1.0, 1.0, None, "critical", 2.5, None, "")
    feed.live.update(StepOutput(feed.as_of, alerts=(alert,)))
    samples = _samples(feed.live)
    assert _value(samples, "spike_active", **CHAT, kind="observed") == 1
    assert _value(samples, "spike_ratio", **CHAT, kind="observed") == 2.5
    assert _value(samples, "spikes_total", **CHAT, kind="observed") == 1
    feed.live.update(StepOutput(feed.as_of, alerts=(replace(alert, ended_at=2.0),)))
    samples = _samples(feed.live)
    assert _value(samples, "spike_active", **CHAT, kind="observed") == 0
    assert _value(samples, "spike_ratio", **CHAT, kind="observed") is None


def test_a_spike_that_was_warned_of_and_is_held_pages_nobody(feed):
    alert = Alert("x", AlertKind.SPIKE_OBSERVED, *CHAT.values(), 1.0, 1.0, None, "info", 2.5, None, "")
    feed.live.update(StepOutput(feed.as_of, alerts=(alert,)))
    samples = _samples(feed.live)
    assert _value(samples, "spike_active", **CHAT, kind="observed") == 0
    assert _value(samples, "spike_active", **CHAT, kind="foreseen") == 1
    assert _value(samples, "spike_ratio", **CHAT, kind="foreseen") == 2.5


@pytest.mark.parametrize(("severity", "label"), [("info", "rise"), ("warning", "forecast"), ("critical", "forecast")])
def test_a_forecast_spike_that_the_replicas_hold_is_a_rise_and_pages_nobody(feed, severity, label):
    for told in feed.episodes.values():  # the feed's own
        feed.live.update(StepOutput(feed.as_of, alerts=(replace(told, ended_at=float(feed.as_of)),)))
    alert = Alert("x", AlertKind.SPIKE_FORECAST, *CHAT.values(), 1.0, 1.0, None, severity, 0.4, 0.0, "")
    feed.live.update(StepOutput(feed.as_of + 60, alerts=(alert,)))
    samples = _samples(feed.live)
    for kind in ("rise", "forecast"):
        assert _value(samples, "spike_active", **CHAT, kind=kind) == (kind == label)
    assert _value(samples, "spike_ratio", **CHAT, kind=label) == 0.4
    assert _value(samples, "spikes_total", **CHAT, kind="forecast") == 1


def test_hostile_values_never_break_the_exposition(feed):
    view = feed.live.pool(*CHAT.values())
    name = 'a"b\n\\c\ud800{}'
    feed.live.update(
        StepOutput(
            feed.as_of,
            windows=(replace(view.window, model=name, completeness=float("nan")),),
            recommendations=(replace(view.recommendation, model=name, confidence_ratio=float("inf")),),
        )
    )
    samples = _samples(feed.live)
    labels = {"model": 'a"b\n\\c?{}', "pool": "chat"}
    assert _value(samples, "recommended_replicas", **labels) is not None
    assert _value(samples, "recommendation_confidence_ratio", **labels) is None


def test_two_exporters_of_one_state_say_the_same(feed):
    assert Exporter(feed.live).render() == Exporter(feed.live).render()


def test_the_text_is_what_prometheus_client_would_read_and_write(feed):
    exposition = Exporter(feed.live).render().decode()
    families = list(text_string_to_metric_families(exposition))
    assert {f.name if f.type != "counter" else f"{f.name}_total" for f in families} <= METRICS.keys()
    assert all(METRICS[s.name].help == f.documentation for f in families for s in f.samples)
    assert exposition.endswith("\n")
    assert "\n\n" not in exposition
    assert len(exposition.splitlines()) == sum(len(f.samples) + 2 for f in families)


def test_numbers_of_any_kind_are_written_as_prometheus_reads_them(feed):
    window = replace(feed.live.pool(*CHAT.values()).window, model="n", completeness=np.float64(0.25), requests=10**25)
    feed.live.update(StepOutput(feed.as_of, windows=(window,)))
    samples = _samples(feed.live)
    assert _value(samples, "demand_completeness_ratio", model="n", pool="chat") == 0.25
    assert _value(samples, "requests_total", model="n", pool="chat", status="other") == pytest.approx(1e25)


def test_what_is_kept_from_step_to_step_says_what_a_new_exporter_says(feed):
    """After steps, parts of steps, pools that come and go, alerts, and time that passes without a step."""
    exporter = Exporter(feed.live)
    view = feed.live.pool(*CHAT.values())
    alert = Alert("x", AlertKind.SPIKE_OBSERVED, *CHAT.values(), 1.0, 1.0, None, "critical", 2.5, None, "")
    for change in (
        feed.step,
        lambda: feed.live.update(StepOutput(feed.as_of, windows=(replace(view.window, pool="new"),)), finished=False),
        lambda: feed.live.update(StepOutput(feed.as_of, alerts=(alert,))),
        lambda: feed.live.update(StepOutput(feed.as_of, alerts=(replace(alert, ended_at=2.0),))),
        lambda: feed.clock.advance(150),
        lambda: feed.clock.advance(100),
        lambda: feed.clock.advance(60),
        lambda: feed.step(6),
        lambda: feed.live.set_health(replace(feed.live.health(), records=123_456)),
        lambda: feed.live.update(StepOutput(feed.as_of + 2 * 86_400)),
        lambda: feed.clock.advance(1e6),
    ):
        change()
        assert exporter.render() == Exporter(feed.live).render()
    assert 'pool="new"' not in exporter.render().decode()


def test_advice_disappears_at_the_second_at_which_it_expires(feed):
    exporter = Exporter(feed.live)
    exporter.prepare()
    expires_at = feed.live.pool(*CHAT.values()).recommendation.expires_at
    feed.clock.advance(expires_at - feed.clock.now() - 1)
    assert b"tokentide_recommended_replicas{" in exporter.render()
    feed.clock.advance(1)
    assert b"tokentide_recommended_replicas{" not in exporter.render()


def test_a_scrape_between_steps_writes_no_pool_anew(feed, monkeypatch):
    exporter = Exporter(feed.live)
    exporter.prepare()
    monkeypatch.setattr("pipeline.publish.exporter._pool", None)
    assert b"tokentide_recommended_replicas{" in exporter.render()


def test_a_scrape_beside_one_that_writes_gets_what_was_there_unless_that_has_expired(feed):
    exporter = Exporter(feed.live)
    before = exporter.render()
    feed.step()
    answers: queue.Queue[bytes] = queue.Queue()
    with exporter._lock:  # a part of a step is being written
        beside = exporter.render()
        feed.clock.advance(400)
        waiting = threading.Thread(target=lambda: answers.put(exporter.render()))
        waiting.start()
        with pytest.raises(queue.Empty):
            answers.get(timeout=0.05)
    assert _advised(beside) == _advised(before) > 0
    assert _advised(answers.get(timeout=scaled(30))) == 0
    waiting.join()


def _advised(text: bytes) -> int:
    return text.count(b"\ntokentide_recommended_replicas{")


def test_lines_that_are_kept_and_lines_that_are_made_at_a_scrape_are_the_same(feed, monkeypatch):
    live = feed.live
    kept = Exporter(live)
    kept.prepare()
    monkeypatch.setattr("pipeline.publish.exporter._MOST_KEPT_LINES", 0)
    made = Exporter(live)
    made.prepare()
    monkeypatch.setattr("pipeline.publish.exporter.lines_of", lines_are_there)
    text = kept.render()
    monkeypatch.undo()
    assert made.render() == text


def test_the_text_in_gzip_is_the_text_whatever_happens_between_scrapes(feed):
    exporter = Exporter(feed.live)
    for happens in (
        lambda: None,
        lambda: feed.clock.advance(3),
        feed.step,
        lambda: feed.live.set_health(replace(feed.live.health(), watermark=None, lag_records={("t", 0): 7})),
        lambda: feed.clock.advance(400),
        feed.step,
    ):
        happens()
        assert gzip.decompress(exporter.render_packed()) == exporter.render() == Exporter(feed.live).render()


def test_between_steps_only_what_the_process_says_is_compressed_again(feed, monkeypatch):
    exporter = Exporter(feed.live)
    exporter.render_packed()
    packed = []
    monkeypatch.setattr("pipeline.publish.packed_text.piece", lambda body: packed.append(body) or piece(body))
    monkeypatch.setattr("pipeline.publish.exporter.lines_of", lines_are_there)
    feed.clock.advance(3)
    exporter.render_packed()
    assert b"tokentide_clock_timestamp_seconds" in b"".join(packed)
    assert b"tokentide_recommended_replicas" not in b"".join(packed)


def test_a_text_that_is_too_long_is_compressed_at_each_scrape(feed, monkeypatch):
    monkeypatch.setattr("pipeline.publish.packed_text.MOST_KEPT_BYTES", 0)
    exporter = Exporter(feed.live)
    for _ in range(2):
        assert gzip.decompress(exporter.render_packed()) == exporter.render()


def lines_are_there(*_: object) -> dict[int, bytes]:
    raise AssertionError("the lines of every pool were made by prepare")
