"""Annotations into a small real HTTP server that speaks Grafana's annotation endpoints."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.errors import ConfigError, InputError, ServerUnavailable
from pipeline.publish.grafana import ANNOTATION_TAG, annotate

TOKEN = "glsa_test"
ALERT = {
    "alert_id": "spike_observed|m & n|p?x=1|1700000000",
    "kind": "spike_observed",
    "severity": "warning",
    "model": "m & n",
    "pool": "p?x=1",
    "raised_at": 1_700_000_060.0,
    "ended_at": None,
    "message": "demand rose",
}


class FakeGrafana:
    """Annotations in memory, found by all of their tags."""

    def __init__(self) -> None:
        self.notes: dict[int, dict[str, Any]] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                tags = set(parse_qs(urlsplit(self.path).query).get("tags", []))
                self.reply([{"id": i, **n} for i, n in fake.notes.items() if tags <= set(n["tags"])])

            def do_POST(self) -> None:
                fake.notes[len(fake.notes) + 1] = self.body()
                self.reply({"id": len(fake.notes), "message": "Annotation added"})

            def do_PUT(self) -> None:
                fake.notes[int(self.path.rsplit("/", 1)[-1])] = self.body()
                self.reply({"message": "Annotation updated"})

            def body(self) -> dict[str, Any]:
                return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, data: Any) -> None:
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                text = json.dumps(data if allowed else {"message": "invalid API key"}).encode()
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    pytest.importorskip("grafana_client")
    fake = FakeGrafana()
    thread = threading.Thread(target=fake.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join(5)


def test_an_episode_is_drawn_once_and_updated_when_it_ends(grafana):
    assert annotate(grafana.url, TOKEN, [ALERT]) == 1
    (note,) = grafana.notes.values()
    assert note["time"] == 1_700_000_060_000
    assert note["timeEnd"] is None
    assert {ANNOTATION_TAG, "spike_observed", "warning", "m & n/p?x=1"} <= set(note["tags"])
    assert note["text"] == "demand rose"
    ended = ALERT | {"ended_at": 1_700_000_660.0, "message": "demand rose; over"}
    other = ALERT | {"alert_id": "another"}
    assert annotate(grafana.url, TOKEN, [ended, other]) == 2
    assert len(grafana.notes) == 2
    assert grafana.notes[1]["timeEnd"] == 1_700_000_660_000
    assert grafana.notes[1]["text"] == "demand rose; over"


@pytest.mark.parametrize("broken", [{}, ALERT | {"raised_at": None}, ALERT | {"raised_at": float("inf")}])
def test_nothing_is_sent_when_one_alert_cannot_be_drawn(grafana, broken):
    with pytest.raises(InputError, match="can be drawn"):
        annotate(grafana.url, TOKEN, [ALERT, broken])
    assert grafana.notes == {}


def test_a_wrong_token_and_an_empty_house_are_told(grafana):
    with pytest.raises(ServerUnavailable, match="refuses the token"):
        annotate(grafana.url, "wrong", [ALERT])
    with pytest.raises(ServerUnavailable, match="nothing answers"):
        annotate("http://127.0.0.1:1", TOKEN, [ALERT], timeout=2.0)
    with pytest.raises(ConfigError):
        annotate("grafana", TOKEN, [ALERT])
