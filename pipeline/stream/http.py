"""Serves the HTTP API and the board on the controller's event loop."""

from __future__ import annotations

from aiohttp import web

from pipeline.errors import ServerUnavailable
from pipeline.settings import PublishSettings

__all__ = ["HttpServer"]


class HttpServer:
    """An aiohttp application on ``settings.host`` and ``settings.port`` (0: any free one); a resource."""

    def __init__(self, app: web.Application, settings: PublishSettings) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        self._settings = settings
        self.port: int | None = None

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            ServerUnavailable: the port cannot be had.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except OSError as error:
            raise ServerUnavailable(
                f"{self._settings.host}:{self._settings.port} cannot be had for the API: {error.strerror or error}"
            ) from error
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()
