"""Answers in JSON: encoded once, with an entity tag, compressed for those that take it, 304 for those that have it.

An answer that is asked for again may be kept as ``Ready`` or ``Timed``: then it is compressed once, too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.helpers import ETAG_ANY
from aiohttp.typedefs import Handler

from pipeline.publish.http.gzip_pieces import Piece, as_it_is, gzipped, piece
from pipeline.publish.json import to_json

__all__ = [
    "Compressor",
    "Ready",
    "Timed",
    "entity_tag",
    "json_answer",
    "tagged",
    "takes_gzip",
    "timed_answer",
]

#: Answers shorter than that, in bytes, are sent as they are.
COMPRESSED_FROM = 1_024
#: Answers up to that are compressed where they are made, in 0.1 ms: to wait for a thread takes longer.
COMPRESSED_AT_ONCE = 16_000
#: Compressed answers that are kept, in bytes together.
KEPT_BYTES = 16_000_000
CONTENT_TYPES = ("application/json", "text/plain", "text/javascript", "text/html", "text/css")


def json_answer(data: Any, *, cache_control: str = "private, no-cache") -> web.Response:
    """Return ``data`` as JSON, with an entity tag that is its hash."""
    return tagged(to_json(data), cache_control=cache_control)


def timed_answer(now: float, members: bytes) -> web.Response:
    """Return a JSON object with ``now`` and further ``members`` (an encoded object that is not empty).

    The entity tag is that of the members, so that an answer of which only ``now`` differs is unchanged.
    """
    return tagged(_now(now) + members[1:], entity_tag(members))


class Ready(NamedTuple):
    """An answer as it is sent; ``packed`` is in gzip (None: it is too short)."""

    body: bytes
    tag: str
    packed: bytes | None

    @classmethod
    def of(cls, body: bytes, tag: str | None = None) -> Ready:
        """Make an answer of a body; ``tag`` None: its hash."""
        packed = gzipped([piece(body)]) if len(body) >= COMPRESSED_FROM else None
        return cls(body, entity_tag(body) if tag is None else tag, packed)

    @property
    def size(self) -> int:
        """What it takes of memory, bytes."""
        return len(self.body) + len(self.packed or b"")

    def answer(self, request: web.Request, *, cache_control: str = "private, no-cache") -> web.Response:
        """Return what is sent to who asks."""
        packed = self.packed
        return _sent(request, self.tag, cache_control, lambda: self.body, None if packed is None else lambda: packed)


class Timed(NamedTuple):
    """A JSON object that is sent with ``now``: its other members but for the opening brace, also as a piece of gzip."""

    members: bytes
    tag: str
    packed: Piece

    @classmethod
    def of(cls, members: bytes) -> Timed:
        """Make it of an encoded object that is not empty; as for ``timed_answer`` the tag is that of the object."""
        return cls(members[1:], entity_tag(members), piece(members[1:]))

    @property
    def size(self) -> int:
        """What it takes of memory, bytes."""
        return len(self.members) + len(self.packed.deflated)

    def answer(self, request: web.Request, now: float) -> web.Response:
        """Return what is sent to who asks at ``now`` (epoch seconds)."""
        begin = _now(now)
        long = len(begin) + len(self.members) >= COMPRESSED_FROM
        packed = (lambda: gzipped((as_it_is(begin), self.packed))) if long else None
        return _sent(request, self.tag, "private, no-cache", lambda: begin + self.members, packed)


def _sent(
    request: web.Request, tag: str, cache_control: str, body: Callable[[], bytes], packed: Callable[[], bytes] | None
) -> web.Response:
    """An answer in JSON in the form that the client takes; ``packed`` is in gzip, None: it is too short."""
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": cache_control}
    if packed is not None:
        headers["Vary"] = "Accept-Encoding"
        if takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=packed(), content_type="application/json", headers=headers)
    return web.Response(body=body(), content_type="application/json", headers=headers)


def _now(now: float) -> bytes:
    return b'{"now":' + to_json(now) + b","


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

    Compressing runs in ``executor`` without the interpreter's lock, and once for all who ask for the same answer. What
    has an encoding already is sent as it is.
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
        if len(body) < COMPRESSED_FROM and "Content-Encoding" not in response.headers:
            return
        if response.content_type not in CONTENT_TYPES:
            return
        response.headers["Vary"] = "Accept-Encoding"
        if "Content-Encoding" in response.headers or not takes_gzip(request):
            return
        if len(body) <= COMPRESSED_AT_ONCE:
            response.body = _gzip(body)
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


def takes_gzip(request: web.BaseRequest) -> bool:
    """Whether Accept-Encoding takes gzip (RFC 9110, 12.5.3): by name, or by ``*`` where it does not name it."""
    accepted = request.headers.get("Accept-Encoding", "")
    taken: dict[str, bool] = {}
    for part in accepted.lower().replace(" ", "").split(","):
        coding, _, weight = part.partition(";q=")
        taken[coding] = not weight or weight.strip("0.") != ""
    return taken.get("gzip", taken.get("*", False))


def _gzip(body: bytes) -> bytes:
    return gzipped([piece(body)])
