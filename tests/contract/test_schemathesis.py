"""Schemathesis against a real server, by the OpenAPI document that it serves: no error, no undocumented answer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.store import Store
from tests.publish_feed import Feed, recorded
from tests.publish_server import Server
from tests.waiting import scaled

TOKEN = "9f1c"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_every_answer_is_what_the_document_says(tmp_path):
    feed = Feed()
    with Store.open(tmp_path / "t.duckdb") as store:
        recorded(feed, store)
        feed.step(30)
        with Server(feed, token=TOKEN) as server:
            command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
            command += [f"{server.url}/v1/openapi.json", "--max-examples", "3", "--seed", "1", "--no-color"]
            command += ["--header", f"Authorization: Bearer {TOKEN}"]
            command += ["--phases", "coverage,fuzzing", "--generation-database", "none"]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=scaled(300), cwd=tmp_path
            )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.marks  # the POST was tried, too
