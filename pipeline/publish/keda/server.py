"""Serves the external scaler over gRPC on the controller's event loop, with mutual TLS."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from pipeline.config.publish import PublishSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.publish.state import LiveState

__all__ = ["KedaServer"]

_log = logging.getLogger(__name__)

_MOST_FILE_BYTES = 1_000_000
_OPTIONS = (
    ("grpc.max_receive_message_length", 65_536),
    ("grpc.so_reuseport", 0),  # a second controller must not share the port
)
_MOST_CALLS = 4_000


class KedaServer:
    """The external scaler on ``publish.host`` and ``publish.keda_port`` (0: any free one); a resource.

    Certificates are read again for each connection, so that rotated ones are taken up.

    Raises:
        ConfigError: the extra ``keda`` (grpcio) is not installed.
    """

    def __init__(self, live: LiveState, settings: PublishSettings) -> None:
        try:
            from grpc import aio

            from pipeline.publish.keda.scaler import ExternalScaler
        except ImportError as error:
            raise ConfigError("publish.keda_port needs the extra keda: pip install 'tokentide[keda]'") from error
        self._aio: Any = aio
        self._handler = ExternalScaler(live.pool).handler()
        self._settings = settings
        self._server: Any = None
        self.port: int | None = None

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: a certificate cannot be read.
            ServerUnavailable: the port cannot be had.
        """
        credentials = await asyncio.to_thread(self._credentials)
        # Made here: it belongs to the event loop that runs.
        self._server = self._aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
        self._server.add_generic_rpc_handlers((self._handler,))
        host = self._settings.host
        address = f"[{host}]:{self._settings.keda_port}" if ":" in host else f"{host}:{self._settings.keda_port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
            await self._server.start()
        except RuntimeError as error:
            raise ServerUnavailable(f"cannot listen on {address} for KEDA: {error}") from error

    async def stop(self) -> None:
        """Stop serving; may be called without ``start``, and twice."""
        if self._server is not None:
            await self._server.stop(grace=1.0)
            self._server = None

    def _credentials(self) -> Any:
        import grpc

        files = self._settings.keda_tls_files()
        if files is None:
            return None

        def configuration() -> Any:
            certificate, key, client_ca = map(_read, files)
            return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)

        def current() -> Any:
            try:
                return configuration()
            except ConfigError as error:
                _log.warning("%s; the certificates of before stay in use", error)
                return None

        return grpc.dynamic_ssl_server_credentials(configuration(), current, require_client_authentication=True)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read for publish.keda_port: {error.strerror or error}") from error
