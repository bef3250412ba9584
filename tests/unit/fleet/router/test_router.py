"""Routers are asked over HTTP: each of them, once a round, and nothing is told of a pool when one does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from pipeline.clock import ManualClock
from pipeline.errors import CodecError
from pipeline.fleet.router import pages as router_pages
from pipeline.fleet.router.options import RouterOptions
from pipeline.fleet.router.pages import RouterPages
from pipeline.fleet.router.router import Router

START = 1_795_981_560.0


class Gateway:
    """A router's ``/metrics``: what it says, and who has asked."""

    def __init__(self) -> None:
        self.text = 'requests_total{pool="chat"} 7\nrequests_total{pool="batch"} 90\nrunning{pool="chat"} 2\n'
        self.status = 200
        self.asked: list[dict[str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        return web.Response(status=self.status, text=self.text, headers={"Location": "/elsewhere"})


def with_gateways(number: int, work: Callable[..., Awaitable[None]]) -> None:
    async def run() -> None:
        gateways, runners = [Gateway() for _ in range(number)], []
        for gateway in gateways:
            application = web.Application()
            application.router.add_get("/metrics", gateway.answer)
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            runners.append(runner)
            gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
        try:
            await work(*gateways)
        finally:
            for runner in runners:
                await runner.cleanup()

    asyncio.run(run())


def options(*gateways: Gateway, pool: str = "chat", **more: Any) -> RouterOptions:
    named = {name: f'{name if name != "total" else "requests_total"}{{pool="{pool}"}}' for name in ("total", "running")}
    return RouterOptions(**{"urls": tuple(gateway.url for gateway in gateways), **named, "queued": "queued", **more})


def a_round(clock: ManualClock | None = None) -> aclosing[RouterPages]:
    return aclosing(RouterPages(clock or ManualClock(START), 5.0))


def test_all_routers_are_added_up_and_pools_share_a_page() -> None:
    async def work(one: Gateway, two: Gateway) -> None:
        chat, batch = Router(options(one, two)), Router(options(one, two, pool="batch"))
        async with a_round() as pages:
            assert await chat.look(pages) == (START, 14, 4, None)
            assert await batch.look(pages) == (START, 180, None, None)
        assert len(one.asked) == len(two.asked) == 1

    with_gateways(2, work)


def test_of_routers_of_which_one_does_not_answer_nothing_is_told_and_nothing_is_lost() -> None:
    async def work(one: Gateway, two: Gateway) -> None:
        router = Router(options(one, two))
        async with a_round() as pages:
            await router.look(pages)
        one.text, two.status = one.text.replace("7", "9"), 503
        async with a_round() as pages:
            with pytest.raises(CodecError, match=f"{two.url}: it answers with status 503"):
                await router.look(pages)
        two.status = 302
        async with a_round() as pages:
            with pytest.raises(CodecError, match="302"):
                await router.look(pages)
        two.status = 200
        async with a_round() as pages:
            found = await router.look(pages)
            assert found is not None
            assert found.total == 16

    with_gateways(2, work)


def test_every_address_of_a_host_is_asked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(gateway: Gateway) -> None:
        async def resolved(host: str, port: int, **_: object) -> list[Any]:
            assert host == "gateway.inference"
            kinds = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")]
            return [(kind, socket.SOCK_STREAM, 6, "", (address, port)) for kind, address in kinds]

        port = gateway.url.split(":")[2].split("/")[0]
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        found = await router_pages._addresses(f"http://gateway.inference:{port}/metrics")
        assert found == [f"http://127.0.0.1:{port}/metrics", f"http://127.0.0.2:{port}/metrics"]
        assert await router_pages._addresses("https://gateway.inference/metrics") == [
            "https://gateway.inference/metrics"
        ]

    with_gateways(1, work)


def test_the_token_is_read_again_and_goes_to_the_router_only(tmp_path: Path) -> None:
    token = tmp_path / "token"

    async def work(gateway: Gateway) -> None:
        router = Router(options(gateway, token_file=token))
        for text in ("first\n", "second"):
            token.write_text(text)
            async with a_round() as pages:
                await router.look(pages)
        token.unlink()
        async with a_round() as pages:
            with pytest.raises(CodecError, match="token"):
                await router.look(pages)
        assert [asked["Authorization"] for asked in gateway.asked] == ["Bearer first", "Bearer second"]

    with_gateways(1, work)


def test_a_page_that_is_older_than_the_one_seen_last_is_left_out() -> None:
    async def work(gateway: Gateway) -> None:
        router, clock = Router(options(gateway)), ManualClock(START)
        async with a_round(clock) as older, a_round(clock) as newer:
            await older.of((gateway.url,), None)
            clock.advance(1.0)
            gateway.text = gateway.text.replace("7", "8")
            found = await router.look(newer)
            assert found is not None
            assert (found.at, found.total) == (START + 1.0, 8)
            assert await router.look(older) is None

    with_gateways(1, work)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"urls": ()}, "at least 1"),
        ({"urls": ("ftp://x/metrics",)}, "not an http or https URL"),
        ({"urls": ("http://u:p@x/metrics",)}, "no user or password"),
        ({"urls": ("http://x/m", "http://x/m")}, "count twice"),
        ({"total": "sum(rate(x[5m]))"}, "not a selector"),
        ({"total": 'x{a=~"b"}'}, "not a selector"),
        ({"running": "x{"}, "not a selector"),
        ({"query": "x"}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RouterOptions(**{"urls": ("http://x/metrics",), "total": "x", **change})
