"""The state of a bridge on disk: whole or not at all, and never taken for another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bridge.increments import advance
from pipeline.bridge.readings import read_exposition
from pipeline.bridge.state_file import BridgeState, load_state, save_state
from pipeline.errors import InputError, TokentideError
from tests.unit.bridge.fake_metrics import Finished, Server


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bridge.state"
    assert load_state(path, "bridge:a") == BridgeState("bridge:a")
    target, _, _ = advance(None, read_exposition(Server(done=[Finished()]).text()), 1_700_000_000.25)
    state = BridgeState("bridge:a", 17, b'{"delta":1}', {"http://x/metrics": target})
    for _ in range(2):
        save_state(path, state)
    assert load_state(path, "bridge:a") == state
    assert [file.name for file in tmp_path.iterdir()] == ["bridge.state"]


def test_a_file_that_is_no_state_of_this_bridge_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bridge.state"
    save_state(path, BridgeState("bridge:a", 1))
    whole = path.read_bytes()
    with pytest.raises(InputError, match="not the state of 'bridge:b'"):
        load_state(path, "bridge:b")
    for damaged in (b"", whole[:-3], b"\x00" * 64, b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="start again"):
            load_state(path, "bridge:a")
        assert path.read_bytes() == damaged
    with pytest.raises(InputError, match="cannot read"):
        load_state(tmp_path, "bridge:a")
    with pytest.raises(TokentideError, match="cannot write"):
        save_state(tmp_path / "no" / "folder", BridgeState("bridge:a"))
