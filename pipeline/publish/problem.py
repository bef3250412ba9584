"""HTTP errors as RFC 9457 problem documents, and the headers that every answer carries."""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.errors import InputError, TokentideError
from pipeline.publish.json import to_json

__all__ = ["ProblemError", "problem_response", "secure"]

log = logging.getLogger(__name__)

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
    """An HTTP error with a text for the caller; ``retry_after`` seconds is when it may help to ask again."""

    def __init__(self, status: int, detail: str, kind: str = "about:blank", *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.retry_after = retry_after


def problem_response(status: int, detail: str, kind: str = "about:blank") -> web.Response:
    """Return a problem document (``application/problem+json``, RFC 9457)."""
    body = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = web.Response(body=to_json(body), status=status, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _detail(error: web.HTTPException) -> str:
    """What the router's refusals mean; others say it themselves."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return f"{' and '.join(allowed)} {'is' if len(allowed) == 1 else 'are'} served here, not {error.method[:32]}"
    if error.text == f"404: {error.reason}":
        return "there is nothing at this path"
    return error.text or error.reason


@web.middleware
async def secure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document, refuse bodies of state-changing methods, add the security headers."""
    try:
        response = await handler(request)
    except ProblemError as error:
        response = problem_response(error.status, error.detail, error.kind)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
    except InputError as error:
        response = problem_response(400, str(error))
    except web.HTTPException as error:
        response = problem_response(error.status, _detail(error))
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
