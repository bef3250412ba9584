"""HTTP errors as RFC 9457 problem documents, access control, and the headers that every answer carries."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.errors import InputError, TokentideError
from pipeline.publish.json import to_json

__all__ = ["ProblemError", "problem_response", "require_token", "secure"]

log = logging.getLogger(__name__)


#: Answered without a token, so that probes need no secret.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

#: Plotly writes inline styles; scripts come from this server only.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ProblemError(Exception):
    """An HTTP error with a text for the caller."""

    def __init__(self, status: int, detail: str, kind: str = "about:blank") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind


def problem_response(status: int, detail: str, kind: str = "about:blank") -> web.Response:
    """Return a problem document (``application/problem+json``, RFC 9457)."""
    body = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = web.Response(body=to_json(body), status=status, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


@web.middleware
async def secure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document, refuse bodies of state-changing methods, add the security headers."""
    try:
        response = await handler(request)
    except ProblemError as error:
        response = problem_response(error.status, error.detail, error.kind)
    except InputError as error:
        response = problem_response(400, str(error))
    except web.HTTPException as error:
        response = problem_response(error.status, error.text or error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except TokentideError as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        response = problem_response(503, str(error))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        response = problem_response(500, "internal error; the log has the details")
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def require_token(token: str) -> Middleware:
    """Return a middleware that asks for ``token``: as a bearer token, or as a Basic password (browsers can send that).

    ``/healthz`` and ``/readyz`` stay open.
    """
    expected = token.encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS or hmac.compare_digest(_presented(request), expected):
            return await handler(request)
        response = problem_response(401, "a bearer token is needed")
        response.headers.add("WWW-Authenticate", 'Bearer realm="tokentide"')
        response.headers.add("WWW-Authenticate", 'Basic realm="tokentide", charset="UTF-8"')
        return response

    return middleware


def _presented(request: web.Request) -> bytes:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
