"""What becomes of the demo's processes when one ends."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline.config.settings import Settings, load
from pipeline.demo import processes as module
from pipeline.demo.child import main
from pipeline.demo.processes import PipelineProcesses
from pipeline.errors import ServerUnavailable


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A controller with these ends at once: there is no pace file."""
    return load(None, clock={"pace_file": tmp_path / "missing"}, store={"path": tmp_path / "s.duckdb"})


@pytest.mark.slow
def test_a_process_that_cannot_work_ends_the_demo_with_its_last_words(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_LIFE_SECONDS", math.inf)  # however long a busy machine needs to start it
    with PipelineProcesses(settings, tmp_path) as processes:
        process = processes.start("control")
        process.wait()
        for restart in (False, True):
            with pytest.raises(ServerUnavailable, match=r"control process ended with status 1:\n.*pace_file .*missing"):
                processes.check(restart=restart)


@pytest.mark.slow
def test_a_process_that_has_worked_is_started_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_LIFE_SECONDS", 0.0)
    with PipelineProcesses(settings, tmp_path) as processes:
        first = processes.start("control")
        first.wait()
        assert processes.check(restart=True) == ["control"]
        assert processes.check(restart=True) in ([], ["control"])
        processes.stop()
        processes.stop()  # nothing is left to end
        assert processes.check(restart=False) == []


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(SystemExit, match="aggregate or control"):
        main(["nonsense"])
