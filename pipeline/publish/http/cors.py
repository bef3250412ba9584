"""Cross-origin reads: which pages of other origins a browser lets read the answers (the Fetch standard, 3.2)."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["cross_origin"]

PREFLIGHT_SECONDS = 600


def cross_origin(origins: Collection[str]) -> Middleware:
    """Return a middleware that lets pages of ``origins`` (``https://host[:port]``; ``*``: any) read."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        allowed = origin in origins or ("*" in origins and origin != "")
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = web.Response(status=204) if allowed and asked else await handler(request)
        response.headers["Vary"] = ", ".join(filter(None, (response.headers.get("Vary"), "Origin")))
        if allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"
        if allowed and asked:
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-None-Match"
            response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response

    return middleware
