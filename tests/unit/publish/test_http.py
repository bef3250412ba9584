"""What the server does around every read: pages, entity tags, compression, origins, tokens, TLS, connections."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.settings import PublishSettings
from pipeline.errors import ConfigError
from pipeline.publish.exporter import Exporter
from pipeline.publish.http import answer, connection
from pipeline.publish.http.route import Role
from pipeline.publish.http.server import check_publish
from pipeline.publish.http.tokens import Tokens, parse_tokens
from tests.publish_server import Server
from tests.waiting import scaled, wait_until

CHAT = "llama-3.1-8b-instruct/chat"


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=scaled(20)) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    ("path", "name", "key"),
    [
        ("/v1/pools", "pools", ("model", "pool")),
        ("/v1/recommendations", "recommendations", ("model", "pool")),
        (f"/v1/recommendations/{CHAT}/history", "recommendations", ("issued_at", "generation")),
        (f"/v1/windows/{CHAT}", "windows", ("start",)),
        ("/v1/alerts", "alerts", ("alert_id",)),
    ],
)
def test_pages_add_up_to_the_whole_list(feed, path, name, key):
    feed.step(180 if name == "alerts" else 0)
    with Server(feed) as server:
        whole = json.loads(ask(server, f"{path}?limit=1000")[2])
        assert (whole["truncated"], whole["next_cursor"]) == (False, None)
        entries, cursor = [], ""
        while cursor is not None:
            page = json.loads(ask(server, f"{path}?limit=2{cursor and '&cursor=' + urllib.parse.quote(cursor)}")[2])
            assert len(page[name]) == 2 or not page["truncated"]
            assert page["truncated"] == (page["next_cursor"] is not None)
            entries += page[name]
            cursor = page["next_cursor"]
            if len(entries) > 40:  # the first pages of a long list will do
                break
        assert entries == whole[name][: len(entries)]
        assert len({tuple(entry[part] for part in key) for entry in entries}) == len(entries) > 0


def test_what_has_not_changed_is_304_whatever_the_time(feed):
    with Server(feed) as server:
        for path in ("/v1/pools", "/v1/recommendations", "/v1/scorecards", f"/v1/forecasts/{CHAT}", "/v1/alerts",
                     f"/v1/windows/{CHAT}?start={feed.start}&end={feed.as_of}", "/v1/openapi.json"):  # fmt: skip
            status, headers, _ = ask(server, path)
            assert status == 200
            feed.clock.advance(0.25)
            status, again, body = ask(server, path, If_None_Match=f'"other", {headers["ETag"]}')
            assert (status, again["ETag"], body) == (304, headers["ETag"], b""), path
            assert ask(server, path, If_None_Match="*")[0] == 304
            assert ask(server, path, If_None_Match='"other"')[0] == 200
        tag = ask(server, "/v1/pools")[1]["ETag"]
        feed.step()
        assert ask(server, "/v1/pools", If_None_Match=tag)[0] == 200


def test_answers_are_compressed_for_those_that_take_it(feed):
    with Server(feed) as server:
        for path in ("/v1/recommendations", "/metrics", "/v1/openapi.json"):
            _, plain, body = ask(server, path)
            assert plain["Content-Encoding"] is None
            for accepted in ("gzip", "br, gzip;q=0.5", "*"):
                _, headers, packed = ask(server, path, Accept_Encoding=accepted)
                assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
                assert len(packed) < len(body) / 2
                assert gzip.decompress(packed) == body
            for refused in ("gzip;q=0", "br", ""):
                assert ask(server, path, Accept_Encoding=refused)[1]["Content-Encoding"] is None
        assert ask(server, "/healthz", Accept_Encoding="gzip")[1]["Content-Encoding"] is None  # too short


def test_compressed_answers_that_are_kept_are_bounded(feed, monkeypatch):
    monkeypatch.setattr(answer, "KEPT_BYTES", 2_000)
    with Server(feed) as server:
        for limit in range(1, 4):
            assert ask(server, f"/v1/pools?limit={limit}", Accept_Encoding="gzip")[0] == 200


def test_the_compressor_keeps_neither_metrics_nor_what_is_kept_elsewhere(feed, monkeypatch):
    kept = []
    monkeypatch.setattr(answer.Compressor, "_keep", lambda _, key, __: kept.append(key[0]))
    with Server(feed) as server:
        for path in ("/metrics", "/v1/pools", "/v1/openapi.json", "/metrics"):
            assert ask(server, path, Accept_Encoding="gzip")[1]["Content-Encoding"] == "gzip"
    assert kept == ["/v1/openapi.json"]


def test_pages_of_named_origins_may_read(feed):
    page = "https://ops.example.com"
    with Server(feed, token="s3cret", cors_origins=[page]) as server:
        status, headers, _ = ask(server, "/v1/pools", "OPTIONS", Origin=page, Access_Control_Request_Method="GET")
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, page)
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        status, headers, _ = ask(server, "/v1/pools", Origin=page)
        assert (status, headers["Access-Control-Allow-Origin"]) == (401, page)  # a page can tell what is wrong
        status, headers, _ = ask(server, "/v1/pools", Origin="https://evil.example.com", Authorization="Bearer s3cret")
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, None)
        assert "Origin" in headers["Vary"]
    with Server(feed) as server:
        assert ask(server, "/v1/pools", Origin=page)[1]["Access-Control-Allow-Origin"] is None


def test_tokens_have_roles_and_their_file_is_read_again(feed, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# who\nread reader\n\ncalendar writer\nread,calendar both\n")
    with Server(feed, token="own", tokens_file=file) as server:

        def status(token: str) -> int:
            return ask(server, "/v1/status", Authorization=f"Bearer {token}")[0]

        assert [status(token) for token in ("own", "reader", "both", "writer", "none", "")] == [200] * 3 + [
            403,
            401,
            401,
        ]
        _write(file, "read other\n")
        assert [status(token) for token in ("other", "reader", "own")] == [200, 401, 200]
        for broken in ("nonsense\n", ""):  # the tokens of before stay
            _write(file, broken)
            assert [status(token) for token in ("other", "reader")] == [200, 401]
        file.unlink()
        assert status("other") == 200
        _write(file, "read third\n")
        assert [status(token) for token in ("other", "third")] == [401, 200]


def _write(file: Path, text: str) -> None:
    """Replace a file as Kubernetes does: by another one with the same name."""
    other = file.with_suffix(".new")
    other.write_text(text)
    os.replace(other, file)


@pytest.mark.parametrize("text", ["", "# none\n", "read\n", "read a b\n", "admin a\n", "read,admin a\n"])
def test_a_token_file_that_says_nothing_sensible_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=r"(?i)token|roles"):
        parse_tokens(text)
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"publish\.tokens_file"):
        check_publish(PublishSettings(tokens_file=file))


def test_without_tokens_everybody_may_read_and_the_setting_has_every_role():
    assert not Tokens(None, None).needed
    assert Tokens("own", None).roles(b"own") == frozenset(Role)
    assert Tokens("own", None).roles("öwn".encode()) == frozenset()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls(feed, tmp_path):
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    made += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True, timeout=scaled(60))
    files = {"tls_certificate_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with Server(feed, **files) as server:
        with urllib.request.urlopen(server.url + "/readyz", timeout=scaled(20), context=trusting) as response:
            assert response.status == 200
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=scaled(20))
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"publish\.tls_certificate_file"):
        check_publish(PublishSettings(**files))


@pytest.mark.parametrize(
    "settings",
    [{"tls_key_file": "key.pem"}, {"cors_origins": ["ops.example.com"]}, {"cors_origins": ["https://a.example/path"]}],
)
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        PublishSettings(**settings)


def test_who_can_read_without_a_token():
    assert PublishSettings(host="0.0.0.0").open_to_all()
    assert not PublishSettings().open_to_all()
    assert not PublishSettings(host="::1").open_to_all()
    assert not PublishSettings(host="0.0.0.0", bearer_token="x").open_to_all()
    assert not PublishSettings(host="0.0.0.0", tokens_file="tokens").open_to_all()


@pytest.mark.slow
def test_connections_that_ask_nothing_are_closed(feed):
    """Half a request, again and again a header, or nothing at all: none of them holds a connection."""
    with Server(feed, header_timeout_seconds=1) as server:
        sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=scaled(30)) for _ in range(8)]
        for number, client in enumerate(sockets):
            client.sendall((b"", b"GET / HTTP/1.1\r\n", b"GET /v1/pools HTTP/1.1\r\nHost: a\r\nX-1: 2\r\n")[number % 3])
        for client in sockets:
            assert client.recv(1) == b""
            client.close()
        # A busy machine may hold up an honest question for that long too.
        wait_until(lambda: ask(server, "/healthz")[0] == 200, 20, "an answer", passing=(OSError,))


@pytest.mark.slow
def test_idle_connections_make_room_for_those_that_ask(feed, monkeypatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 8)
    with Server(feed) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=scaled(30)) for _ in range(8)]
        for _ in range(8):
            assert ask(server, "/healthz")[0] == 200
        for client in idle:
            assert client.recv(1) == b""  # the oldest first, until each has gone
            client.close()


def test_where_all_connections_are_busy_the_next_one_is_told(feed, monkeypatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 2)
    with Server(feed) as server:
        listeners = [urllib.request.urlopen(f"{server.url}/board/stream", timeout=scaled(30)) for _ in range(2)]
        status, headers, body = ask(server, "/healthz")
        assert (status, headers["Retry-After"], json.loads(body)["detail"]) == (503, "1", "too many connections")
        assert headers.get_content_type() == "application/problem+json"
        for listener in listeners:
            listener.close()
        wait_until(lambda: ask(server, "/healthz")[0] == 200, 20, "there is room again")


def test_who_takes_nothing_of_an_answer_is_let_go(feed, monkeypatch):
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(Exporter, "render", lambda _: b"x" * 50_000_000)
    with Server(feed) as server, socket.create_connection(("127.0.0.1", server.port), timeout=scaled(30)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1) == b"H"
        assert server.connections() == 1
        wait_until(lambda: server.connections() == 0, 20, "the server has let go")
        taken = 0
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(1_000_000):
                taken += len(piece)
        assert taken < 50_000_000


def test_who_takes_an_answer_slowly_is_waited_for():
    """Looked at again and again: as long as less is left each time, the client takes what it is given."""
    waits, later, aborted = iter((900, 600, 599, 599)), [], []
    slow = object.__new__(connection.Connection)
    slow.transport = SimpleNamespace(get_write_buffer_size=lambda: next(waits), abort=lambda: aborted.append(True))
    slow._loop = SimpleNamespace(call_later=lambda *told: later.append(told))
    slow._look(None)
    for _ in range(3):
        assert not aborted
        seconds, look, waited = later.pop()
        assert (seconds, later) == (connection.STALLED_SECONDS, [])
        look(waited)
    assert (aborted, later) == ([True], [])


@pytest.mark.parametrize(
    "request_",
    [b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 40_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_gets_a_problem_document(feed, request_, caplog):
    with Server(feed) as server, socket.create_connection(("127.0.0.1", server.port), timeout=scaled(20)) as client:
        client.sendall(request_)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 400
        assert response.headers.get_content_type() == "application/problem+json"
        assert json.loads(response.read())["status"] == 400
    assert not caplog.records  # a stranger cannot fill the log


@pytest.mark.parametrize(
    ("path", "method", "status", "detail"),
    [
        ("/v1/nothing", "GET", 404, "there is nothing at this path"),
        ("/static/nothing.js", "GET", 404, "no such file"),
        ("/v1/pools", "DELETE", 405, "GET and HEAD are served here, not DELETE"),
        ("/v1/alerts/feedback", "GET", 405, "POST is served here, not GET"),
    ],
)
def test_what_is_not_served_is_told(feed, path, method, status, detail):
    with Server(feed) as server:
        told = ask(server, path, method)
        assert (told[0], json.loads(told[2])["detail"]) == (status, detail)


def test_a_wrong_token_is_not_a_missing_one(feed):
    with Server(feed, token="x") as server:
        assert json.loads(ask(server, "/v1/pools")[2])["detail"] == "a bearer token is needed"
        wrong = ask(server, "/v1/pools", Authorization="Bearer y")
        assert (wrong[0], json.loads(wrong[2])["detail"]) == (401, "the token is not known")


def test_head_is_get_without_a_body(feed):
    with Server(feed) as server:
        status, headers, body = ask(server, "/v1/pools", "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 1_000
