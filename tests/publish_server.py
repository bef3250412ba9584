"""The application of pipeline.publish in a thread, over a synthetic fleet."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pipeline.config.settings import PublishSettings
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.publish.api import create_app
from pipeline.publish.http.server import HttpServer
from tests.publish_feed import Feed
from tests.waiting import scaled


class Server:
    """The application on a free loopback port, in a thread of its own, with ``settings`` of section publish."""

    def __init__(self, feed: Feed, token: str | None = None, **settings: Any) -> None:
        self.feed = feed
        self.settings = PublishSettings(**{"port": 0, "bearer_token": token, **settings})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._http: HttpServer | None = None
        self.port = 0
        self.marks: list[CalendarRecord] = []

    @property
    def url(self) -> str:
        scheme = "http" if self.settings.tls_key_file is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self._thread.start()
        self._start(self.settings)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(scaled(10))
        self._loop.close()

    def _start(self, settings: PublishSettings) -> None:
        app = create_app(self.feed.live, self.feed, settings, self.feed.clock, send_feedback=self._mark)
        http = HttpServer(app, settings)
        asyncio.run_coroutine_threadsafe(http.start(), self._loop).result(scaled(20))
        assert http.port is not None
        self._http, self.port = http, http.port

    def connections(self) -> int:
        """How many are open."""
        assert self._http is not None
        assert self._http._runner.server is not None
        return len(self._http._runner.server.connections)

    async def _mark(self, record: CalendarRecord) -> None:
        self.marks.append(record)

    def stop(self) -> None:
        if self._http is not None:
            asyncio.run_coroutine_threadsafe(self._http.stop(), self._loop).result(scaled(20))
            self._http = None

    def start_again(self) -> None:
        self._start(self.settings.model_copy(update={"port": self.port}))
