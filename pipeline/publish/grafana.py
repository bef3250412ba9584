"""Pushes dashboards and spike annotations into a Grafana server through grafana-client (the ``grafana`` extra).

The client is imported only here and only when needed. Works with grafana-client 3.x, which the extra installs, and with
4.x and 5.x, whose HTTP library replaces the environment's urllib3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, InputError, ServerUnavailable

__all__ = ["ANNOTATION_TAG", "FOLDER_TITLE", "FOLDER_UID", "annotate", "push"]

FOLDER_UID = "tokentide"
FOLDER_TITLE = "Tokentide"
NOT_FOUND = 404
#: Tag of every annotation written here.
ANNOTATION_TAG = "tokentide"


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
    api, call, failure = _connect(url, token, timeout)
    parts = urlsplit(url)
    try:
        _ensure_folder(api, call, failure)
        urls = []
        for dashboard in files:
            body = {"dashboard": dashboard, "folderUid": FOLDER_UID, "overwrite": True, "message": message}
            answer = call(lambda body=body: api.dashboard.update_dashboard(body))  # type: ignore[misc]
            urls.append(f"{parts.scheme}://{parts.netloc}{answer.get('url', '')}")
    except failure as error:
        raise InputError(f"Grafana refused: {getattr(error, 'message', error)}") from error
    return urls


def annotate(url: str, token: str, alerts: Iterable[Mapping[str, Any]], timeout: float = 10.0) -> int:
    """Write alert episodes (as the API and the alerts topic give them) as annotations; return how many were written.

    One annotation per episode, tagged ``tokentide``, its kind, severity and pool, and a digest of its ``alert_id``: an
    episode that has one already is updated (its end, its text), so the call may be repeated. An episode that runs is a
    point in time, one that ended a region.

    Raises:
        ConfigError: grafana-client is not installed, or ``url`` is no HTTP URL.
        InputError: an alert lacks a field, or Grafana refused.
        ServerUnavailable: nothing answers at ``url``, or it refuses the token.
    """
    wanted = [_annotation(alert) for alert in alerts]
    api, call, failure = _connect(url, token, timeout)
    find = getattr(api.annotations, "find_annotations", None) or api.annotations.get_annotation  # its name before 5.0
    try:
        for identity, note in wanted:
            found = call(lambda tag=identity: find(tags=[ANNOTATION_TAG, tag]))  # type: ignore[misc]
            if found:
                call(lambda old=found[0]["id"], new=note: api.annotations.update_annotation(old, **new))  # type: ignore[misc]
            else:
                call(lambda new=note: api.annotations.add_annotation(**new))  # type: ignore[misc]
    except failure as error:
        raise InputError(f"Grafana refused: {getattr(error, 'message', error)}") from error
    return len(wanted)


def _annotation(alert: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        # A digest: the id holds names from events, which the client would put into its query as they are.
        identity = "id:" + hashlib.sha256(str(alert["alert_id"]).encode()).hexdigest()[:16]
        begin = round(float(alert["raised_at"]) * 1000.0)
        end = None if alert["ended_at"] is None else round(float(alert["ended_at"]) * 1000.0)
        tags = [ANNOTATION_TAG, identity, str(alert["kind"]), str(alert["severity"])]
        tags.append(f"{alert['model']}/{alert['pool']}")
        return identity, {"time_from": begin, "time_to": end, "tags": tags, "text": str(alert["message"])}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"no alert that can be drawn: {error!r}") from error


def _connect(url: str, token: str, timeout: float) -> tuple[Any, Callable[[Callable[[], Any]], Any], type[Exception]]:
    """Return the client, a caller that turns a dead server or a refused token into errors, and the client's error."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{url!r} is not the HTTP URL of a Grafana server")
    try:
        from grafana_client import GrafanaApi, TokenAuth
        from grafana_client.client import GrafanaException
    except ImportError as error:
        raise ConfigError("grafana-client is missing; install tokentide[grafana]") from error
    # Without the final slash the client drops a path prefix: http://host/grafana would become http://host/grafanaapi.
    api = GrafanaApi.from_url(url.rstrip("/") + "/", TokenAuth(token), timeout=timeout)

    def call(action: Callable[[], Any]) -> Any:
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

    return api, call, GrafanaException


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
        raise InputError(f"{path} is not a Grafana dashboard with a uid")
    return {**dashboard, "id": None}
