"""Reads the metrics of servers over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from pipeline.bridge.readings import Reading, read_exposition
from pipeline.clock import Clock
from pipeline.config.bridge import BridgeTarget
from pipeline.errors import CodecError

__all__ = ["Scrape", "scrape_all"]

#: Bytes of one answer; vLLM's with many engines has some hundred thousand.
MAX_BYTES = 16 * 1024 * 1024
_AT_A_TIME = 32
_ACCEPT = "text/plain;version=0.0.4"


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one target said at ``at`` (epoch seconds): its reading, or why there is none."""

    target: BridgeTarget
    at: float
    reading: Reading | None
    problem: str = ""


async def scrape_all(targets: Sequence[BridgeTarget], clock: Clock, timeout_seconds: float) -> list[Scrape]:
    """Scrape every target once, some at a time, in the order of ``targets``; none can fail the others."""
    room = asyncio.Semaphore(_AT_A_TIME)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    # Nothing is decompressed: a few bytes could become gigabytes before anybody can count them.
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, auto_decompress=False) as session:

        async def one(target: BridgeTarget) -> Scrape:
            async with room:
                try:
                    text = await _text(session, target)
                    at = clock.now()
                    reading = await asyncio.to_thread(read_exposition, text, target.model_name)
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError, CodecError) as error:
                    return Scrape(target, clock.now(), None, str(error)[:300] or type(error).__name__)
                return Scrape(target, at, reading)

        return list(await asyncio.gather(*(one(target) for target in targets)))


async def _text(session: aiohttp.ClientSession, target: BridgeTarget) -> str:
    headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
    if target.bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {target.bearer_token_file.read_text(encoding='utf-8').strip()}"
    # No redirect is followed: it would carry the token to another host.
    async with session.get(target.url, headers=headers, allow_redirects=False) as answer:
        if answer.status != 200:
            raise CodecError(f"it answers with status {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                raise CodecError(f"its answer has more than {MAX_BYTES} bytes")
    return body.decode("utf-8", "replace")
