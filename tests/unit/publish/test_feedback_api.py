"""``POST /v1/alerts/feedback``."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.clock import WallClock
from pipeline.publish.feedback_api import feedback_route
from pipeline.publish.http.route import add_routes
from pipeline.publish.problem import secure

GOOD = {"alert_id": "spike_observed|a/b|chat|60", "verdict": "useful"}


def post(body, content_type="application/json", *, sends=True):
    """Status, decoded answer and the records that were sent."""
    sent = []

    async def send(record):
        sent.append(record)

    async def ask():
        app = web.Application(middlewares=[secure], client_max_size=1024)
        add_routes(app, [feedback_route(WallClock(), send if sends else None)])
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/v1/alerts/feedback", data=body, headers={"Content-Type": content_type})
            return answer.status, json.loads(await answer.read())

    return *asyncio.run(ask()), sent


def test_a_mark_is_sent_and_told():
    status, told, sent = post(json.dumps(GOOD))
    assert (status, told["kind"], told["scope"]) == (202, "alert_feedback:useful", {"model": "a/b", "pool": "chat"})
    assert [record.id for record in sent] == ["alert_feedback|spike_observed|a/b|chat|60"]


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (json.dumps(GOOD), "text/plain", 415),
        ("{", "application/json", 400),
        ("[" * 900, "application/json", 400),
        ("\xff", "application/json", 400),
        (json.dumps(GOOD | {"more": "x"}), "application/json", 400),
        (json.dumps(GOOD | {"verdict": 1}), "application/json", 400),
        (json.dumps(GOOD | {"alert_id": "x"}), "application/json", 400),
        (json.dumps(GOOD | {"alert_id": "x" * 2_000}), "application/json", 413),
        (json.dumps(GOOD | {"alert_id": "spike_observed|a/b|chat|999999999999"}), "application/json", 409),
    ],
)
def test_what_is_no_mark_is_a_problem(body, content_type, expected):
    status, problem, sent = post(body.encode("latin-1"), content_type)
    assert (status, problem["status"], sent) == (expected, expected, [])


def test_where_nothing_can_be_written_it_says_so():
    assert post(json.dumps(GOOD), sends=False)[0] == 503
