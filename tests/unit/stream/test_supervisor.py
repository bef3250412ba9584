from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from pipeline.config.settings import Settings, load
from pipeline.stream.process.supervisor import EXIT_CONFIG, Supervisor
from tests.waiting import scaled, wait_until

# Children are spawned: what they run must be importable, and finds its folder through the environment.
FOLDER = "SUPERVISOR_TEST_FOLDER"


def child(settings: Settings, name: str) -> None:
    """Note each life; the first one of "weak" dies at once, "wrong" can never work, "good" obeys SIGTERM."""
    folder = Path(os.environ[FOLDER])
    lives = len(list(folder.glob(f"{name}-*")))
    (folder / f"{name}-{lives}").write_text(str(os.getpid()))
    if name == "weak" and lives == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "wrong":
        raise SystemExit(EXIT_CONFIG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    (folder / f"up-{name}").touch()
    stop.wait(600)


def supervise(names: tuple[str, ...]) -> None:
    raise SystemExit(Supervisor(load(None), child, names).run())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def run(names: tuple[str, ...]) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=supervise, args=(names,))
    process.start()
    return process


def wait_for(path: Path) -> None:
    wait_until(path.exists, 60, f"{path.name} comes up", poll_seconds=0.05)


@pytest.mark.slow
def test_a_child_that_dies_is_started_again_and_all_stop_in_order(folder: Path) -> None:
    process = run(("weak", "good"))
    wait_for(folder / "up-good")
    wait_for(folder / "up-weak")
    assert (folder / "weak-1").exists()
    assert not (folder / "good-1").exists(), "the other one goes on"
    process.terminate()
    process.join(scaled(30))
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_child_that_can_never_work_ends_all(folder: Path) -> None:
    process = run(("wrong", "good"))
    process.join(scaled(60))
    assert process.exitcode == EXIT_CONFIG
    assert not (folder / "wrong-1").exists()
