"""Each supported interpreter that is present: installed as locked, offline commands, a pipeline that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import Settings, to_environment
from pipeline.kafka.embedded_broker import free_port
from pipeline.store.store import Store
from pipeline.testing import Oracle, request_event
from tests.kafka_servers import produce, stream_settings
from tests.waiting import eventually, scaled

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.12", "3.13")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def find(version: str) -> str | None:
    """An interpreter of this version that runs: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}"))]
    for candidate in filter(None, found):
        done = subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    return None


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The interpreter of an environment with the locked dependencies and this project."""
    version = request.param
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        pytest.skip(f"Python {version} runs all the other tests")
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed")
    folder = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=scaled(120))
    own = str(folder / "bin" / "python")
    install = [own, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "-r", str(ROOT / "requirements.lock")],
        ["--no-deps", "--no-build-isolation", str(ROOT)],
    ):
        done = subprocess.run([*install, *arguments], capture_output=True, text=True, timeout=scaled(300), check=False)
        if "Could not find a version" in done.stderr or "Connection" in done.stderr:
            pytest.skip(f"pip cannot fetch the locked packages for Python {version} here")
        assert done.returncode == 0, done.stderr[-2_000:]
    yield own
    shutil.rmtree(folder)


def run(python: str, folder: Path, *arguments: str) -> str:
    """What ``tokentide`` prints; in a folder where only the installed packages can be imported."""
    command = [python, "-m", "pipeline", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=scaled(120), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_that_need_no_server(python: str, tmp_path: Path) -> None:
    assert json.loads(run(python, tmp_path, "version", "-o", "json"))["tokentide"]
    sized = json.loads(
        run(python, tmp_path, "size", "--model", "llama-3.1-8b", "--gpu", "H100-SXM", "--rate", "20", "-o", "json")
    )
    assert sized
    run(python, tmp_path, "config", "init", "tokentide.toml")
    run(python, tmp_path, "config", "validate", "-c", "tokentide.toml")
    trace = tmp_path / "trace.csv"
    rows = [f"{1_700_000_000 + 7 * i},{100 + i % 50},{20 + i % 9}" for i in range(2_000)]
    trace.write_text("timestamp,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    run(python, tmp_path, "backtest", str(trace), "--step", "5m")


def stored(settings: Settings) -> int:
    try:
        with DIRECT.open(f"http://127.0.0.1:{settings.publish.port}/v1/status", timeout=scaled(5)) as answer:
            return int(json.load(answer)["ledger"]["records"])
    except (OSError, ValueError):
        return -1


def test_a_pipeline_that_is_killed_counts_everything_once(python: str, embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, 2, publish={"port": free_port()})
    environment = {**os.environ, **to_environment(settings)}
    oracle, at = Oracle(), time.time() - 60.0

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            command: list[Any] = [python, "-m", "pipeline", "run"]
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)

    async def feed(count: int) -> None:
        first = oracle.records
        records = [(i % 2, oracle.event(request_event(f"e{i}", at + i / 100))) for i in range(first, first + count)]
        await produce(embedded_broker, settings.kafka.requests_topic, records)

    async def story() -> int:
        process = start()
        try:
            await feed(500)
            await eventually(lambda: stored(settings) > 0, 120, "the first records stored")
            await feed(500)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start()
            await feed(500)
            await eventually(lambda: stored(settings) >= oracle.records, 120, "all", progress=lambda: stored(settings))
        finally:
            process.terminate()
            code = process.wait(scaled(60))
        return code

    assert asyncio.run(story()) == 0, (tmp_path / "log").read_text()[-2_000:]
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        assert oracle.differences(store) == []
