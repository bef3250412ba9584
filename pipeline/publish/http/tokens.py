"""Who may do what: bearer tokens with roles, from the settings and from a file that is read again when it changes.

A line of the file is the roles of a token, separated by commas, and the token; empty lines and lines that begin with
``#`` say nothing:

    read 6f1f0a…
    read,calendar 0b77c2…
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.errors import ConfigError
from pipeline.publish.http.route import ROUTE, Role
from pipeline.publish.problem import ProblemError, problem_response

__all__ = ["Token", "Tokens", "guard", "parse_tokens"]

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 1_000_000


class Token(NamedTuple):
    """A secret and what its bearer may do."""

    secret: bytes
    roles: frozenset[Role]


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens of a file.

    Raises:
        ValueError: a line is not roles and a token, names no known role, or there is no token at all.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 2:
            raise ValueError(f"line {number}: 'ROLES TOKEN' is needed, such as 'read 6f1f0a27'")
        try:
            roles = frozenset(Role(name) for name in parts[0].split(","))
        except ValueError:
            raise ValueError(f"line {number}: the roles are {' and '.join(Role)}, not {parts[0]!r}") from None
        found.append(Token(parts[1].encode(), roles))
    if not found:
        raise ValueError("there is no token")
    return tuple(found)


class Tokens:
    """The tokens in force. ``secret`` (of the settings) has every role; ``path`` is the file, looked at on each call.

    A file that cannot be read or understood any more leaves the tokens of before in force, and the log says so once.

    Raises:
        ConfigError: the file cannot be read or understood at the start.
    """

    def __init__(self, secret: str | None, path: Path | None) -> None:
        self._own = () if secret is None else (Token(secret.encode(), frozenset(Role)),)
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._of_file: tuple[Token, ...] = ()
        if path is not None:
            try:
                self._seen, self._of_file = _stamp(path), _read(path)
            except (OSError, ValueError) as error:
                raise ConfigError(f"publish.tokens_file {path}: {error}") from error

    @property
    def needed(self) -> bool:
        """Whether callers need a token at all."""
        return bool(self._own) or self._path is not None

    def roles(self, presented: bytes) -> frozenset[Role]:
        """Return what the bearer of a token may do; nothing for an unknown one. Takes the same time for any token."""
        found: frozenset[Role] = frozenset()
        for token in (*self._own, *self._current()):
            if hmac.compare_digest(token.secret, presented):
                found |= token.roles
        return found

    def _current(self) -> Sequence[Token]:
        if self._path is None:
            return ()
        try:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self._of_file = _read(self._path)
        except (OSError, ValueError) as error:
            if self._seen is not None:
                log.error("publish.tokens_file %s: %s; the tokens of before stay in force", self._path, error)
            if isinstance(error, OSError):
                self._seen = None
        return self._of_file


def _stamp(path: Path) -> tuple[int, int, int]:
    told = os.stat(path)
    return told.st_mtime_ns, told.st_size, told.st_ino


def _read(path: Path) -> tuple[Token, ...]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {MAX_FILE_BYTES} bytes")
    return parse_tokens(path.read_text(encoding="utf-8"))


def guard(tokens: Tokens) -> Middleware:
    """Return a middleware that asks for a token with the role of the route: as a bearer token, or as a Basic password
    (browsers can send that).

    Routes without a role are open, so that probes need no secret. Where no token is set, everybody may read, and
    nobody may do more.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = None if resource is None else request.app[ROUTE].get(resource.canonical)
        role = Role.READ if route is None else route.role
        if role is None:
            return await handler(request)
        if not tokens.needed:
            if role is not Role.READ:
                raise ProblemError(403, f"this needs a token with the role {role}; set publish.tokens_file")
            return await handler(request)
        roles = tokens.roles(_presented(request))
        if role in roles:
            return await handler(request)
        if roles:
            raise ProblemError(403, f"the token has not the role {role}")
        known = "Authorization" in request.headers
        response = problem_response(401, "the token is not known" if known else "a bearer token is needed")
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
