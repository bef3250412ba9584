"""HTML reports (of ``tokentide backtest``, ``evaluate`` and others) in one folder: listed, and served read-only.

Only regular files ``*.html`` directly in the folder are there for anybody. A report is shown in a sandbox of its own:
its own scripts and styles run, and it can reach neither this server nor any other.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web

from pipeline.publish.json import to_json
from pipeline.publish.problem import SECURITY_HEADERS, ProblemError

__all__ = ["Reports"]

#: Reports in one list (the newest), and entries of the folder that are looked at for it.
MAX_LISTED = 200
MAX_ENTRIES = 20_000
#: Larger files are listed, and not served. A backtest carries Plotly (5 MB) beside the points of its charts.
MAX_BYTES = 64 * 2**20
#: Reports that are sent at a time. One whose reader takes nothing for so many seconds is given up.
MAX_SENT = 8
SLOW_SECONDS = 20.0
RETRY_SECONDS = 2
_CHUNK_BYTES = 256 * 1024
_SUFFIX = ".html"

#: Inline scripts and styles only, nothing is loaded or sent. ``sandbox``: of no origin, so it has no rights here.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Reports:
    """Answers for the reports in ``folder`` (None: there are none). ``read`` lists it in a thread, in turn."""

    def __init__(self, folder: Path | None, read: Callable[[Callable[[], bytes]], Awaitable[bytes]]) -> None:
        self._folder = folder
        self._read = read
        self._sent = 0

    async def listed(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Answer with the newest reports: name, time of the last change (epoch seconds), size in bytes.

        ``folder_set`` is False where ``publish.reports_folder`` is not set.

        Raises:
            ProblemError: 503, the folder cannot be read.
        """
        folder = self._folder
        if folder is None:  # no error: a browser would log one
            return _json(to_json({"folder_set": False, "reports": [], "truncated": False}))
        try:
            body = await self._read(lambda: to_json({"folder_set": True, **_list(folder)}))
        except OSError as error:
            raise ProblemError(503, f"publish.reports_folder cannot be read: {error.strerror}") from error
        return _json(body)

    async def report(self, request: web.Request) -> web.StreamResponse:
        """Answer with one report, piece by piece.

        Raises:
            ProblemError: 404, there is no such report; 413, it is too large; 503, too many are being sent.
        """
        folder, name = self._known_folder(), request.match_info["name"]
        if self._sent >= MAX_SENT:
            raise ProblemError(503, f"{MAX_SENT} reports are being sent already", retry_after=RETRY_SECONDS)
        self._sent += 1
        try:
            file = await asyncio.to_thread(_open, folder, name)
            with file:
                return await _send(request, file)
        finally:
            self._sent -= 1

    def _known_folder(self) -> Path:
        if self._folder is None:
            raise ProblemError(404, "publish.reports_folder is not set: there are no reports (docs/board.md)")
        return self._folder


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


async def _send(request: web.Request, file: BinaryIO) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            **SECURITY_HEADERS,  # when the handler returns, it is too late for them
            "Content-Security-Policy": REPORT_POLICY,
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(request)
    left = MAX_BYTES  # it may grow meanwhile
    try:
        while chunk := await asyncio.to_thread(file.read, min(_CHUNK_BYTES, left)):
            await asyncio.wait_for(response.write(chunk), SLOW_SECONDS)
            left -= len(chunk)
    except (OSError, TimeoutError):  # the reader has gone or takes nothing, or the file cannot be read any more
        if request.transport is not None:
            request.transport.abort()  # an orderly end would say that this was all
    return response


def _is_name(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".") and "/" not in name and name.isprintable()


def _open(folder: Path, name: str) -> BinaryIO:
    """Open a report: no link is followed, and a pipe is not waited for."""
    if not _is_name(name):
        raise ProblemError(404, "no such report")
    try:
        where = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
        finally:
            os.close(where)
    except OSError as error:
        raise ProblemError(404, "no such report") from error
    told = os.fstat(number)
    if stat.S_ISREG(told.st_mode) and told.st_size <= MAX_BYTES:
        return os.fdopen(number, "rb")
    os.close(number)
    if stat.S_ISREG(told.st_mode):
        raise ProblemError(413, f"the report has more than {MAX_BYTES} bytes")
    raise ProblemError(404, "no such report")


def _list(folder: Path) -> dict[str, Any]:
    with os.scandir(folder) as entries:
        found = list(_reports(islice(entries, MAX_ENTRIES)))
        cut = next(entries, None) is not None
    newest = heapq.nlargest(MAX_LISTED, found)
    return {
        "reports": [
            {"name": name, "modified_at": at, "bytes": size, "served": size <= MAX_BYTES} for at, name, size in newest
        ],
        "truncated": cut or len(found) > MAX_LISTED,
    }


def _reports(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[float, str, int]]:
    for entry in entries:
        if not _is_name(entry.name):  # also names that are no UTF-8: they are not printable
            continue
        try:
            if entry.is_file(follow_symlinks=False):
                told = entry.stat(follow_symlinks=False)
                yield told.st_mtime, entry.name, told.st_size
        except OSError:
            continue  # it has gone meanwhile
