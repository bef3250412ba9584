"""Reports in a folder: which are listed, which are served, and that nothing else can be had through them."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import PublishSettings
from pipeline.errors import ConfigError
from pipeline.publish.board import reports
from pipeline.publish.http.server import check_publish
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled, wait_until

PAGE = "<!doctype html><title>Backtest</title>"


def ask(server: Server, path: str, **headers: str) -> tuple[int, Any, bytes]:
    """As it stands: no client may tidy the path."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=scaled(20))
    connection.putrequest("GET", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    found = response.status, response.headers, response.read()
    connection.close()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two reports, and what is none."""
    folder = tmp_path / "reports"
    (folder / "sub").mkdir(parents=True)
    for at, name in enumerate(("old.html", 'new <b>"?#%.html', "notes.txt", ".hidden.html", "sub/deep.html")):
        (folder / name).write_text(PAGE)
        os.utime(folder / name, (1_000 + at, 1_000 + at))
    (tmp_path / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(tmp_path / "secret.html")
    (folder / "folder.html").mkdir()
    os.mkfifo(folder / "pipe.html")
    (folder / os.fsdecode(b"\xff.html")).write_text("no UTF-8")
    return folder


def test_reports_are_listed_newest_first_and_served_in_a_sandbox(feed: Feed, folder: Path) -> None:
    with Server(feed, reports_folder=folder) as server:
        told = json.loads(ask(server, "/board/reports")[2])
        assert told == {
            "folder_set": True,
            "reports": [
                {"name": 'new <b>"?#%.html', "modified_at": 1_001.0, "bytes": len(PAGE), "served": True},
                {"name": "old.html", "modified_at": 1_000.0, "bytes": len(PAGE), "served": True},
            ],
            "truncated": False,
        }
        for path in ("old.html", "new%20%3Cb%3E%22%3F%23%25.html"):
            status, headers, body = ask(server, f"/board/reports/{path}")
            assert (status, body.decode()) == (200, PAGE)
            policy = [part.strip() for part in headers["Content-Security-Policy"].split(";")]
            assert {"sandbox allow-scripts", "default-src 'none'", "script-src 'unsafe-inline'"} <= set(policy)
            assert not any(part.startswith("connect-src") for part in policy), "default-src holds"
            assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
            assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_nothing_else_can_be_had(feed: Feed, folder: Path) -> None:
    ours = (
        "link.html",
        "pipe.html",
        "folder.html",
        ".hidden.html",
        "notes.txt",
        "sub/deep.html",
        "%ff.html",
        "no.html",
    )
    ways = ("../secret.html", "..%2Fsecret.html", "%2e%2e%2fsecret.html", "..%252Fsecret.html", "..", "sub%2Fdeep.html")
    odd = ("%00.html", "%2Fetc%2Fpasswd", "x" * 300 + ".html")
    with Server(feed, reports_folder=folder) as server:
        for name in (*ours, *ways, *odd):
            status, headers, body = ask(server, f"/board/reports/{name}")
            assert (status, headers["Content-Type"].split(";")[0]) == (404, "application/problem+json"), name
            assert b"secret" not in body


def test_lists_and_reports_are_bounded(feed: Feed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_LISTED", 1)
    monkeypatch.setattr(reports, "MAX_BYTES", len(PAGE))
    (folder / "old.html").write_text(PAGE + "!")
    with Server(feed, reports_folder=folder) as server:
        told = json.loads(ask(server, "/board/reports")[2])
        assert [(report["name"], report["served"]) for report in told["reports"]] == [("old.html", False)]
        assert told["truncated"]
        assert ask(server, "/board/reports/old.html")[0] == 413
        monkeypatch.setattr(reports, "MAX_SENT", 0)
        status, headers, _ = ask(server, "/board/reports/old.html")
        assert (status, headers["Retry-After"]) == (503, "2")
    monkeypatch.setattr(reports, "MAX_ENTRIES", 0)
    assert reports._list(folder) == {"reports": [], "truncated": True}


def test_readers_that_go_or_take_nothing_keep_no_place(
    feed: Feed, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports, "MAX_SENT", 1)
    monkeypatch.setattr(reports, "SLOW_SECONDS", 0.05)
    (folder / "large.html").write_bytes(b" " * 30_000_000)
    with Server(feed, reports_folder=folder) as server:
        for stays in (False, True):
            with socket.create_connection(("127.0.0.1", server.port), timeout=scaled(20)) as reader:
                reader.sendall(b"GET /board/reports/large.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert reader.recv(12) == b"HTTP/1.1 200"
                if not stays:
                    reader.close()
                wait_until(lambda: ask(server, "/board/reports/old.html")[0] == 200, 20.0, "its place is free")
    assert "failed" not in caplog.text


def test_who_may_not_read_gets_none_and_without_a_folder_there_are_none(feed: Feed, folder: Path) -> None:
    with Server(feed, token="s3cret", reports_folder=folder) as server:
        for path in ("/board/reports", "/board/reports/old.html"):
            assert ask(server, path)[0] == 401
            assert ask(server, path, Authorization="Bearer s3cret")[0] == 200
    with Server(feed) as server:
        assert json.loads(ask(server, "/board/reports")[2]) == {"folder_set": False, "reports": [], "truncated": False}
        assert ask(server, "/board/reports/old.html")[0] == 404
    gone = folder / "gone"
    with pytest.raises(ConfigError, match=r"publish\.reports_folder .* is not a folder"):
        check_publish(PublishSettings(reports_folder=gone))
    with Server(feed, reports_folder=gone) as server:
        status, _, body = ask(server, "/board/reports")
        assert (status, json.loads(body)["detail"]) == (
            503,
            "publish.reports_folder cannot be read: No such file or directory",
        )
