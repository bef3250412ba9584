"""Answers in JSON: encoded once, with an entity tag, compressed for those that take it, 304 for those that have it."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections import OrderedDict
from concurrent.futures import Executor
from typing import Any

from aiohttp import web
from aiohttp.helpers import ETAG_ANY
from aiohttp.typedefs import Handler

from pipeline.publish.json import to_json

__all__ = ["Compressor", "entity_tag", "json_answer", "tagged", "timed_answer"]

#: Answers shorter than that, in bytes, are sent as they are.
COMPRESSED_FROM = 1_024
#: Of zlib; higher levels take several times as long for a tenth less.
LEVEL = 1
#: Compressed answers that are kept, in bytes together.
KEPT_BYTES = 16_000_000
#: Metrics: megabytes that are never the same again. To look for them among what is kept would hold the event loop.
METRICS_TYPE = "text/plain"
CONTENT_TYPES = ("application/json", METRICS_TYPE, "text/javascript", "text/html", "text/css")


def json_answer(data: Any, *, cache_control: str = "private, no-cache") -> web.Response:
    """Return ``data`` as JSON, with an entity tag that is its hash."""
    return tagged(to_json(data), cache_control=cache_control)


def timed_answer(now: float, members: bytes) -> web.Response:
    """Return a JSON object with ``now`` and further ``members`` (an encoded object that is not empty).

    The entity tag is that of the members, so that an answer of which only ``now`` differs is unchanged.
    """
    return tagged(b'{"now":' + to_json(now) + b"," + members[1:], entity_tag(members))


def entity_tag(body: bytes) -> str:
    """Return a hash of a body, as the value of a weak entity tag (RFC 9110, 8.8.3)."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def tagged(
    body: bytes,
    tag: str | None = None,
    *,
    content_type: str = "application/json",
    cache_control: str = "private, no-cache",
) -> web.Response:
    """Return a body with an entity tag (None: its hash); caches ask again each time, unless told otherwise."""
    response = web.Response(body=body, content_type=content_type)
    response.headers["ETag"] = f'W/"{entity_tag(body) if tag is None else tag}"'
    response.headers["Cache-Control"] = cache_control
    return response


def _unchanged(request: web.Request, response: web.StreamResponse) -> bool:
    """Whether the client has what the response would say (If-None-Match, weak comparison)."""
    told, has = request.if_none_match, response.etag
    return bool(told) and has is not None and any(tag.value in (ETAG_ANY, has.value) for tag in told or ())


class Compressor:
    """A middleware: 304 for what the client has, gzip for those that take it.

    Compressing runs in ``executor`` without the interpreter's lock, and once for all who ask for the same answer.
    """

    def __init__(self) -> None:
        self.executor: Executor | None = None
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0

    @property
    def middleware(self) -> Any:
        """What the application is given."""

        @web.middleware
        async def conditional(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            if response.status != 200 or request.method not in ("GET", "HEAD"):
                return response
            if _unchanged(request, response):
                kept = {n: response.headers[n] for n in ("ETag", "Cache-Control") if n in response.headers}
                return web.Response(status=304, headers={**kept, "Vary": "Accept-Encoding"})
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                await self._compress(request, response, response.body)
            return response

        return conditional

    async def _compress(self, request: web.Request, response: web.Response, body: bytes) -> None:
        if len(body) < COMPRESSED_FROM or response.content_type not in CONTENT_TYPES:
            return
        response.headers["Vary"] = "Accept-Encoding"
        if not _takes_gzip(request.headers.get("Accept-Encoding", "")):
            return
        if response.content_type == METRICS_TYPE:
            response.body = await asyncio.get_running_loop().run_in_executor(self.executor, _gzip, body)
            response.headers["Content-Encoding"] = "gzip"
            return
        # A tag is of what may be compared; the key must also tell apart answers of which only the time differs.
        key = request.path_qs, entity_tag(body)
        short = self._kept.get(key)
        if short is None:
            short = await asyncio.get_running_loop().run_in_executor(self.executor, _gzip, body)
            self._keep(key, short)
        response.body = short
        response.headers["Content-Encoding"] = "gzip"

    def _keep(self, key: tuple[str, str], body: bytes) -> None:
        if key not in self._kept:
            self._kept[key] = body
            self._bytes += len(body)
        while self._bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)


def _takes_gzip(accepted: str) -> bool:
    """Whether Accept-Encoding names gzip, or ``*``, with a weight above 0 (RFC 9110, 12.5.3)."""
    for part in accepted.lower().replace(" ", "").split(","):
        coding, _, weight = part.partition(";q=")
        if coding in ("gzip", "*"):
            return weight.strip("0.") != "" if weight else True
    return False


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()
