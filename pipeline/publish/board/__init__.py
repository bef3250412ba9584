"""The live board: one page, its style and its script, served from the package; nothing is fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

__all__ = ["routes"]

_FOLDER = Path(__file__).resolve().parent
_FILES = {"board.css": "text/css", "board.js": "text/javascript", "chart.js": "text/javascript"}


def plotly_script() -> Path:
    """Return the path of the plotly.min.js that the installed plotly package ships."""
    import plotly

    return Path(plotly.__file__).resolve().parent / "package_data" / "plotly.min.js"


def routes() -> list[web.RouteDef]:
    """Return the routes ``/`` and ``/static/…``."""
    return [
        web.get("/", _page),
        web.get("/static/plotly.min.js", _plotly),
        web.get("/static/{name}", _static),
    ]


async def _page(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
    return _file(_FOLDER / "index.html", "text/html", "no-cache")


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound(text="no such file")
    return _file(_FOLDER / name, _FILES[name], "no-cache")


async def _plotly(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
    return _file(plotly_script(), "text/javascript", "private, max-age=86400")


def _file(path: Path, content_type: str, cache_control: str) -> web.StreamResponse:
    return web.FileResponse(
        path, headers={"Content-Type": f"{content_type}; charset=utf-8", "Cache-Control": cache_control}
    )
