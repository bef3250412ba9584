"""Annotations into a small real HTTP server that speaks Grafana's annotation endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.errors import ConfigError, InputError, ServerUnavailable
from pipeline.publish.grafana import ANNOTATION_TAG, annotate
from tests.unit.publish.grafana_server import TOKEN, GrafanaHandler, serving

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
        self.url = ""
        fake = self

        class Handler(GrafanaHandler):
            def do_GET(self) -> None:  # noqa: N802
                tags = set(parse_qs(urlsplit(self.path).query).get("tags", []))
                self.reply(200, [{"id": i, **n} for i, n in fake.notes.items() if tags <= set(n["tags"])])

            def do_POST(self) -> None:  # noqa: N802
                note = self.body()
                if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                    fake.notes[len(fake.notes) + 1] = note
                self.reply(200, {"id": len(fake.notes), "message": "Annotation added"})

            def do_PUT(self) -> None:  # noqa: N802
                fake.notes[int(self.path.rsplit("/", 1)[-1])] = self.body()
                self.reply(200, {"message": "Annotation updated"})

        self.handler = Handler


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    pytest.importorskip("grafana_client")
    fake = FakeGrafana()
    with serving(fake.handler) as fake.url:
        yield fake


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
