from __future__ import annotations

import base64
import json
import re
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.publish import history_reads, live_reads
from pipeline.publish.board import overview
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled, wait_until

MODEL = "meta-llama%2FLlama-3.3-70B-Instruct"


def _get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(server.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=scaled(20)) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def _json(server: Server, path: str) -> Any:
    status, _, body = _get(server, path)
    assert status == 200, body
    return json.loads(body)


@pytest.fixture
def server(feed: Feed) -> Iterator[Server]:
    with Server(feed) as server:
        yield server


def test_probes(server, feed):
    assert _get(server, "/healthz")[0] == 200
    assert _get(server, "/readyz")[0] == 200
    from pipeline.publish.health import PipelineHealth

    feed.live.set_health(PipelineHealth(ready=False, detail="restoring state"))
    status, headers, body = _get(server, "/readyz")
    assert (status, headers["Content-Type"].split(";")[0]) == (503, "application/problem+json")
    assert json.loads(body)["detail"] == "restoring state"
    assert _get(server, "/healthz")[0] == 200


def test_the_ledger_balances(server):
    status = _json(server, "/v1/status")
    ledger = status["ledger"]
    assert ledger["records"] == ledger["ignored"] + ledger["dead_letters_total"] + ledger["event_records"]
    assert status["watermark_lag_seconds"] == 65
    assert status["pools"] == 3


@pytest.mark.parametrize("model", [MODEL, "meta-llama/Llama-3.3-70B-Instruct"])
def test_model_names_may_contain_slashes(server, model):
    assert _json(server, f"/v1/recommendations/{model}/chat")["model"] == "meta-llama/Llama-3.3-70B-Instruct"
    assert len(_json(server, f"/v1/forecasts/{model}/chat")["forecasts"]) == 20
    assert len(_json(server, f"/v1/recommendations/{model}/chat/history?limit=3")["recommendations"]) == 3


def test_a_recommendation_revalidates_by_etag(server, feed):
    _, headers, _ = _get(server, f"/v1/recommendations/{MODEL}/chat")
    assert re.fullmatch(r"private, max-age=\d", headers["Cache-Control"])
    status, again, body = _get(server, f"/v1/recommendations/{MODEL}/chat", If_None_Match=headers["ETag"])
    assert (status, again["ETag"], body) == (304, headers["ETag"], b"")
    feed.step()
    assert _get(server, f"/v1/recommendations/{MODEL}/chat", If_None_Match=headers["ETag"])[0] == 200


def test_expired_advice_is_gone_everywhere(server, feed):
    feed.clock.advance(400)
    status, _, body = _get(server, f"/v1/recommendations/{MODEL}/chat")
    assert status == 410
    assert "expired" in json.loads(body)["detail"]
    assert _json(server, "/v1/recommendations")["recommendations"] == []
    pools = _json(server, "/v1/pools")["pools"]
    assert {pool["recommendation"] for pool in pools} == {None}
    assert all(pool["expired_at"] for pool in pools)
    assert _json(server, f"/v1/forecasts/{MODEL}/chat")["forecasts"] == []


def test_unknown_pools_and_pages_are_404(server):
    for path in ("/v1/recommendations/no/such", "/v1/forecasts/no/such", "/v1/windows/no/such", "/nope", "/static/x"):
        status, headers, body = _get(server, path)
        assert (status, headers["Content-Type"].split(";")[0]) == (404, "application/problem+json")
        assert json.loads(body)["status"] == 404


def test_configured_but_never_advised_is_404():
    feed = Feed()
    with Server(feed) as server:
        assert _get(server, "/v1/recommendations/llama-3.1-8b-instruct/chat")[0] == 404
        assert _json(server, "/v1/status")["as_of"] is None
        assert len(_json(server, "/v1/pools")["pools"]) == 3


@pytest.mark.parametrize(
    "query",
    [
        "start=nan",
        "start=inf",
        "start=-1",
        "start=x",
        "start=1e300",
        "grain_seconds=0",
        "grain_seconds=15",
        "grain_seconds=1e3",
        "grain_seconds=-60",
        "grain_seconds=99999999999999999999",
        "grain_seconds=%D9%A6%D9%A0",
    ],
)
def test_bad_parameters_of_windows_are_400(server, query):
    assert _get(server, f"/v1/windows/{MODEL}/chat?{query}")[0] == 400


