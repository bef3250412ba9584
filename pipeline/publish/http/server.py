"""Serves the HTTP API and the board on the controller's event loop, with TLS where it is set."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from aiohttp import web

from pipeline.config.publish import PublishSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.publish.http.connection import Connection, most_connections
from pipeline.publish.http.tokens import Tokens
from pipeline.short_turns import take_short_turns

__all__ = ["HttpServer", "check_publish", "tls_context"]

SHUTDOWN_SECONDS = 2.0
MAX_LINE_BYTES = 32_768  # of the request line: queries by GET can be long
BACKLOG = 128  # connections that wait to be taken


class HttpServer:
    """An aiohttp application on ``settings.host`` and ``settings.port`` (0: any free one); a resource.

    A connection on which no complete request arrives within ``settings.header_timeout_seconds`` is closed; how many
    there may be, and how long a client may leave its answer lying, says ``pipeline.publish.http.connection``.
    """

    def __init__(self, app: web.Application, settings: PublishSettings) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._settings = settings
        self._listener: asyncio.Server | None = None
        self.port: int | None = None

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            ServerUnavailable: the port cannot be had.
            ConfigError: the certificate or its key cannot be used.
        """
        context = tls_context(self._settings)
        take_short_turns()  # this thread answers, beside others that want the core
        await self._runner.setup()
        assert self._runner.server is not None  # since it is set up
        loop = asyncio.get_running_loop()
        connection = partial(
            Connection,
            self._runner.server,
            most=most_connections(),
            loop=loop,
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            keepalive_timeout=self._settings.header_timeout_seconds,
        )
        host, port = self._settings.host, self._settings.port
        try:
            self._listener = await loop.create_server(connection, host, port, ssl=context, backlog=BACKLOG)
        except OSError as error:
            raise ServerUnavailable(f"cannot listen on {host}:{port} for the API: {error.strerror or error}") from error
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop serving."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._runner.cleanup()


def check_publish(settings: PublishSettings) -> None:
    """Make sure that the files that the settings name can be used.

    Raises:
        ConfigError: a token file, a certificate, a key or a folder of reports that cannot be used.
    """
    Tokens(None, settings.tokens_file)
    tls_context(settings)
    if settings.reports_folder is not None and not settings.reports_folder.is_dir():
        raise ConfigError(f"publish.reports_folder {settings.reports_folder} is not a folder")


def tls_context(settings: PublishSettings) -> ssl.SSLContext | None:
    """Return the TLS context that the settings ask for; None: plain HTTP.

    Raises:
        ConfigError: the certificate or its key cannot be used.
    """
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A passphrase must never be asked for on the terminal.
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"publish.tls_certificate_file and publish.tls_key_file cannot be used: {error.strerror or error}"
        ) from error
    return context
