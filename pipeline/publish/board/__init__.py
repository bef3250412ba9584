"""The live board: one page, its style and its script, served from the package; nothing is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
from aiohttp import web

from pipeline.alerts.rule import AlertRule
from pipeline.alerts.rule_registry import engine_kinds
from pipeline.publish.board.data import BoardData
from pipeline.publish.board.reports import Reports

__all__ = ["BoardData", "Reports", "alert_kinds", "routes"]

_STATIC = Path(__file__).resolve().parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript"}


def plotly_script() -> Path:
    """Return the path of the plotly.min.js that the installed plotly package ships."""
    import plotly

    return Path(plotly.__file__).resolve().parent / "package_data" / "plotly.min.js"


def alert_kinds(rules: Sequence[AlertRule]) -> list[dict[str, str | None]]:
    """Return how the board shows each kind of alert of the engine, in the order of its summary."""
    return [
        {
            "name": rule.name,
            "title": rule.engine.title,
            "one": rule.engine.one,
            "many": rule.engine.many,
            "colour": rule.engine.colour,
            "spike": None if rule.engine.spike is None else rule.engine.spike.spike,
        }
        for rule in engine_kinds(rules)
        if rule.engine is not None
    ]


def routes(rules: Sequence[AlertRule], data: BoardData, reports: Reports) -> list[web.RouteDef]:
    """Return the routes ``/``, ``/static/…`` and ``/board/…``; ``rules`` are the alert rules in force."""
    kinds = msgspec.json.encode({"kinds": alert_kinds(rules)})

    async def kinds_of_alerts(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
        return web.Response(body=kinds, content_type="application/json", headers={"Cache-Control": "no-cache"})

    return [
        web.get("/", _page),
        web.get("/static/plotly.min.js", _plotly),
        web.get("/static/alert-kinds.json", kinds_of_alerts),
        web.get("/static/{name}", _static),
        web.get("/board/overview", data.overview),
        web.get("/board/stream", data.stream.serve, allow_head=False),
        web.get("/board/reports", reports.listed),
        web.get("/board/reports/{name}", reports.report, allow_head=False),
        web.get("/board/pools/{model:.+}/{pool:[^/]+}/past-forecasts", data.past),
        web.get("/board/pools/{model:.+}/{pool:[^/]+}", data.pool),
    ]


async def _page(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
    return _file(_STATIC / "index.html", "text/html", "no-cache")


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    content_type = _files().get(name)
    if content_type is None:
        raise web.HTTPNotFound(text="no such file")
    return _file(_STATIC / name, content_type, "no-cache")


@cache
def _files() -> dict[str, str]:
    """The scripts and styles that there are, and their types: nothing else is served."""
    return {path.name: _TYPES[path.suffix] for path in _STATIC.iterdir() if path.suffix in _TYPES}


async def _plotly(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
    return _file(plotly_script(), "text/javascript", "private, max-age=86400")


def _file(path: Path, content_type: str, cache_control: str) -> web.StreamResponse:
    return web.FileResponse(
        path, headers={"Content-Type": f"{content_type}; charset=utf-8", "Cache-Control": cache_control}
    )
