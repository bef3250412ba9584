"""The part of the Kubernetes API that a fleet needs: the scale subresource, and ``status.readyReplicas`` of an object.

Plain REST (autoscaling/v1 ``Scale``; API conventions of Kubernetes 1.36) over the HTTP client that Tokentide has
anyway: the official client would bring its whole API for three requests.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pipeline.errors import TokentideError
from pipeline.fleet.kubernetes.options import KubernetesOptions

__all__ = ["KubernetesError", "ScaleApi"]

_MAX_BYTES = 4_000_000  # etcd keeps objects below 1.5 MiB
_MAX_TOKEN_BYTES = 65_536
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class KubernetesError(TokentideError):
    """The API server cannot be reached, refused a request, or its answer cannot be understood."""


class _ScaleSpec(msgspec.Struct):
    replicas: int = 0  # the API leaves out counts that are 0 (omitempty)


class _Scale(msgspec.Struct):
    kind: str
    spec: _ScaleSpec


class _ReadyStatus(msgspec.Struct, rename="camel"):
    ready_replicas: int = 0


class _Object(msgspec.Struct):
    status: _ReadyStatus | None = None


class _Refusal(msgspec.Struct):
    """A ``Status`` of the API, the body of every refusal."""

    message: str = ""
    reason: str = ""


T = TypeVar("T")


class ScaleApi:
    """One session with an API server. The token is read again for each request, since Kubernetes rotates it."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections; may be called without a request, and twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def replicas(self, path: str) -> int:
        """Return ``spec.replicas`` of the scale of the object at ``path``.

        Raises:
            KubernetesError: see there.
        """
        return self._spec_replicas(await self._request("GET", f"{path}/scale"))

    async def ready_replicas(self, path: str) -> int | None:
        """Return ``status.readyReplicas`` of the object at ``path``; None: no controller has written a status yet.

        Raises:
            KubernetesError: see there.
        """
        status = _decoded(await self._request("GET", path), _Object).status
        return None if status is None else status.ready_replicas

    async def set_replicas(self, path: str, replicas: int, *, dry_run: bool) -> int:
        """Set ``spec.replicas`` of the scale of the object at ``path``; return what the server has taken.

        Raises:
            KubernetesError: see there.
        """
        query = {"fieldManager": "tokentide", **({"dryRun": "All"} if dry_run else {})}
        change = msgspec.json.encode({"spec": {"replicas": replicas}})
        return self._spec_replicas(await self._request("PATCH", f"{path}/scale", query, change))

    @staticmethod
    def _spec_replicas(body: bytes) -> int:
        scale = _decoded(body, _Scale)
        if scale.kind != "Scale":
            raise KubernetesError(f"the API server answered with a {scale.kind[:64]!r} instead of a Scale")
        return scale.spec.replicas

    async def _request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, change: bytes | None = None
    ) -> bytes:
        try:
            session = await self._opened()
            headers = await asyncio.to_thread(self._headers)
            if change is not None:
                headers["Content-Type"] = "application/merge-patch+json"
            async with session.request(
                method, self._base() + path, params=query, data=change, headers=headers, allow_redirects=False
            ) as answer:
                body = await _body(answer.content)
                if answer.status != 200:
                    raise KubernetesError(f"{method} {path}: {answer.status} {_reason(body)}")
                return body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise KubernetesError(f"{method} {path}: {str(error)[:300] or type(error).__name__}") from error

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                context = await asyncio.to_thread(self._tls)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, limit=8),
                    timeout=aiohttp.ClientTimeout(total=self._options.timeout_seconds),
                )
            return self._session

    def _base(self) -> str:
        if self._options.server is not None:
            return self._options.server
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ValueError("not in a cluster (no KUBERNETES_SERVICE_HOST), and fleet.options.server is not set")
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def _tls(self) -> ssl.SSLContext:
        ca = self._options.ca_file
        return ssl.create_default_context(cafile=ca if ca is not None and ca.exists() else None)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "tokentide"}
        file, parts = self._options.token_file, urlsplit(self._base())
        if file is None or parts.scheme != "https":
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise ValueError("an API server of another machine is spoken to by https only")
            return headers
        headers["Authorization"] = f"Bearer {_token(file)}"
        return headers


def _token(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(_MAX_TOKEN_BYTES).decode("ascii").strip()


async def _body(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for part in content.iter_chunked(65_536):
        body += part
        if len(body) > _MAX_BYTES:
            raise ValueError(f"the answer is longer than {_MAX_BYTES} bytes")
    return bytes(body)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise KubernetesError(f"the API server's answer cannot be understood: {str(error)[:200]}") from error


def _reason(body: bytes) -> str:
    try:
        refusal: Any = msgspec.json.decode(body, type=_Refusal)
    except (ValueError, RecursionError):
        return ""
    return str(refusal.message or refusal.reason)[:300]
