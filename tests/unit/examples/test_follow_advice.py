from __future__ import annotations

import importlib.util
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.publish_feed import Feed
from tests.publish_server import Server

PATH = Path(__file__).resolve().parents[3] / "examples" / "autoscalers" / "follow_advice.py"
SPEC = importlib.util.spec_from_file_location("follow_advice", PATH)
assert SPEC is not None
assert SPEC.loader is not None
follow_advice = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(follow_advice)

MODEL, POOL = "llama-3.1-8b-instruct", "chat"


def advice(desired: int, state: str = "fresh", current: int | None = 5, generation: int = 7) -> dict[str, Any]:
    return {"desired": desired, "state": state, "current": current, "generation": generation, "message": "m"}


@given(
    desired=st.integers(0, 50),
    state=st.sampled_from(["hold", "cold_start", "degraded", "something new"]),
    current=st.none() | st.integers(0, 50),
    running=st.none() | st.integers(0, 50),
)
def test_only_fresh_advice_scales_down(desired: int, state: str, current: int | None, running: int | None) -> None:
    asked = follow_advice.decide(advice(desired, state, current), running, None)
    known = running if running is not None else current
    assert asked is None or (known is not None and asked > known)


def test_fresh_advice_is_followed_once() -> None:
    assert follow_advice.decide(advice(2), 5, 6) == 2
    assert follow_advice.decide(advice(2), 5, 7) is None
    assert follow_advice.decide(advice(5), None, None) is None, "that is what runs"


def test_valid_advice_is_read_and_expired_or_unknown_advice_is_an_error() -> None:
    feed = Feed()
    feed.step(20)
    with Server(feed) as server:
        found = follow_advice.read_advice(server.url, MODEL, POOL, None)
        assert found["state"] == "fresh"
        for pool, status in ((POOL, 410), ("nobody", 404)):
            feed.clock.advance(400)
            with pytest.raises(urllib.error.HTTPError) as refused:
                follow_advice.read_advice(server.url, MODEL, pool, None)
            assert refused.value.code == status


def test_a_command_that_fails_is_tried_again_and_a_server_that_is_away_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: list[Any] = [
        advice(8),
        advice(8),
        OSError("refused"),
        advice(8),
        advice(3, "hold", 8, 8),
        KeyboardInterrupt,
    ]
    done = tmp_path / "done"

    def read(*_: Any) -> dict[str, Any]:
        answer = answers.pop(0)
        if not isinstance(answer, dict):
            raise answer
        if len(answers) == 4:
            (tmp_path / "works").touch()
        return answer

    script = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); assert (p / 'works').exists();"
        "open(p / 'done', 'a').write(sys.argv[2] + ' ')"
    )
    monkeypatch.setattr(follow_advice, "read_advice", read)
    monkeypatch.setattr(follow_advice.time, "sleep", lambda _: None)
    monkeypatch.setattr(
        sys,
        "argv",
        ["follow", "http://x", MODEL, POOL, "--", sys.executable, "-c", script, str(tmp_path), "{replicas}"],
    )
    follow_advice.main()
    assert done.read_text() == "8 ", "not at the first try, then once"
