"""Posts recommendations and alerts to a URL as JSON: signed, retried, and never holding back the controller.

One request per step that has something new:

    {"schema": "tokentide.webhook.v1", "as_of": 1795981560, "recommendations": […], "alerts": […]}

``X-Tokentide-Signature: sha256=<hex>`` is the HMAC-SHA256 of ``<X-Tokentide-Timestamp>.<body>`` with the secret: a
receiver that checks it and the timestamp refuses what is forged or replayed. ``X-Tokentide-Delivery`` stays the same
over retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import uuid
from collections import deque
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.engine.types import StepOutput
from pipeline.errors import ConfigError
from pipeline.publish.json import to_json
from pipeline.sinks.base import SinkContext
from pipeline.sinks.options import Options, checked

__all__ = ["WebhookOptions", "WebhookSink", "signature", "webhook_sink"]

_log = logging.getLogger(__name__)

SCHEMA = "tokentide.webhook.v1"
_STOP_SECONDS = 5.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0


class WebhookOptions(Options):
    """Options of ``[[sinks]] kind = "webhook"``."""

    url: str
    secret: SecretStr | None = None
    secret_file: Path | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    most_waiting: Annotated[int, Field(gt=0, le=100_000)] = 1_000
    #: ``change``: a recommendation is sent when its generation is new; ``step``: in every step.
    recommendations: Annotated[str, Field(pattern="^(change|step|none)$")] = "change"

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{value!r} is not an http or https URL")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> WebhookOptions:
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("secret and secret_file must not both be set")
        return self

    def key(self) -> bytes | None:
        """The secret; None: requests are not signed.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self.secret is not None:
            return self.secret.get_secret_value().encode()
        if self.secret_file is None:
            return None
        try:
            return self.secret_file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"sinks.webhook.secret_file: cannot read {self.secret_file}: {error.strerror}") from error


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of ``X-Tokentide-Signature``.

    >>> signature(b"key", "1795981560", b"{}")[:17]
    'sha256=3f4914ee88'
    """
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookSink:
    """Best effort: beyond ``most_waiting`` requests the oldest is given up and counted.

    429 and 5xx answers and network errors are retried with growing pauses; any other refusal gives the request up,
    since repeating it would be refused again.
    """

    def __init__(self, context: SinkContext) -> None:
        self._options = checked(WebhookOptions, context.options, "sinks.webhook")
        self._secret = self._options.key()
        self._clock = context.clock
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._generations: dict[tuple[str, str], int] = {}
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.dropped = 0
        self.sent = 0

    async def start(self) -> None:
        """Begin to send; the receiver need not be there yet."""
        timeout = aiohttp.ClientTimeout(total=self._options.timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout)
        self._task = asyncio.create_task(self._run())

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:  # noqa: ARG002
        """Queue what is new in a step."""
        recommendations = [r for r in output.recommendations if self._is_wanted(r)]
        if not recommendations and not output.alerts:
            return
        body = to_json(
            {"schema": SCHEMA, "as_of": output.as_of, "recommendations": recommendations, "alerts": output.alerts}
        )
        self._waiting.append((uuid.uuid4().hex, body))
        while len(self._waiting) > self._options.most_waiting:
            self._waiting.popleft()
            self._give_up("the queue is full")
        self._arrived.set()

    def _is_wanted(self, recommendation: Any) -> bool:
        if self._options.recommendations == "none":
            return False
        key = (recommendation.model, recommendation.pool)
        new = self._generations.get(key) != recommendation.generation
        self._generations[key] = recommendation.generation
        return new or self._options.recommendations == "step"

    async def stop(self) -> None:
        """Send what waits, for five seconds at most."""
        if self._task is not None:
            deadline = asyncio.get_running_loop().time() + _STOP_SECONDS
            while self._waiting and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _run(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            first = self._waiting[0]
            refusal, again = await self._post(*first)
            if refusal and again:
                _log.warning("%s: %s; trying again in %.0f s", self._options.url, refusal, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
                continue
            pause = _FIRST_RETRY_SECONDS
            if self._waiting and self._waiting[0] is first:
                self._waiting.popleft()
            if refusal:
                self._give_up(refusal)
            else:
                self.sent += 1

    async def _post(self, delivery: str, body: bytes) -> tuple[str | None, bool]:
        """Return why the receiver did not take a request (None: it did), and whether trying again may help."""
        assert self._session is not None
        timestamp = str(int(self._clock.now()))
        headers = {
            "Content-Type": "application/json",
            "X-Tokentide-Delivery": delivery,
            "X-Tokentide-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers["X-Tokentide-Signature"] = signature(self._secret, timestamp, body)
        try:
            async with self._session.post(
                self._options.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if 200 <= answer.status < 300:
                    return None, False
                return f"HTTP {answer.status}", answer.status == 429 or answer.status >= 500
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return repr(error), True

    def _give_up(self, why: str) -> None:
        self.dropped += 1
        _log.error("%s: gave a request up (%d so far): %s", self._options.url, self.dropped, why)


def webhook_sink(context: SinkContext) -> WebhookSink:
    """Make a webhook sink.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """
    return WebhookSink(context)
