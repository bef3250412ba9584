"""Serves the HTTP API and the board on the controller's event loop, with TLS where it is set."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pipeline.config.publish import PublishSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.publish.http.tokens import Tokens
from pipeline.publish.problem import problem_response

__all__ = ["HttpServer", "check_publish", "tls_context"]

SHUTDOWN_SECONDS = 2.0
MAX_LINE_BYTES = 32_768  # of the request line: queries by GET can be long
BACKLOG = 128  # connections that wait to be taken


class _Connection(web.RequestHandler):
    """aiohttp's connection, with a problem document for what is no HTTP, and without a line in the log for each."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        too_long = isinstance(exc, LineTooLong)
        response = problem_response(
            status, "the request line or a header is too long" if too_long else "the request is not valid HTTP"
        )
        response.force_close()
        return response


class HttpServer:
    """An aiohttp application on ``settings.host`` and ``settings.port`` (0: any free one); a resource.

    A connection on which no complete request arrives within ``settings.header_timeout_seconds`` is closed.
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
        await self._runner.setup()
        assert self._runner.server is not None  # since it is set up
        loop = asyncio.get_running_loop()
        connection = partial(
            _Connection,
            self._runner.server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_LINE_BYTES,
            keepalive_timeout=self._settings.header_timeout_seconds,
        )
        host, port = self._settings.host, self._settings.port
        try:
            self._listener = await loop.create_server(connection, host, port, ssl=context, backlog=BACKLOG)
        except OSError as error:
            raise ServerUnavailable(f"{host}:{port} cannot be had for the API: {error.strerror or error}") from error
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