def test_a_long_range_comes_in_pages_of_what_is_kept(server, feed, monkeypatch):
    monkeypatch.setattr(history_reads, "MAX_POINTS", 4)
    path = f"/v1/windows/{MODEL}/chat?start=0&end=90000000000"
    found, pages, page = [], 0, {"next_cursor": ""}
    while page["next_cursor"] is not None:
        page = _json(server, f"{path}&cursor={page['next_cursor']}" if pages else path)
        pages += 1
        assert page["truncated"] == (page["next_cursor"] is not None)
        assert len(page["windows"]) <= 5  # the one that is filling is added to the last by the feed
        found += [window["start"] for window in page["windows"] if window["finished"]]
    assert found == [window.start for window in feed.windows[urllib.parse.unquote(MODEL), "chat"]]
    assert len(found) / 5 <= pages <= len(found) / 4 + 2


@pytest.mark.parametrize("query", ["start=5&end=5", "start=9&end=5", "start=9&end=90000000000&cursor=90000000000"])
def test_a_range_without_windows_has_none(server, query):
    told = _json(server, f"/v1/windows/{MODEL}/chat?{query}")
    assert (told["windows"], told["truncated"]) == ([], False)


def test_a_long_range_of_an_empty_store_ends():
    feed = Feed()
    with Server(feed) as server:
        told = _json(server, f"/v1/windows/{MODEL}/chat?start=0&end=90000000000")
        assert (told["windows"], told["next_cursor"]) == ([], None)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/forecasts/{MODEL}/chat?signal=love",
        f"/v1/recommendations/{MODEL}/chat/history?limit=0",
        f"/v1/recommendations/{MODEL}/chat/history?limit=1001",
        "/v1/alerts?since=yesterday",
    ],
)
def test_bad_parameters_are_400(server, path):
    assert _get(server, path)[0] == 400


def test_windows_come_with_rates_and_without_the_one_that_fills(server, feed):
    data = _json(server, f"/v1/windows/{MODEL}/chat?start={feed.as_of - 300}&end={feed.as_of + 60}")
    assert data["grain_seconds"] == 60
    *finished, filling = data["windows"]
    assert len(finished) == 5
    assert all(w["rates"]["requests_per_second"] > 0 and w["finished"] for w in finished)
    assert not filling["finished"]
    assert set(filling["rates"].values()) == {None}
    assert {w["latency_statuses"] for w in finished} == {"ok"}
    assert {w["ttft_seconds"] for w in finished} == {0.45}
    assert {w["ttft_percentiles_seconds"]["p95"] for w in finished} == {0.8}
    assert {(w["tpot_seconds"], w["tpot_percentiles_seconds"]) for w in finished} == {(None, None)}
    assert (filling["ttft_seconds"], filling["latency_statuses"]) == (None, None)


def test_one_signal_of_the_forecast(server):
    data = _json(server, f"/v1/forecasts/{MODEL}/chat?signal=kv_tokens")
    assert {f["signal"] for f in data["forecasts"]} == {"kv_tokens"}
    assert [f["horizon_seconds"] for f in data["forecasts"]] == [60, 300, 900, 1800, 3600]
    assert data["scores"] == []


@pytest.mark.slow
def test_alerts_since_keep_what_still_lasts(server, feed):
    feed.step(180)
    alerts = _json(server, f"/v1/alerts?since={feed.as_of + 3600}")["alerts"]
    assert {a["kind"] for a in alerts} == {"spike_observed", "spike_forecast"}
    everything = _json(server, "/v1/alerts")["alerts"]
    assert len(everything) == 3
    raised = [a["raised_at"] for a in everything]
    assert raised == sorted(raised, reverse=True)


def test_a_store_that_cannot_answer_is_503_and_the_rest_goes_on(server, feed):
    feed.fail = StoreError("the file is gone")
    status, _, body = _get(server, f"/v1/windows/{MODEL}/chat")
    assert (status, json.loads(body)["detail"]) == (503, "the file is gone")
    assert _get(server, f"/v1/recommendations/{MODEL}/chat")[0] == 200
    feed.fail = RuntimeError("secret /path")
    status, _, body = _get(server, "/v1/alerts")
    assert status == 500
    assert b"secret" not in body


