"""External metrics for the HPA from Tokentide's own ``/metrics``: what prometheus-adapter does, without its Prometheus.

An aggregated API (``external.metrics.k8s.io/v1beta1``): one metric, its series picked by the HPA's label selector. A
series that is absent is an empty list, as prometheus-adapter answers; a ``/metrics`` that cannot be read is 503.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["ExternalMetrics"]

_GROUP, _VERSION = "external.metrics.k8s.io", "v1beta1"
_ROOT = f"/apis/{_GROUP}/{_VERSION}"


class ExternalMetrics:
    """A context manager; ``source`` is the URL of a ``/metrics`` and may be changed."""

    def __init__(self, certificates: Path, source: str) -> None:
        self.source = source
        #: What each answer said: the values, or None where there was an error.
        self.answers: list[list[float] | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> ExternalMetrics:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def manifests(self) -> list[dict[str, Any]]:
        """Return the Service and the APIService that lead the API server here."""
        port = self._server.server_port
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "external-metrics", "namespace": "monitoring"},
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{_VERSION}.{_GROUP}"},
                "spec": {
                    "group": _GROUP,
                    "version": _VERSION,
                    "service": {"name": "external-metrics", "namespace": "monitoring", "port": port},
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        ]

    def _values(self, metric: str, wanted: dict[str, str]) -> list[float]:
        with urllib.request.urlopen(self.source, timeout=10) as answer:
            text = answer.read().decode()
        return [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric and wanted.items() <= sample.labels.items()
        ]

    def _answer(self, url: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(url)
        steps = parts.path.removeprefix(_ROOT).strip("/").split("/")
        if steps == [""]:
            return 200, {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{_GROUP}/{_VERSION}",
                "resources": [],
            }
        selector = parse_qs(parts.query).get("labelSelector", [""])[0]
        wanted = dict(pair.split("=", 1) for pair in selector.split(",") if pair)
        try:
            values = self._values(steps[-1], wanted)
        except OSError as error:
            self.answers.append(None)
            return 503, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error), "code": 503}
        self.answers.append(values)
        items = [
            {
                "metricName": steps[-1],
                "metricLabels": wanted,
                "timestamp": "2026-12-01T00:00:00Z",
                "value": f"{value:g}",
            }
            for value in values
        ]
        return 200, {
            "kind": "ExternalMetricValueList",
            "apiVersion": f"{_GROUP}/{_VERSION}",
            "metadata": {},
            "items": items,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                code, body = outer._answer(self.path)
                sent = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

        return Handler
