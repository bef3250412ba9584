"""The event reader: announcement text in, calendar records out, through any OpenAI-compatible endpoint.

Off unless configured. The model only finds events; every field of its reply is checked, each event must quote the text
it was found in, and effects are still learned from demand. What it may cost is capped before each call.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import msgspec

from pipeline.calendar_import.files import identity
from pipeline.calendar_import.prompts import NEWEST, PROMPTS, reply_schema
from pipeline.calendar_import.times import iso, parse_moment
from pipeline.config.settings import ReaderSettings
from pipeline.errors import CodecError, ConfigError, InputError, ServerUnavailable, TokentideError
from pipeline.forecast.calendar.effects import CalendarRecord, Scope

__all__ = ["BudgetSpent", "EventReader", "Reading"]

#: Longer texts are refused: an announcement is no book.
MAX_TEXT_CHARACTERS = 50_000
MAX_EVENTS = 50
_MAX_REPLY_BYTES = 1_000_000
_SIZES = (0.1, 10.0)
_PAST_SECONDS, _FUTURE_SECONDS = 7 * 86_400.0, 400 * 86_400.0
_LONGEST_SECONDS = 60 * 86_400.0
_LEAST_QUOTE = 8
#: A token is at least about so many bytes of UTF-8, whatever the tokenizer; used where an endpoint does not count.
_BYTES_PER_TOKEN = 2
_UTC = ZoneInfo("UTC")


class BudgetSpent(TokentideError):
    """The next call might cost more than the cap on calls or tokens allows; it was not made."""


class _Event(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    starts_at: str
    ends_at: str
    confidence: float
    quote: str
    expected_size: float | None = None
    model: str | None = None
    pool: str | None = None


class _Reply(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


@dataclass(slots=True)
class Reading:
    """What was found in one text: records, and why other events of the reply are none; what it cost."""

    records: list[CalendarRecord] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tokens: int = 0


class EventReader:
    """Reads announcements; one per process, since it counts what it spends.

    Args:
        settings: endpoint, model, kinds that may be found, caps.
        prompt_version: which of ``prompts.PROMPTS``.

    Raises:
        ConfigError: the reader is not enabled, or the prompt does not exist.
    """

    def __init__(self, settings: ReaderSettings, prompt_version: str = NEWEST) -> None:
        if not settings.enabled:
            raise ConfigError("the event reader is off; set reader.enabled, reader.base_url and reader.model")
        if prompt_version not in PROMPTS:
            raise ConfigError(f"there is no prompt {prompt_version!r}; there are {', '.join(PROMPTS)}")
        self._settings = settings
        self._version = prompt_version
        self.calls = 0
        self.tokens = 0

    async def read(self, text: str, now: float) -> Reading:
        """Find the events of one announcement; ``now`` (epoch seconds) is when it became known.

        Raises:
            InputError: the text is empty or too long.
            BudgetSpent: the caps on calls or tokens leave no room for it; nothing was sent.
            ServerUnavailable: the endpoint does not answer, or answers with an error.
            CodecError: the reply is not what was asked for.
        """
        if not text.strip() or len(text) > MAX_TEXT_CHARACTERS:
            raise InputError(f"an announcement has 1 to {MAX_TEXT_CHARACTERS} characters, not {len(text)}")
        body = self._request(text, now)
        said = sum(len(message["content"].encode("utf-8", "replace")) for message in body["messages"])
        most = said // _BYTES_PER_TOKEN + self._settings.max_output_tokens
        self._reserve(most)
        self.calls += 1
        self.tokens += most  # until the endpoint says what it was
        answer = await self._post(body)
        content, used = _content(answer)
        spent = most if used is None else used
        self.tokens += spent - most
        reading = Reading(tokens=spent)
        for number, raw in enumerate(_events(content), 1):
            try:
                reading.records.append(self._record(raw, text, now))
            except (ValueError, InputError) as error:
                reading.refused.append(f"event {number}: {str(error)[:200]}")
        return reading

    def _request(self, text: str, now: float) -> dict[str, Any]:
        settings = self._settings
        prompt = PROMPTS[self._version].format(now=iso(now), kinds=", ".join(settings.kinds))
        # A closing tag inside the text must not end it.
        inside = re.sub(r"</?announcement", "<\\\\announcement", text, flags=re.IGNORECASE)
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [
                {"role": "system", "content": prompt},
                {"role": "user", "content": f"<announcement>\n{inside}\n</announcement>"},
            ],
            "temperature": 0,
            "max_tokens": settings.max_output_tokens,
        }
        if settings.response_format == "json_schema":
            schema = {"name": "events", "strict": True, "schema": reply_schema(settings.kinds)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif settings.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _reserve(self, tokens: int) -> None:
        settings = self._settings
        if self.calls >= settings.max_calls:
            raise BudgetSpent(f"{self.calls} calls were made; reader.max_calls allows no more")
        if self.tokens + tokens > settings.max_tokens:
            raise BudgetSpent(
                f"the next call may cost {tokens} tokens; {self.tokens} of reader.max_tokens = {settings.max_tokens} "
                "are spent"
            )

    async def _post(self, body: dict[str, Any]) -> bytes:
        settings = self._settings
        address = f"{settings.base_url.rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                # A redirect would carry the key to wherever it points.
                session.post(
                    address, data=json.dumps(body).encode(), headers=headers, allow_redirects=False
                ) as response,
            ):
                answer = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    answer += chunk
                    if len(answer) > _MAX_REPLY_BYTES:
                        raise CodecError(f"the reply has more than {_MAX_REPLY_BYTES} bytes")
                if response.status != 200:
                    said = bytes(answer[:200]).decode("utf-8", "replace").replace("\n", " ")
                    raise ServerUnavailable(f"{address} answered {response.status}: {said}")
                return bytes(answer)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise ServerUnavailable(f"{address} does not answer: {error or type(error).__name__}") from error

    def _record(self, raw: msgspec.Raw, text: str, now: float) -> CalendarRecord:
        settings = self._settings
        event = msgspec.json.decode(raw, type=_Event)
        if event.kind not in settings.kinds:
            raise ValueError(f"kind {event.kind[:64]!r} is none of reader.kinds")
        if len(event.quote.strip()) < _LEAST_QUOTE or _plain(event.quote) not in _plain(text):
            raise ValueError("its quote is not in the announcement")
        starts_at, ends_at = parse_moment(event.starts_at, _UTC), parse_moment(event.ends_at, _UTC)
        if not now - _PAST_SECONDS <= starts_at <= now + _FUTURE_SECONDS:
            raise ValueError(f"it starts at {event.starts_at[:64]}, which is not within a week back and 400 days ahead")
        if ends_at - starts_at > _LONGEST_SECONDS:
            raise ValueError("it lasts longer than 60 days")
        size = event.expected_size
        if size is not None and not _SIZES[0] <= size <= _SIZES[1]:
            raise ValueError(f"expected_size {size} is not within {_SIZES[0]} and {_SIZES[1]}")
        if not math.isfinite(event.confidence) or event.confidence <= 0.0:
            raise ValueError(f"confidence {event.confidence} is none")
        for name, value in (("model", event.model), ("pool", event.pool)):
            if value is not None and not 0 < len(value) <= 256:
                raise ValueError(f"{name} must have 1 to 256 characters")
        return CalendarRecord(
            id=f"read:{identity(event.kind, starts_at, event.model, event.pool)}",
            kind=event.kind,
            starts_at=starts_at,
            ends_at=ends_at,
            expected_size=size,
            confidence=min(event.confidence, settings.max_confidence),
            scope=Scope(event.model, event.pool),
            source=f"event reader, prompt {self._version}, {settings.model}"[:4096],
            note=event.quote[:4096],
            announced_at=now,
        )


def _content(answer: bytes) -> tuple[str, int | None]:
    """The text of a chat completion, and the tokens that it says it took (None: it does not say, or nonsense)."""
    try:
        decoded = msgspec.json.decode(answer)
        choice = decoded["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise CodecError(f"the reply is not a chat completion: {str(error)[:200]}") from error
    if not isinstance(content, str):
        raise CodecError(f"the reply has no text but {type(content).__name__}; was it refused?")
    if choice.get("finish_reason") == "length":
        raise CodecError("the reply was cut off at reader.max_output_tokens")
    usage = decoded.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    usable = isinstance(total, int) and not isinstance(total, bool) and 0 < total < 10_000_000
    return content, total if usable else None


def _events(content: str) -> list[msgspec.Raw]:
    """The events of a reply, still encoded; some models wrap them in a code fence."""
    text = content.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        events = msgspec.json.decode(text.encode("utf-8", "replace"), type=_Reply).events
    except (ValueError, RecursionError) as error:
        raise CodecError(f"the model did not answer with events: {str(error)[:200]}") from error
    if len(events) > MAX_EVENTS:
        raise CodecError(f"the model claims {len(events)} events; more than {MAX_EVENTS} are not believed")
    return events


def _plain(text: str) -> str:
    """Without differences in white space and case."""
    return " ".join(text.split()).casefold()
