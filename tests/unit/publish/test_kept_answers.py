"""Answers that are kept between steps are those that would be made anew, and go when something has changed."""

from __future__ import annotations

import gc
import gzip
import urllib.error
import urllib.request
import weakref
from dataclasses import replace
from typing import Any

import pytest

from pipeline.alerts.types import Alert, AlertKind
from pipeline.engine.types import StepOutput
from pipeline.publish.http.kept_answers import MOST_ANSWERS, KeptAnswers
from tests.publish_feed import POOLS, Feed
from tests.publish_server import Server
from tests.waiting import scaled

CHAT = "llama-3.1-8b-instruct/chat"
PATHS = (
    f"/v1/recommendations/{CHAT}",
    f"/v1/forecasts/{CHAT}",
    f"/v1/forecasts/{CHAT}?signal=requests",
    f"/v1/forecasts/{CHAT}?tenant=acme",
    f"/v1/forecasts/{CHAT}?tenant=nobody",
    f"/v1/forecasts/{CHAT}?grain=hour",
    "/v1/recommendations",
    "/v1/pools",
    "/v1/pools?limit=1",
    "/v1/pools?limit=1&cursor=llama-3.1-8b-instruct%7Cbatch",
    "/v1/scorecards",
    "/v1/recommendations/nobody/nothing",
)
TOLD = ("ETag", "Cache-Control", "Vary", "Content-Type")


class Thing:
    """What answers are made of."""


def told(server: Server, path: str, accepted: str) -> tuple[Any, ...]:
    request = urllib.request.Request(server.url + path, headers={"Accept-Encoding": accepted})
    try:
        with urllib.request.urlopen(request, timeout=scaled(20)) as response:
            status, headers, body = response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        status, headers, body = error.code, error.headers, error.read()
    if headers["Content-Encoding"] == "gzip":
        assert accepted == "gzip"
        body = gzip.decompress(body)
    return status, [headers[name] for name in TOLD], body


def changes(feed: Feed):
    """Do something to the fleet between two yields."""
    yield "as it was"
    feed.clock.advance(7)
    yield "later"
    feed.step()
    yield "a step"
    model, pool = POOLS[0].model, POOLS[0].pool
    at = float(feed.as_of)
    alert = Alert("a1", AlertKind.SPIKE_OBSERVED, model, pool, at, at, None, "warning", 2.0, None, "text")
    feed.live.update(StepOutput(feed.as_of, alerts=(alert,)), finished=False)
    yield "an alert"
    feed.live.update(StepOutput(feed.as_of, alerts=(replace(alert, ended_at=float(feed.as_of)),)), finished=False)
    yield "it has ended"
    health = feed.live.health()
    feed.live.set_health(replace(health, event_notes={**health.event_notes, "bridge_counted": {f"{model}|{pool}": 5}}))
    yield "told by a bridge"
    feed.live.update(StepOutput(feed.as_of + 60))
    yield "a step of nothing"
    feed.clock.set(max(advice[-1].expires_at for advice in feed.advice.values()) - 0.5)
    yield "advice that is about to expire"
    feed.clock.advance(0.5)
    yield "advice that has expired"
    feed.clock.advance(10_000)
    yield "everything has expired"
    feed.step()
    yield "all of it is there again"


@pytest.mark.slow
def test_answers_that_are_kept_are_those_that_are_made_anew(feed):
    with Server(feed) as kept:
        for change in changes(feed):
            with Server(feed) as anew:
                for path in PATHS:
                    for accepted in ("gzip", "identity"):
                        wanted = told(anew, path, accepted)
                        for _ in range(2):
                            assert told(kept, path, accepted) == wanted, (change, path)


def test_an_answer_goes_with_what_it_was_made_of():
    answers: KeptAnswers[str] = KeptAnswers(100)
    one, other = Thing(), Thing()
    answers.keep("path", one, "answer", 10)
    assert answers.get("path", one) == "answer"
    assert answers.get("path", other) is None
    assert answers.get("another", one) is None
    answers.keep("path", other, "another answer", 20)
    assert (answers.get("path", one), answers.get("path", other)) == (None, "another answer")
    seen = weakref.ref(other)
    del other
    gc.collect()
    assert seen() is None  # not held by its answer


def test_answers_are_bounded_by_their_bytes():
    answers: KeptAnswers[int] = KeptAnswers(100)
    thing = Thing()
    for number in range(50):
        answers.keep(number, thing, number, 30)
        answers.keep(number, thing, number, 30)  # in place of the same
    assert [number for number in range(50) if answers.get(number, thing) is not None] == [47, 48, 49]
    answers.keep("too long", thing, 1, 101)
    assert len(answers) == 0


def test_small_answers_are_bounded_by_their_number():
    answers: KeptAnswers[int] = KeptAnswers(1_000_000)
    thing = Thing()
    for number in range(MOST_ANSWERS + 5):
        answers.keep(f"cursor {number}", thing, number, 1)
    assert len(answers) == MOST_ANSWERS
    assert answers.get("cursor 4", thing) is None
    assert answers.get("cursor 5", thing) == 5


@pytest.mark.slow
def test_forms_of_an_answer_agree(feed):
    with Server(feed) as server:
        for path in PATHS[:-1]:
            plain = told(server, path, "identity")
            assert told(server, path, "gzip")[1][0] == plain[1][0]
            if plain[0] != 200:
                continue
            for accepted in ("gzip;q=0", "br", "GZIP;q=0.5, br", "*", "deflate, gzip;q=1.0"):
                for method in ("GET", "HEAD"):
                    headers = {"Accept-Encoding": accepted}
                    request = urllib.request.Request(server.url + path, headers=headers, method=method)
                    with urllib.request.urlopen(request, timeout=scaled(20)) as response:
                        found, body, tag = response.headers, response.read(), response.headers["ETag"]
                    packed = found["Content-Encoding"] == "gzip"
                    assert not (packed and accepted in ("gzip;q=0", "br"))
                    assert tag == plain[1][0]
                    if method == "GET":
                        assert (gzip.decompress(body) if packed else body) == plain[2]
                    else:
                        assert body == b""
                    again = urllib.request.Request(
                        server.url + path, headers=headers | {"If-None-Match": f'"x", {tag}'}, method=method
                    )
                    with pytest.raises(urllib.error.HTTPError) as same:
                        urllib.request.urlopen(again, timeout=scaled(20))
                    assert (same.value.code, same.value.headers["ETag"]) == (304, tag)
