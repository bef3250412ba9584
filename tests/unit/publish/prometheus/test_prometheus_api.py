"""The Prometheus-compatible API over a real store, as Prometheus' own client sees it and by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.forecast.types import LEVELS
from pipeline.publish.prometheus.handlers import PROMETHEUS_PATH
from pipeline.store.store import Store
from tests.publish_feed import HORIZONS, Feed, recorded
from tests.publish_server import Server
from tests.waiting import scaled

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
CHAT = f'model="{MODEL}",pool="chat"'
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Feed, Server]]:
    feed = Feed()
    with Store.open(tmp_path_factory.mktemp("store") / "t.duckdb") as store:
        recorded(feed, store)
        feed.step(60)
        with Server(feed) as server:
            yield feed, server


def get(server: Server, path: str, form: bool = False, **parameters: Any) -> Any:
    named = urllib.parse.urlencode([(name.rstrip("_"), value) for name, value in parameters.items()], doseq=True)
    address = f"{server.url}{PROMETHEUS_PATH}/{path}"
    request = urllib.request.Request(address, named.encode()) if form else urllib.request.Request(f"{address}?{named}")
    try:
        with urllib.request.urlopen(request, timeout=scaled(20)) as response:
            body = json.load(response)
            assert body["status"] == "success"
            return body["data"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ranged(server: Server, query: str, start: float, end: float, step: float = 60) -> dict[Any, dict[float, float]]:
    data = get(server, "query_range", query=query, start=start, end=end, step=step)
    assert data["resultType"] == "matrix"
    return {
        tuple(sorted(one["metric"].items())): {at: float(value) for at, value in one["values"]}
        for one in data["result"]
    }


def only(found: dict[Any, dict[float, float]]) -> dict[float, float]:
    (values,) = found.values()
    return values


def test_demand_is_drawn_at_the_end_of_its_windows_and_not_beyond(served):
    feed, server = served
    values = only(ranged(server, f"tokentide_demand_requests_per_second{{{CHAT}}}", feed.start, feed.as_of + 600))
    windows = feed.windows[MODEL, "chat"]
    assert values == pytest.approx({float(w.end): w.requests / 60 / 0.98 for w in windows})
    # Between two samples the older one holds, for a window at most.
    finer = only(
        ranged(server, f"tokentide_demand_requests_per_second{{{CHAT}}}", feed.as_of - 60, feed.as_of + 600, 15)
    )
    assert sorted(finer) == [feed.as_of - 60 + 15.0 * i for i in range(8)]
    assert len(set(finer.values())) == 2


def test_the_present_is_the_newest_closed_window_for_five_minutes(served):
    feed, server = served
    query = f"tokentide_demand_requests_per_second{{{CHAT}}}"
    newest = feed.windows[MODEL, "chat"][-1]

    def at(time: float) -> list[float]:
        found = get(server, "query", query=query, time=time)["result"]
        return [float(one["value"][1]) for one in found]

    assert at(newest.end - 1) != at(newest.end)
    for later in (0, 59, 61, 150, 299):
        assert at(newest.end + later) == [pytest.approx(newest.requests / 60 / 0.98)], later
    assert at(newest.end + 300) == []


def test_a_forecast_is_drawn_at_its_target_times_by_quantile(served):
    feed, server = served
    name = "tokentide_forecast_path_requests_per_second"
    found = ranged(server, f'{name}{{{CHAT},grain="minute"}}', feed.as_of, feed.as_of + 2 * 3600)
    told = {f.target_at: f.quantiles for f in feed.live.pool(MODEL, "chat").forecasts if "requests" in f.series.signal}
    assert len(found) == len(LEVELS)
    for labels, values in found.items():
        band = dict(labels)["band"]
        level = [f"p{round(100 * level):02d}" for level in LEVELS].index(band)
        for target, quantiles in told.items():
            assert values[target] == pytest.approx(quantiles[level])
        assert (min(values), max(values)) == (feed.as_of + 60, feed.as_of + 3600)
        assert dict(labels)["as_of"] == "latest"


def test_what_was_forecast_then_is_told_by_a_label(served):
    feed, server = served
    then = feed.as_of - 1800
    query = f'tokentide_forecast_path_requests_per_second{{{CHAT},band="p50",as_of="{then + 20}"}}'
    values = only(ranged(server, query, then, then + 4000))
    assert (min(values), max(values)) == (then + 60, then + 3600)
    newest = only(ranged(server, query.replace(f"{then + 20}", "latest"), feed.as_of, feed.as_of + 4000))
    assert values[then + 60.0] != newest[feed.as_of + 60.0]
    lead = only(
        ranged(
            server,
            f'tokentide_forecast_lead_requests_per_second{{{CHAT},band="p50",horizon_seconds="900"}}',
            feed.start,
            feed.as_of + 4000,
        )
    )
    assert (min(lead), max(lead)) == (feed.start + 60 + 900, feed.as_of + 900)
    assert lead[then + 900.0] == pytest.approx(values[then + 900.0])


def test_advice_holds_until_the_next(served):
    feed, server = served
    for name, field in (("", "desired"), ("_lower", "lower"), ("_upper", "upper")):
        values = only(ranged(server, f"tokentide_recommended_replicas{name}{{{CHAT}}}", feed.start, feed.as_of + 900))
        for advice in feed.advice[MODEL, "chat"]:
            assert values[advice.issued_at] == getattr(advice, field)
        assert max(values) == feed.as_of + 240  # the lookback is five minutes, without its end


def test_matchers_aggregation_offset_and_arithmetic(served):
    feed, server = served
    name = "tokentide_demand_requests_per_second"
    each = ranged(server, name, feed.as_of, feed.as_of)
    assert len(each) == 3
    total = sum(next(iter(values.values())) for values in each.values())
    assert only(ranged(server, f"sum({name})", feed.as_of, feed.as_of)) == pytest.approx({feed.as_of: total})
    by_pool = ranged(server, f"sum by (pool) ({name})", feed.as_of, feed.as_of)
    assert set(by_pool) == {(("pool", "chat"),), (("pool", "batch"),)}
    assert only(ranged(server, f"count without (model, pool) ({name} * 60)", feed.as_of, feed.as_of)) == {feed.as_of: 3}
    assert len(ranged(server, f'{name}{{model=~"meta.*"}}', feed.as_of, feed.as_of)) == 1
    assert len(ranged(server, f'{name}{{model!~"meta.*",pool!="batch"}}', feed.as_of, feed.as_of)) == 1
    assert len(ranged(server, f'{name}{{model=~"meta"}}', feed.as_of, feed.as_of)) == 0
    assert len(ranged(server, f'{name}{{nothing=""}}', feed.as_of, feed.as_of)) == 3
    before = only(ranged(server, f"{name}{{{CHAT}}} offset 10m", feed.as_of, feed.as_of))
    assert before[feed.as_of] == pytest.approx(feed.windows[MODEL, "chat"][-11].requests / 60 / 0.98)


def test_lists_and_instant_queries_by_get_and_by_form(served):
    feed, server = served
    assert get(server, "query", query="1+1", time=5) == {"resultType": "scalar", "result": [5.0, "2"]}
    data = get(server, "query", form=True, query=f"tokentide_current_replicas{{{CHAT}}}", time=feed.as_of)
    assert data["result"][0]["metric"] == {"__name__": "tokentide_current_replicas", "model": MODEL, "pool": "chat"}
    assert "horizon_seconds" in get(server, "labels")
    assert set(get(server, "label/horizon_seconds/values")) == {str(horizon) for horizon in HORIZONS}
    assert get(server, "label/pool/values", match=f"{{{CHAT}}}".replace("match", "match[]")) == ["batch", "chat"]
    named = {"match[]": f"tokentide_recommended_replicas{{{CHAT}}}"}
    assert get(server, "series", **named) == [
        {"__name__": "tokentide_recommended_replicas", "model": MODEL, "pool": "chat"}
    ]
    assert get(server, "metadata")["tokentide_demand_kv_tokens"][0]["type"] == "gauge"
    assert get(server, "status/buildinfo")["version"]


@pytest.mark.parametrize(
    ("path", "parameters", "status", "kind", "word"),
    [
        ("query", {"query": "rate(a[5m])"}, 400, "bad_data", "functions"),
        ("query", {}, 400, "bad_data", "query"),
        ("query", {"query": "a", "time": "yesterday"}, 400, "bad_data", "time"),
        ("query", {"query": "a", "time": "nan"}, 400, "bad_data", "time"),
        ("query", {"query": 'a{b=~"("}'}, 400, "bad_data", "regex"),
        ("query", {"query": '{as_of="soon"}'}, 400, "bad_data", "as_of"),
        ("query_range", {"query": "a", "start": 9, "end": 5, "step": 1}, 400, "bad_data", "end"),
        ("query_range", {"query": "a", "start": 0, "end": 5, "step": 0}, 400, "bad_data", "step"),
        ("query_range", {"query": "a", "start": 0, "end": 11_001, "step": 1}, 400, "bad_data", "11,000 points"),
        ("query_range", {"query": '{model!=""}', "start": 0, "end": 11_000, "step": 1}, 422, "execution", "samples"),
        ("query_range", {"query": '{model!=""} * 2', "start": 0, "end": 1, "step": 1}, 422, "execution", "labelset"),
        ("series", {}, 400, "bad_data", "match"),
        ("series", {"match[]": "sum(a)"}, 400, "bad_data", "selector"),
        ("label/a-b/values", {}, 400, "bad_data", "label name"),
        ("metadata", {"limit": "x"}, 400, "bad_data", "limit"),
    ],
)
def test_refusals_have_prometheus_own_form(served, path, parameters, status, kind, word):
    feed, server = served
    if "labelset" in word:
        parameters = {**parameters, "start": feed.as_of, "end": feed.as_of}
    for form in (False, path != "metadata" and "values" not in path):
        code, body = get(server, path, form=form, **parameters)
        assert (code, body["status"], body["errorType"]) == (status, "error", kind)
        assert word in body["error"]


@needs_promtool
def test_prometheus_own_client_understands_every_answer(served):
    feed, server = served
    address, at = f"{server.url}/prometheus", str(feed.as_of)
    expression = f"tokentide_forecast_path_requests_per_second{{{CHAT}}}"

    def promtool(*arguments: str) -> str:
        command = [str(PROMTOOL), "query", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=scaled(30))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "tokentide_demand_kv_tokens" in promtool("instant", "--time", at, address, "tokentide_demand_kv_tokens")
    ends = ["--start", at, "--end", str(feed.as_of + 3600), "--step", "60s"]
    assert promtool("range", *ends, address, expression).count("band=") == len(LEVELS)
    assert promtool("series", "--match", expression, address).count("band=") == 3 * len(LEVELS)
    assert promtool("labels", address, "pool").split() == ["batch", "chat"]
