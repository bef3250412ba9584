"""Fetches the metrics of routers: of a host with several addresses, each."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from pipeline.clock import Clock
from pipeline.errors import CodecError

__all__ = ["RouterPages"]

_MAX_BYTES = 16 * 1024 * 1024
_MAX_ADDRESSES = 64
_MAX_TOKEN_BYTES = 65_536

_Fetched = tuple[float, dict[str, str]]  # when, pages by address


class RouterPages:
    """Metrics by URL, each fetched once: pools that share a router share its page. For one round of looks."""

    def __init__(self, clock: Clock, timeout_seconds: float) -> None:
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._fetched: dict[tuple[str, Path | None], asyncio.Task[_Fetched]] = {}

    async def of(self, urls: tuple[str, ...], token_file: Path | None) -> tuple[float, dict[str, str]]:
        """Return when the first of ``urls`` had answered (epoch seconds), and all pages by the address that answered.

        Raises:
            CodecError: one cannot be had: of the rest nothing can be said about the whole pool.
        """
        for url in urls:
            if (url, token_file) not in self._fetched:
                self._fetched[url, token_file] = asyncio.create_task(self._fetch(url, token_file))
        fetched = [await asyncio.shield(self._fetched[url, token_file]) for url in urls]
        return min(at for at, _ in fetched), {address: page for _, pages in fetched for address, page in pages.items()}

    async def aclose(self) -> None:
        """End what is under way."""
        for task in self._fetched.values():
            task.cancel()
        await asyncio.gather(*self._fetched.values(), return_exceptions=True)

    async def _fetch(self, url: str, token_file: Path | None) -> _Fetched:
        try:
            headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
            if token_file is not None:
                headers["Authorization"] = f"Bearer {await asyncio.to_thread(_token, token_file)}"
            async with asyncio.timeout(self._timeout_seconds):
                addresses = await _addresses(url)
                # Nothing is decompressed: a few bytes could become gigabytes before anybody can count them.
                async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
                    host = {"Host": urlsplit(url).netloc}
                    pages = await asyncio.gather(
                        *(_page(session, address, headers | host) for address in addresses), return_exceptions=True
                    )
            for page in pages:
                if isinstance(page, BaseException):
                    raise page
            return self._clock.now(), dict(zip(addresses, map(str, pages), strict=True))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, CodecError) as error:
            raise CodecError(f"{url}: {str(error)[:300] or type(error).__name__}") from error


async def _addresses(url: str) -> list[str]:
    """The URL for each address of its host; by https the certificate is of the name, so it stays as it is."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return [url]
    port = parts.port or 80
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    # Of one family only: with both, each router would be there twice.
    family = socket.AF_INET if any(entry[0] == socket.AF_INET for entry in found) else socket.AF_INET6
    hosts = sorted({str(entry[4][0]) for entry in found if entry[0] == family})
    if len(hosts) > _MAX_ADDRESSES:
        raise CodecError(f"more than {_MAX_ADDRESSES} addresses")
    return [urlunsplit(parts._replace(netloc=f"[{h}]:{port}" if ":" in h else f"{h}:{port}")) for h in hosts]


async def _page(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> str:
    # No redirect is followed: it would carry the token to another host.
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        if answer.status != 200:
            raise CodecError(f"it answers with status {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise CodecError(f"its answer has more than {_MAX_BYTES} bytes")
    return body.decode("utf-8", "replace")


def _token(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
