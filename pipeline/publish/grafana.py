"""Pushes dashboards into a Grafana server through grafana-client (the ``grafana`` extra).

The client is imported only here and only when needed: its HTTP library replaces the environment's urllib3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, InputError, ServerUnavailable

__all__ = ["FOLDER_TITLE", "FOLDER_UID", "push"]

FOLDER_UID = "tokentide"
FOLDER_TITLE = "Tokentide"
NOT_FOUND = 404

T = TypeVar("T")


def push(
    url: str, token: str, dashboards: Iterable[Path], message: str = "tokentide", timeout: float = 10.0
) -> list[str]:
    """Create or overwrite the dashboards (JSON files with a ``uid``) in the folder "Tokentide"; return their URLs.

    ``token`` is a service-account token of Grafana. Nothing is sent before every file has been read and checked.

    Raises:
        ConfigError: grafana-client is not installed, or ``url`` is no HTTP URL.
        InputError: a file is no dashboard, or Grafana refused it (the text says why).
        ServerUnavailable: nothing answers at ``url``, or it refuses the token.
    """
    files = [_read(path) for path in dashboards]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{url!r} is no HTTP URL of a Grafana server")
    try:
        from grafana_client import GrafanaApi, TokenAuth
        from grafana_client.client import GrafanaException
    except ImportError as error:
        raise ConfigError("grafana-client is missing; install tokentide[grafana]") from error
    # Without the final slash the client drops a path prefix: http://host/grafana would become http://host/grafanaapi.
    api = GrafanaApi.from_url(url.rstrip("/") + "/", TokenAuth(token), timeout=timeout)

    def call(action: Callable[[], T]) -> T:
        try:
            return action()
        except GrafanaException as error:
            status = getattr(error, "status_code", None)
            if status in (401, 403):
                raise ServerUnavailable(f"{url} refuses the token: {error.message}") from error
            if status is None or status >= 500:
                raise ServerUnavailable(f"{url}: {error.message}") from error
            raise
        except OSError as error:  # what the client's HTTP library raises; it wraps nothing
            raise ServerUnavailable(f"nothing answers at {url}: {error}") from error

    try:
        _ensure_folder(api, call, GrafanaException)
        urls = []
        for dashboard in files:
            body = {"dashboard": dashboard, "folderUid": FOLDER_UID, "overwrite": True, "message": message}
            answer = call(lambda body=body: api.dashboard.update_dashboard(body))  # type: ignore[misc]
            urls.append(f"{parts.scheme}://{parts.netloc}{answer.get('url', '')}")
    except GrafanaException as error:
        raise InputError(f"Grafana refused: {error.message}") from error
    return urls


def _ensure_folder(api: Any, call: Callable[[Callable[[], Any]], Any], failure: type[Exception]) -> None:
    try:
        call(lambda: api.folder.get_folder(FOLDER_UID))
    except failure as error:
        if getattr(error, "status_code", None) != NOT_FOUND:
            raise
        call(lambda: api.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID))


def _read(path: Path) -> dict[str, Any]:
    try:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the dashboard {path}: {error}") from error
    if not isinstance(dashboard, dict) or not dashboard.get("uid") or "panels" not in dashboard:
        raise InputError(f"{path} is no Grafana dashboard with a uid")
    return {**dashboard, "id": None}
