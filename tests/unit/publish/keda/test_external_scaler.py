"""KEDA's external scaler, asked by a gRPC client over the wire."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="the extra keda is not installed")

from pipeline.config.publish import PublishSettings  # noqa: E402
from pipeline.engine.types import StepOutput  # noqa: E402
from pipeline.errors import ConfigError, ServerUnavailable  # noqa: E402
from pipeline.publish.keda.messages import (  # noqa: E402
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    ScaledObjectRef,
)
from pipeline.publish.keda.scaler import METRIC_NAME, ExternalScaler  # noqa: E402
from pipeline.publish.keda.server import KedaServer  # noqa: E402
from sizing.types import RecommendationState  # noqa: E402
from tests.certificates import make_certificates  # noqa: E402
from tests.publish_feed import Feed  # noqa: E402
from tests.waiting import eventually, scaled  # noqa: E402

CHAT = {"model": "llama-3.1-8b-instruct", "pool": "chat"}
EXPECTED = {
    "GetMetricSpec": GetMetricSpecResponse,
    "GetMetrics": GetMetricsResponse,
    "IsActive": IsActiveResponse,
    "StreamIsActive": IsActiveResponse,
}


class Keda:
    """What KEDA calls, for one ScaledObject."""

    def __init__(self, channel: Any, metadata: dict[str, str]) -> None:
        self._channel = channel
        self._ref = ScaledObjectRef(name="llama-chat", namespace="inference", scalerMetadata=metadata)

    def stream(self) -> Any:
        call = self._channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=ScaledObjectRef.SerializeToString,
            response_deserializer=IsActiveResponse.FromString,
        )
        return call(self._ref)

    async def ask(self, name: str, metric: str = METRIC_NAME) -> Any:
        """The answer, or the name of the status of the error."""
        request = self._ref if name != "GetMetrics" else GetMetricsRequest(scaledObjectRef=self._ref, metricName=metric)
        call = self._channel.unary_unary(
            f"/externalscaler.ExternalScaler/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=EXPECTED.get(name, IsActiveResponse).FromString,
        )
        try:
            answer = await call(request, timeout=scaled(20))
        except grpc.aio.AioRpcError as error:
            return error.code().name
        if name == "GetMetrics":
            (value,) = answer.metricValues
            assert (value.metricName, value.metricValueFloat) == (METRIC_NAME, float(value.metricValue))
            return value.metricValue
        if name == "GetMetricSpec":
            return [(spec.metricName, spec.targetSize, spec.targetSizeFloat) for spec in answer.metricSpecs]
        return answer.result


def served(feed: Feed, work: Callable[[Callable[..., Keda]], Awaitable[None]]) -> None:
    async def run() -> None:
        server = KedaServer(feed.live, PublishSettings(keda_port=0))
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                await work(lambda **metadata: Keda(channel, metadata))
        finally:
            await server.stop()
            await server.stop()

    asyncio.run(run())


def advise(feed: Feed, desired: int, state: RecommendationState, current: int | None) -> None:
    view = feed.live.pool(**CHAT)
    assert view is not None
    assert view.recommendation is not None
    assert view.window is not None
    advice = replace(view.recommendation, desired=desired, lower=0, state=state, current=current)
    window = replace(view.window, current_replicas=current)
    feed.live.update(StepOutput(feed.as_of, windows=(window,), recommendations=(advice,)))


def test_every_state_of_the_advice_as_keda_sees_it() -> None:
    feed = Feed()
    spec = [(METRIC_NAME, 1, 1.0)]
    fresh, hold = RecommendationState.FRESH, RecommendationState.HOLD

    async def work(keda: Callable[..., Keda]) -> None:
        chat = keda(**CHAT, scalerAddress="tokentide:8322")

        async def seen() -> tuple[Any, Any]:
            assert await chat.ask("GetMetricSpec") == spec, "always: without it KEDA makes no HPA"
            return await chat.ask("GetMetrics"), await chat.ask("IsActive")

        error = ("FAILED_PRECONDITION", "FAILED_PRECONDITION")
        assert await seen() == error, "no advice yet"
        feed.step(1)
        for desired, state, current, expected in (
            (7, fresh, 4, (7, True)),
            (2, fresh, 4, (2, True)),
            (0, fresh, 1, (0, False)),  # the only way to be inactive
            (2, hold, 4, (4, True)),
            (2, RecommendationState.DEGRADED, 9, (9, True)),
            (3, RecommendationState.COLD_START, None, (3, True)),
            (0, hold, None, error),
            (0, hold, 0, error),
        ):
            advise(feed, desired, state, current)
            assert await seen() == expected, (desired, state, current)
        advise(feed, 7, fresh, 4)
        feed.clock.advance(400)
        assert await seen() == error, "expired"
        assert await keda(model="unknown").ask("GetMetrics") == "NOT_FOUND"
        for metadata in ({}, {"pool": "chat"}, {"model": "m" * 300}):
            assert await keda(**metadata).ask("IsActive") == "INVALID_ARGUMENT"
            assert await keda(**metadata).ask("GetMetricSpec") == spec
        assert await chat.ask("GetMetrics", "s0-other") == "INVALID_ARGUMENT"
        assert await chat.ask("StreamMetricSpec") == "UNIMPLEMENTED", "KEDA then polls GetMetricSpec"
        assert await keda(model="m", big="x" * 100_000).ask("IsActive") == "RESOURCE_EXHAUSTED"

    served(feed, work)


def test_the_stream_tells_changes_and_is_silent_while_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    looks = 0
    pool = feed.live.pool

    def counted(**name: str) -> Any:
        nonlocal looks
        looks += 1
        return pool(**name)

    monkeypatch.setattr(feed.live, "pool", lambda model, pool: counted(model=model, pool=pool))
    monkeypatch.setattr(ExternalScaler.__init__, "__defaults__", (0.01,))

    async def work(keda: Callable[..., Keda]) -> None:
        told: list[bool] = []

        async def listen() -> None:
            async for answer in keda(**CHAT).stream():
                told.append(answer.result)  # noqa: PERF401

        listening = asyncio.create_task(listen())

        async def more_looks() -> None:
            seen = looks
            await eventually(lambda: looks > seen + 3, 20, "more looks")

        await more_looks()
        feed.step(1)
        advise(feed, 3, RecommendationState.FRESH, 3)
        await eventually(lambda: told == [True], 20, "active")
        feed.clock.advance(400)
        await more_looks()
        assert told == [True], "expired is not inactive"
        feed.step(8)
        advise(feed, 0, RecommendationState.FRESH, 3)
        await eventually(lambda: told == [True, False], 20, "inactive by fresh advice")
        listening.cancel()

    served(feed, work)


def test_the_bytes_on_the_wire_are_kedas() -> None:
    """Written out by hand after externalscaler.proto of KEDA 2.20: tag = field number * 8 + wire type."""
    ref = b"\x0a\x01n" + b"\x12\x02ns" + b"\x1a\x0a" + b"\x0a\x05model" + b"\x12\x01m"
    read = ScaledObjectRef.FromString(ref)
    assert (read.name, read.namespace, dict(read.scalerMetadata)) == ("n", "ns", {"model": "m"})
    asked = GetMetricsRequest.FromString(b"\x0a" + bytes([len(ref)]) + ref + b"\x12\x01x")
    assert (asked.scaledObjectRef, asked.metricName) == (read, "x")
    value = b"\x0a\x01x" + b"\x10\x07" + b"\x19" + b"\0\0\0\0\0\0\x1c\x40"  # 7, and 7.0 as a double
    inner = {"metricName": "x", "metricValue": 7, "metricValueFloat": 7.0}
    assert GetMetricsResponse(metricValues=[inner]).SerializeToString() == b"\x0a" + bytes([len(value)]) + value
    spec = {"metricName": "x", "targetSize": 7, "targetSizeFloat": 7.0}
    assert GetMetricSpecResponse(metricSpecs=[spec]).SerializeToString() == b"\x0a" + bytes([len(value)]) + value
    assert IsActiveResponse(result=True).SerializeToString() == b"\x08\x01"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_only_clients_with_a_certificate_are_answered(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    names = ("ca.crt", "client.key", "client.crt")
    ca, key, certificate = ((tmp_path / name).read_bytes() for name in names)
    files = {"certificate": "server.crt", "key": "server.key", "client_ca": "ca.crt"}
    settings = PublishSettings(
        host="127.0.0.1", keda_port=0, **{f"keda_{name}_file": tmp_path / file for name, file in files.items()}
    )

    async def run() -> None:
        server = KedaServer(Feed().live, settings)
        await server.start()
        address = f"localhost:{server.port}"
        spec = [(METRIC_NAME, 1, 1.0)]
        for credentials, expected in (
            (grpc.ssl_channel_credentials(ca, key, certificate), spec),
            (grpc.ssl_channel_credentials(ca), "UNAVAILABLE"),
        ):
            async with grpc.aio.secure_channel(address, credentials) as channel:
                assert await Keda(channel, CHAT).ask("GetMetricSpec") == expected
        async with grpc.aio.insecure_channel(address) as channel:
            assert await Keda(channel, CHAT).ask("GetMetricSpec") == "UNAVAILABLE"
        second = KedaServer(Feed().live, settings.model_copy(update={"keda_port": server.port}))
        with pytest.raises(ServerUnavailable, match=f"cannot listen on 127.0.0.1:{server.port} for KEDA"):
            await second.start()
        await second.stop()
        await server.stop()

    asyncio.run(run())
    missing = KedaServer(Feed().live, settings.model_copy(update={"keda_key_file": tmp_path / "none"}))
    with pytest.raises(ConfigError, match=r"none cannot be read for publish\.keda_port"):
        asyncio.run(missing.start())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0", "keda_port": 8322}, "keda_port on 0.0.0.0 needs keda_certificate_file"),
        ({"keda_port": 8322, "keda_key_file": "k"}, "set all three or none"),
        ({"keda_port": 70_000}, "keda_port"),
    ],
    ids=["open", "half", "port"],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PublishSettings(**settings)