def test_a_token_guards_everything_but_the_probes(feed):
    with Server(feed, token="s3cret") as server:
        assert _get(server, "/healthz")[0] == 200
        assert _get(server, "/readyz")[0] == 200
        for path in ("/", "/metrics", "/v1/status", "/static/main.js", "/board/overview", "/board/stream", "/nope"):
            status, headers, _ = _get(server, path)
            assert status == 401, path
            assert headers["WWW-Authenticate"].startswith("Bearer")
        basic = base64.b64encode(b"anyone:s3cret").decode()
        assert _get(server, "/v1/status", Authorization="Bearer s3cret")[0] == 200
        assert _get(server, "/", Authorization=f"Basic {basic}")[0] == 200
        for wrong in (
            "Bearer s3cre",
            "Bearer",
            "Basic !!!",
            "Basic " + base64.b64encode(b"nocolon").decode(),
            "s3cret",
        ):
            assert _get(server, "/v1/status", Authorization=wrong)[0] == 401


def test_every_answer_carries_the_security_headers(server):
    for path in ("/", "/v1/status", "/nope", "/metrics", "/static/plotly.min.js"):
        _, headers, _ = _get(server, path)
        assert "script-src 'self';" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"


def test_nothing_can_be_written(server):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        request = urllib.request.Request(server.url + "/v1/recommendations", data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=scaled(20))
        assert error.value.code == 405
        assert "GET" in error.value.headers["Allow"]


def test_the_board_and_its_files_are_served_from_here(server):
    page = _get(server, "/")[2].decode()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        status, _, body = _get(server, path)
        assert status == 200
        assert len(body) > 500
    assert _get(server, "/static/..%2f__init__.py")[0] == 404
    assert _get(server, "/static/index.html")[0] == 404


def test_a_storm_of_history_reads_is_refused_and_the_rest_goes_on(feed, monkeypatch):
    """As many as are admitted wait for a store that does not answer; metrics, probes and live values are served."""
    gate = threading.Event()
    history = feed.history

    def slow(*args):
        gate.wait(scaled(60))
        return history(*args)

    monkeypatch.setattr(feed, "history", slow)
    path = f"/v1/windows/{MODEL}/chat"
    with Server(feed) as server, ThreadPoolExecutor(history_reads.MAX_READS + 8) as clients:
        reads = [clients.submit(_get, server, path) for _ in range(history_reads.MAX_READS + 8)]
        done = [read.result() for read in islice(as_completed(reads), 8)]
        assert {status for status, *_ in done} == {503}
        for _, headers, body in done:
            assert headers["Retry-After"] == "1"
            assert headers["Content-Type"].split(";")[0] == "application/problem+json"
            assert "waiting already" in json.loads(body)["detail"]
        for other in ("/metrics", "/healthz", "/readyz", "/v1/status", "/v1/recommendations", "/v1/pools"):
            assert _get(server, other)[0] == 200
        assert _get(server, f"/v1/recommendations/{MODEL}/chat/history")[0] == 503
        gate.set()
        assert sorted(read.result()[0] for read in reads) == [200] * history_reads.MAX_READS + [503] * 8
        assert _get(server, path)[0] == 200


@pytest.mark.parametrize(
    ("path", "owner", "name"), [("/v1/pools", live_reads, "_parts"), ("/board/overview", overview, "pool_row")]
)
def test_what_is_said_of_all_pools_is_written_beside_other_answers(feed, monkeypatch, path, owner, name):
    gate, began = threading.Event(), threading.Event()
    write = getattr(owner, name)

    def slow(*args, **named):
        began.set()
        gate.wait(scaled(60))
        return write(*args, **named)

    monkeypatch.setattr(owner, name, slow)
    with Server(feed) as server, ThreadPoolExecutor(1) as clients:
        asked = clients.submit(_get, server, path)
        assert began.wait(scaled(20))
        for other in ("/healthz", "/v1/status", f"/v1/recommendations/{MODEL}/chat", f"/v1/windows/{MODEL}/chat"):
            assert _get(server, other)[0] == 200
        gate.set()
        status, _, body = asked.result()
        assert (status, len(json.loads(body)["pools"])) == (200, len(feed.settings))


def test_a_reader_that_hangs_up_makes_room_once_its_query_is_over(feed, monkeypatch):
    gate, began = threading.Event(), threading.Semaphore(0)
    history = feed.history

    def slow(*args):
        began.release()
        gate.wait(scaled(60))
        return history(*args)

    monkeypatch.setattr(feed, "history", slow)
    monkeypatch.setattr(history_reads, "MAX_READS", 1)
    path = f"/v1/windows/{MODEL}/chat"
    with Server(feed) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert began.acquire(timeout=scaled(20))
        assert _get(server, path)[0] == 503
        gate.set()
        wait_until(lambda: _get(server, path)[0] == 200, 20, "a read is admitted again")
