from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pipeline.config.kafka import KafkaSecuritySettings
from pipeline.kafka.tokens import TokenSource, TokenUnavailable


class Endpoint:
    """Answers every request with ``body``; counts them."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps({"access_token": "t1", "expires_in": 100}).encode()
        self.requests: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.requests.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(endpoint.status)
                self.end_headers()
                self.wfile.write(endpoint.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def security(**more: Any) -> KafkaSecuritySettings:
    return KafkaSecuritySettings(protocol="SASL_SSL", mechanism="OAUTHBEARER", **more)


def source(endpoint: Endpoint, now: list[float]) -> TokenSource:
    url = f"http://127.0.0.1:{endpoint.server.server_port}/token"
    settings = security(token_url=url, token_client_id="c", token_client_secret="hush-hush", token_scope="kafka")
    return TokenSource(settings, "hush-hush", lambda: now[0])


def test_a_token_is_kept_until_most_of_its_life_has_passed(endpoint: Endpoint) -> None:
    now = [0.0]
    tokens = source(endpoint, now)
    assert [tokens.token(), tokens.token()] == ["t1", "t1"]
    now[0] = 79.0
    assert tokens.token() == "t1"
    assert endpoint.requests == ["grant_type=client_credentials&scope=kafka"]
    endpoint.body = json.dumps({"access_token": "t2"}).encode()
    now[0] = 80.0
    assert tokens.token() == "t2"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"error":"invalid_client"}'),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"access_token": 7}'),
        (200, b'{"access_token": ""}'),
        (200, b'{"access_token": "a\\u0001auth=Bearer b"}'),
        (200, b'{"access_token": "t", "expires_in": "soon"}'),
    ],
)
def test_an_answer_without_a_token_is_a_connection_that_fails(endpoint: Endpoint, status: int, body: bytes) -> None:
    endpoint.status, endpoint.body = status, body
    with pytest.raises(TokenUnavailable, match=r"kafka\.security\.token_url") as error:
        source(endpoint, [0.0]).token()
    assert "hush-hush" not in str(error.value)


def test_a_file_is_read_for_every_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    tokens = TokenSource(security(token_file=file), None)
    with pytest.raises(TokenUnavailable, match="No such file"):
        tokens.token()
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        assert tokens.token() == token
    file.write_bytes(b"\xff\x00")
    with pytest.raises(TokenUnavailable, match="characters"):
        tokens.token()
