"""The route table: what the server serves and what the OpenAPI document describes are made of the same entries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.publish.http.parameter import Parameter

__all__ = ["ROUTE", "Role", "Route", "add_routes"]


class Role(StrEnum):
    """What a caller may do. ``read`` is all that looks; ``calendar`` is to change the calendar of known events."""

    READ = "read"
    CALENDAR = "calendar"


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of the table.

    ``path`` is in OpenAPI's notation; ``{model}`` also takes names with slashes, written plainly. ``answer`` is the
    JSON Schema of a 200 (references: ``#/components/schemas/…``); None: the answer is no JSON, and ``media_type`` says
    what it is. ``problems`` are the statuses answered with a problem document, beside 401 and 403, which follow from
    ``role`` (None: open to everybody). ``body`` is the JSON Schema of what a POST takes; None: a form of its
    parameters. Entries that are not ``listed`` (pages, scripts) are not in the document.
    """

    path: str
    operation: str
    summary: str
    handler: Handler
    answer: Mapping[str, Any] | None = None
    parameters: tuple[Parameter[Any], ...] = ()
    problems: tuple[int, ...] = ()
    media_type: str = "application/json"
    role: Role | None = Role.READ
    methods: tuple[str, ...] = ("GET",)
    listed: bool = True
    described: str = ""  # what a good answer is, in a few words
    body: Mapping[str, Any] | None = None
    status: int = 200  # of a good answer
    refusals: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # those that are no problem documents

    @property
    def pattern(self) -> str:
        """The path as aiohttp's router takes it."""
        return re.sub(r"\{model\}", "{model:.+}", re.sub(r"\{pool\}", "{pool:[^/]+}", self.path))


#: The table of an application by path; aiohttp's ``resource.canonical`` is that path.
ROUTE: web.AppKey[dict[str, Route]] = web.AppKey("routes", dict)


def add_routes(app: web.Application, table: Iterable[Route]) -> None:
    """Serve the routes of a table, in its order: the first pattern that fits a path answers."""
    known = app.setdefault(ROUTE, {})
    for route in table:
        for method in route.methods:
            app.router.add_route(method, route.pattern, route.handler)
            if method == "GET":
                app.router.add_route("HEAD", route.pattern, route.handler)
        known[route.path] = route
