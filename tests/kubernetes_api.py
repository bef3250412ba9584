"""An API server for the tests that speaks the part of Kubernetes' REST API which fleets use; no cluster behind it.

It follows the API conventions and autoscaling/v1: counts of 0 are left out, refusals are ``Status`` objects, a patch
needs a patch media type (415), ``dryRun=All`` keeps nothing, ``system:unauthenticated`` may do nothing (401).
"""

from __future__ import annotations

import copy
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["KubernetesApi"]


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


class KubernetesApi:
    """Objects by path, each with the replicas that are wanted and that are ready; a context manager.

    Args:
        certificates: folder of ``server.pem``; None: http.
        token: what clients must present; None: nothing is asked.
    """

    def __init__(self, certificates: Path | None = None, token: str | None = None) -> None:
        self.token = token
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        #: By path: status and body to answer with instead, and the most replicas that the server grants.
        self.broken: dict[str, tuple[int, bytes]] = {}
        self.most: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self._server.server_port}"

    def __enter__(self) -> KubernetesApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, path: str, kind: str, replicas: int, ready: int | None = 0) -> None:
        """An object at a path such as /apis/apps/v1/namespaces/n/deployments/d; ``ready`` None: no status yet."""
        group_version = "/".join(path.split("/")[2:4])
        self.objects[path] = {"apiVersion": group_version, "kind": kind, "replicas": replicas, "ready": ready}

    def answer(self, method: str, url: str, authorization: str, media_type: str, body: bytes) -> tuple[int, Any]:
        """Status and object of one request."""
        parts = urlsplit(url)
        self.requests.append((method, url))
        if self.token is not None and authorization != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if parts.path in self.broken:
            return self.broken[parts.path]
        path = parts.path.removesuffix("/scale")
        found = self.objects.get(path)
        if found is None:
            return _status(404, "NotFound", f'"{path.rpartition("/")[2]}" not found')
        if path == parts.path:
            return (200, self._object(path, found)) if method == "GET" else _status(405, "MethodNotAllowed", "")
        if method == "PATCH":
            if media_type != "application/merge-patch+json":
                return _status(415, "UnsupportedMediaType", f"the body of the request was in {media_type!r}")
            wanted = json.loads(body)["spec"]["replicas"]
            if not isinstance(wanted, int) or wanted < 0:
                return _status(422, "Invalid", "spec.replicas: must be greater than or equal to 0")
            changed = {**copy.deepcopy(found), "replicas": min(wanted, self.most.get(path, wanted))}
            if parse_qs(parts.query).get("dryRun") != ["All"]:
                self.objects[path] = changed
            return 200, self._scale(path, changed)
        return 200, self._scale(path, found)

    @staticmethod
    def _meta(path: str) -> dict[str, str]:
        *_, namespace, _, name = path.split("/")
        return {"name": name, "namespace": namespace, "resourceVersion": "7"}

    def _scale(self, path: str, found: dict[str, Any]) -> dict[str, Any]:
        # ScaleStatus.replicas has no omitempty, ScaleSpec.replicas has.
        spec = _without_zeros({"replicas": found["replicas"]})
        status = {"replicas": found["replicas"], "selector": "app=x"}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": self._meta(path),
            "spec": spec,
            "status": status,
        }

    def _object(self, path: str, found: dict[str, Any]) -> dict[str, Any]:
        made = {"kind": found["kind"], "apiVersion": found["apiVersion"], "metadata": self._meta(path)}
        made["spec"] = {"replicas": found["replicas"], "template": {}}
        if found["ready"] is not None:
            made["status"] = _without_zeros({"replicas": found["replicas"], "readyReplicas": found["ready"]})
        return made

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: object) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                code, answer = api.answer(
                    self.command,
                    self.path,
                    self.headers.get("Authorization", ""),
                    self.headers.get("Content-Type", ""),
                    body,
                )
                sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_PATCH = _serve  # noqa: N815

        return Handler


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
