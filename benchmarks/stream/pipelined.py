"""The product as an operator runs it, for measurements: broker, ``tokentide run`` stages, a feeding process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.config.settings import PoolSettings, Settings, load, to_environment
from pipeline.kafka.embedded_broker import free_port
from pipeline.kafka.topics import ensure_topics

__all__ = ["PROBE", "feeding", "get", "lives", "pipeline_settings", "process", "rss_bytes", "stage", "supervised"]

PROBE = PoolSettings(model="llama-3.1-8b-instruct", pool="probe", profile="llama-3.1-8b", accelerator="H100-SXM")


def pipeline_settings(bootstrap: str, folder: Path, **sections: Any) -> Settings:
    """Defaults on ``bootstrap``, with the store in ``folder`` and a free port; the topics exist when this returns."""
    settings = load(
        kafka={"bootstrap": bootstrap, **sections.pop("kafka", {})},
        stream={"instance_id": "bench", **sections.pop("stream", {})},
        store={"path": folder / "bench.duckdb"},
        publish={"port": free_port()},
        **sections,
    ).model_copy(update={"pools": (PROBE,)})
    ensure_topics(settings.kafka)
    return settings


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to ``log``; it is told to end afterwards, and waited for."""
    with log.open("ab") as sink:
        started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(40)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def stage(settings: Settings, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One stage of ``tokentide run`` in a process of its own."""
    environment = os.environ | to_environment(settings)
    with process([sys.executable, "-m", "pipeline", "run", "--stage", name], environment, log) as started:
        yield started


@contextmanager
def feeding(settings: Settings, rate: float, keys: int, log: Path, *burst: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that emits ``rate`` live events per second; ``burst``: factor, from and for how many seconds."""
    kafka = settings.kafka
    command = [sys.executable, "-m", "benchmarks.stream.feed", kafka.bootstrap, kafka.requests_topic]
    with ExitStack() as stack:
        yield stack.enter_context(process([*command, str(rate), str(keys), *map(str, burst)], dict(os.environ), log))


def get(settings: Settings, path: str) -> Any:
    """The controller's answer, decoded; None while it does not answer or has none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.publish.port}{path}", timeout=10) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


@contextmanager
def supervised(settings: Settings, log: Path) -> Iterator[None]:
    """Both stages as ``tokentide run`` keeps them alive; ``log`` says which process is which."""
    with process([sys.executable, "-m", "pipeline", "run"], os.environ | to_environment(settings), log):
        yield


def lives(log: Path, name: str) -> list[int]:
    """Process ids of a stage, oldest first, from the supervisor's log; more than one: it was started again."""
    return [int(found) for found in re.findall(rf"{name} runs as process (\d+)", log.read_text())]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
