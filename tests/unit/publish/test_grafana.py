"""Pushes into a small real HTTP server that speaks the endpoints of Grafana that are used."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline import resources
from pipeline.errors import ConfigError, InputError, ServerUnavailable
from pipeline.publish.grafana import FOLDER_UID, push

TOKEN = "glsa_test"


class FakeGrafana:
    """Folders and dashboards in memory, under the path prefix ``/grafana``."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.fail: tuple[int, str] | None = None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                uid = self.path.rsplit("/", 1)[-1]
                if self.path.startswith("/grafana/api/folders/") and uid in fake.folders:
                    self.reply(200, {"uid": uid, "title": fake.folders[uid]})
                else:
                    self.reply(404, {"message": "not found"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/grafana/api/folders":
                    fake.folders[body["uid"]] = body["title"]
                    self.reply(200, body)
                elif self.path == "/grafana/api/dashboards/db":
                    uid = body["dashboard"]["uid"]
                    fake.dashboards[uid] = body
                    self.reply(200, {"status": "success", "uid": uid, "url": f"/grafana/d/{uid}/x"})
                else:
                    self.reply(404, {"message": "not found"})

            def reply(self, status: int, data: dict[str, Any]) -> None:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    status, data = 401, {"message": "invalid API key"}
                elif fake.fail is not None:
                    status, data = fake.fail[0], {"message": fake.fail[1]}
                body = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/grafana"


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


@pytest.fixture
def board() -> Path:
    return resources.find("dashboards/grafana/tokentide-overview.json")


def test_the_dashboards_are_created_in_their_folder_and_overwritten(grafana, board):
    for _ in range(2):
        urls = push(grafana.url, TOKEN, [board])
        assert urls == [grafana.url + "/d/tokentide-overview/x"]
    assert list(grafana.folders) == [FOLDER_UID]
    sent = grafana.dashboards["tokentide-overview"]
    assert sent["overwrite"] is True
    assert sent["folderUid"] == FOLDER_UID
    assert sent["dashboard"] == json.loads(board.read_text(encoding="utf-8")) | {"id": None}


def test_a_final_slash_changes_nothing(grafana, board):
    assert push(grafana.url + "/", TOKEN, [board])


def test_a_wrong_token_is_told(grafana, board):
    with pytest.raises(ServerUnavailable, match="refuses the token"):
        push(grafana.url, "wrong", [board])
    assert grafana.dashboards == {}


@pytest.mark.parametrize(("status", "error"), [(412, InputError), (400, InputError), (500, ServerUnavailable)])
def test_refusals_are_told(grafana, board, status, error):
    grafana.fail = (status, "no way")
    with pytest.raises(error):
        push(grafana.url, TOKEN, [board])


def test_nobody_at_home(board):
    pytest.importorskip("grafana_client")
    with pytest.raises(ServerUnavailable, match="nothing answers"):
        push("http://127.0.0.1:1", TOKEN, [board], timeout=2.0)


@pytest.mark.parametrize("url", ["grafana", "ftp://x", "http://"])
def test_an_address_that_is_none(url, board):
    with pytest.raises(ConfigError):
        push(url, TOKEN, [board])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uid": "x"}', '{"panels": []}'])
def test_nothing_is_sent_when_a_file_is_no_dashboard(grafana, board, tmp_path, text):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        push(grafana.url, TOKEN, [board, wrong])
    assert grafana.dashboards == {}
