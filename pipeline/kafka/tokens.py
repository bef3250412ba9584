"""OAuth bearer tokens for SASL OAUTHBEARER: from a file, or from a token endpoint by client credentials."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config.kafka import KafkaSecuritySettings

__all__ = ["TokenSource", "TokenUnavailable"]

_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 65_536
#: A token is replaced when this share of its lifetime has passed.
_RENEW_AT = 0.8
#: Lifetime of a token whose endpoint does not state one (RFC 6749 §5.1 recommends that it does).
_DEFAULT_LIFETIME_SECONDS = 60.0


class TokenUnavailable(OSError):
    """No token could be read; Kafka clients treat it as a connection that failed, and try again."""


class TokenSource:
    """Hands out a valid token; one for all connections of a client, from any thread.

    A file is read each time: whatever writes it decides on the lifetime. A token from ``token_url`` (RFC 6749 §4.4) is
    kept until four fifths of its lifetime have passed.
    """

    def __init__(
        self,
        security: KafkaSecuritySettings,
        client_secret: str | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._security = security
        self._client_secret = client_secret
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self.extensions: Mapping[str, str] = security.token_extensions

    def token(self) -> str:
        """A token that is valid now.

        Raises:
            TokenUnavailable: the file or the endpoint gives none; the text names it, and holds no secret.
        """
        if self._security.token_file is not None:
            return _from_file(self._security.token_file)
        with self._lock:
            if self._token is None or self._monotonic() >= self._renew_at:
                self._token, lifetime = self._request()
                self._renew_at = self._monotonic() + _RENEW_AT * lifetime
            return self._token

    def _request(self) -> tuple[str, float]:
        security = self._security
        form = {"grant_type": "client_credentials"}
        if security.token_scope:
            form["scope"] = security.token_scope
        # RFC 6749 §2.3.1: both are form-encoded before they become a Basic credential.
        pair = ":".join(urllib.parse.quote_plus(part or "") for part in (security.token_client_id, self._client_secret))
        request = urllib.request.Request(
            str(security.token_url),
            urllib.parse.urlencode(form).encode(),
            {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}", "Accept": "application/json"},
        )
        where = f"kafka.security.token_url {security.token_url}"
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
                body = answer.read(_MOST_BYTES)
            fields = json.loads(body)
            token, lifetime = fields["access_token"], float(fields.get("expires_in") or _DEFAULT_LIFETIME_SECONDS)
        except urllib.error.HTTPError as error:
            raise TokenUnavailable(f"{where}: {error.code} {error.reason}") from error
        except OSError as error:
            raise TokenUnavailable(f"{where}: {getattr(error, 'reason', error)}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TokenUnavailable(f"{where}: the answer holds no access_token") from error
        return _checked(token, where), min(max(lifetime, 0.0), 86_400.0)


def _from_file(path: Path) -> str:
    where = f"kafka.security.token_file {path}"
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise TokenUnavailable(f"{where}: {error.strerror}") from error
    return _checked(raw.decode("utf-8", "replace").strip(), where)


def _checked(token: object, where: str) -> str:
    """A bearer token is visible ASCII (RFC 6750 §2.1); a control character would end the SASL message early."""
    if not isinstance(token, str) or not token or len(token) > _MOST_BYTES:
        raise TokenUnavailable(f"{where}: the token is empty or too long")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise TokenUnavailable(f"{where}: the token holds characters that no bearer token has")
    return token
