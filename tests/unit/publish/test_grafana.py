"""Pushes into a small real HTTP server that speaks the endpoints of Grafana that are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import resources
from pipeline.errors import ConfigError, InputError, ServerUnavailable
from pipeline.publish.grafana import FOLDER_UID, push
from tests.unit.publish.grafana_server import TOKEN, GrafanaHandler, serving


class FakeGrafana:
    """Folders and dashboards in memory, under the path prefix ``/grafana``."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.fail: tuple[int, str] | None = None
        self.url = ""
        fake = self

        class Handler(GrafanaHandler):
            def do_GET(self) -> None:  # noqa: N802
                uid = self.path.rsplit("/", 1)[-1]
                if self.path.startswith("/grafana/api/folders/") and uid in fake.folders:
                    self.answer(200, {"uid": uid, "title": fake.folders[uid]})
                else:
                    self.answer(404, {"message": "not found"})

            def do_POST(self) -> None:  # noqa: N802
                body = self.body()
                if self.path == "/grafana/api/folders":
                    fake.folders[body["uid"]] = body["title"]
                    self.answer(200, body)
                elif self.path == "/grafana/api/dashboards/db":
                    uid = body["dashboard"]["uid"]
                    if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                        fake.dashboards[uid] = body
                    self.answer(200, {"status": "success", "uid": uid, "url": f"/grafana/d/{uid}/x"})
                else:
                    self.answer(404, {"message": "not found"})

            def answer(self, status: int, data: dict[str, Any]) -> None:
                self.reply(*((status, data) if fake.fail is None else (fake.fail[0], {"message": fake.fail[1]})))

        self.handler = Handler


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    pytest.importorskip("grafana_client")
    fake = FakeGrafana()
    with serving(fake.handler) as address:
        fake.url = f"{address}/grafana"
        yield fake


@pytest.fixture
def board() -> Path:
    return resources.find("dashboards/grafana/tokentide-overview.json")


@pytest.mark.slow
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
