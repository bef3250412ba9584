"""``backtest`` over what real servers keep: a topic of a broker, and the history of a Prometheus."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.config.settings import PoolSettings
from pipeline.errors import InputError
from pipeline.forecast.types import Signal
from pipeline.kafka.embedded_broker import free_port
from pipeline.replay.formats import SeriesKind
from pipeline.replay.prometheus import query_range
from pipeline.replay.sources import read_demand
from pipeline.replay.topic_demand import read_topic
from tests.kafka_servers import produce, stream_settings
from tests.waiting import scaled, wait_until

pytestmark = pytest.mark.integration

START = 1_790_000_000 // 3600 * 3600


def event(number: int, at: float, pool: str = "chat", **more: object) -> bytes:
    fields = {
        "event_id": f"r-{number}",
        "model": "m",
        "pool": pool,
        "arrived_at": at,
        "e2e_seconds": 2.0,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 10,
        "status": "ok",
    }
    return msgspec.json.encode(fields | more)


def test_events_of_a_topic_as_series(embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, partitions=2)
    topic = settings.kafka.requests_topic
    records: list[tuple[int, bytes | None]] = []
    for number in range(600):  # two a minute for five hours, the second hour silent
        at = START + 30.0 * number
        if not 3600 <= at - START < 7200:
            records.append((number % 2, event(number, at, "chat" if number % 4 else "batch")))
    records += [(0, event(0, START + 0.0, "batch")), (0, b"no event"), (1, None)]
    asyncio.run(produce(embedded_broker, topic, records))
    said: list[str] = []

    def read(signal: Signal = Signal.REQUESTS, **more: str):
        return asyncio.run(
            read_topic(
                settings, topic, start=START, end=START + 18_000, step_seconds=3600, signal=signal, notice=said.append,
                **more,
            )
        )  # fmt: skip

    batch, chat = read()
    assert (batch.name, chat.name) == ("m/batch", "m/chat")
    assert (batch.values + chat.values).tolist()[1:3] == [0.0, 120.0]
    assert float((batch.values + chat.values).sum()) == 480.0  # the repeated id counts once
    assert said == [f"{topic}: 2 records are not request events and are left out"]
    (tokens,) = read(Signal.PREFILL_TOKENS, pool="batch")
    assert np.array_equal(tokens.values, 60 * batch.values)
    pool = {"model": "base", "pool": "chat", "profile": "llama-3.1-8b", "accelerator": "L40S", "aliases": ["m|*"]}
    folding = settings.model_copy(update={"pools": (PoolSettings(**pool),)})
    (whole,) = asyncio.run(read_topic(folding, topic, start=START, end=START + 18_000, step_seconds=3600, model="base"))
    assert (whole.name, float(whole.values.sum())) == ("base/chat", 480.0)
    with pytest.raises(InputError, match="holds no event of that"):
        read(model="other")
    with pytest.raises(InputError, match="there is no topic nothing-of-that"):
        asyncio.run(read_topic(settings, "nothing-of-that", start=START, end=START + 3600, step_seconds=60))


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that has a counter and a gauge of six hours, back-filled."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip("Prometheus is not installed")
    begin = int(time.time()) // 3600 * 3600 - 8 * 3600
    lines = ["# TYPE requests_total counter", "# TYPE running gauge"]
    for name in ("requests_total", "running"):
        for minute in range(361):
            value = 60 * minute if name == "requests_total" else 3 + minute // 60
            lines.append(f'{name}{{pool="chat"}} {value} {begin + 60 * minute}')
    history = tmp_path / "history.txt"
    history.write_text("\n".join([*lines, "# EOF"]) + "\n")
    data = tmp_path / "data"
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(history), str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
    port = free_port()
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=30d",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert server.poll() is None, "Prometheus ended"
        try:
            with urllib.request.urlopen(url + "/-/ready", timeout=scaled(5)):
                return True
        except OSError:
            return False

    try:
        wait_until(ready, 30.0, "Prometheus is ready")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=scaled(60))


def test_history_of_a_prometheus(prometheus: str) -> None:
    end = time.time()
    said: list[str] = []

    def series(query: str, step: int = 3600):
        rows, warnings = query_range(prometheus, query, end - 10 * 3600, end, step)
        assert not warnings
        (found,) = read_demand(rows, step_seconds=3600, value_column="value", kind=SeriesKind.AUTO, notice=said.append)
        return found

    rate = series("sum(rate(requests_total[1h]))")
    assert rate.values[2:5].tolist() == pytest.approx([1.0, 1.0, 1.0], rel=0.05)
    assert "is read as gauge" in said[-1]
    counted = series("requests_total", 60)
    assert counted.values[1:5].tolist() == pytest.approx([3600.0] * 4)
    assert "is read as counter" in said[-1]
    with pytest.raises(InputError, match=r"refused the query \(400\).*parse error"):
        series("sum(")
