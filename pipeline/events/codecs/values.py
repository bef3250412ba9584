"""Small readers that the codecs of other software share: numbers as text, times, statuses. Unknown is None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.events.validation import parse_time

__all__ = [
    "at",
    "count",
    "first_of",
    "hashed_id",
    "milliseconds",
    "number",
    "seconds_between",
    "status_of_error",
    "status_of_http",
    "text",
    "time",
]

_EXACT = 1 << 53  # whole numbers up to it are themselves as floats
_REJECTED = (
    "rate_limit",
    "ratelimit",
    "too_many_requests",
    "toomanyrequests",
    "rate limit",
    "too many requests",
    "overloaded",
    "unavailable",
)
_TIMEOUT = ("timeout", "timed_out", "timed out", "deadline_exceeded", "deadlineexceeded", "deadline exceeded")
_CANCELLED = ("cancel", "disconnect", "abort", "client_closed")
#: A code where a text begins, or after a word that says that it is one; messages have other numbers as well.
_CODE = re.compile(r"(?:^|(?:code|status|http|http/[\d.]+|error)[\s:=_#(\"']*)(408|429|499|503|504)(?![\w.]*\d)")


def at(fields: Any, *path: str) -> Any:
    """Return the value at a path of names in nested objects; None where there is none.

    >>> at({"usage": {"prompt_tokens": 3}}, "usage", "prompt_tokens"), at({"usage": None}, "usage", "x")
    (3, None)
    """
    for name in path:
        if not isinstance(fields, dict):
            return None
        fields = fields.get(name)
    return fields


def number(value: Any) -> float | None:
    """Return a finite number, also one written as text (access logs do); None for anything else, such as ``-``."""
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: Any) -> int | float | None:
    """Return a count that is not negative (−1 means unknown in many formats); a fraction stays one, to be refused."""
    if type(value) is int and 0 <= value <= _EXACT:
        return value
    found = number(value)
    if found is None or found < 0:
        return None
    return int(found) if found == math.floor(found) else found


def milliseconds(value: Any) -> float | None:
    """Return seconds of a number of milliseconds."""
    found = number(value)
    return None if found is None else found / 1000.0


def text(value: Any) -> str | None:
    """Return text that is not empty and no placeholder of an access log."""
    return value if isinstance(value, str) and value not in ("", "-") else None


def time(value: Any, *, naive_is_utc: bool = False) -> float | None:
    """Return epoch seconds of a number or an RFC 3339 text; a text without an offset only where it is known as UTC."""
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = parse_time(float(value) if isinstance(value, int) else value)
    except (ValueError, OverflowError):
        if not (naive_is_utc and isinstance(value, str)):
            return None
        try:
            found = datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            return None
    return found if found is not None and math.isfinite(found) else None


def seconds_between(start: float | None, end: float | None) -> float | None:
    """Return ``end`` − ``start`` where both are known and in order."""
    return end - start if start is not None and end is not None and end >= start else None


def status_of_http(code: int | float | None) -> str | None:
    """Return the status that an HTTP code stands for: 429 and 503 are refusals, 408 and 504 timeouts, 499 a client
    that left (nginx's code, which gateways took over); None: no code.

    >>> [status_of_http(code) for code in (200, 429, 503, 504, 499, 500, 0, None)]
    ['ok', 'rejected', 'rejected', 'timeout', 'cancelled', 'error', 'cancelled', None]
    """
    if code is None:
        return None
    if code in (429, 503):
        return "rejected"
    if code in (408, 504):
        return "timeout"
    if code in (0, 499):  # 0: Envoy, where the client left before there was an answer
        return "cancelled"
    return "ok" if 100 <= code < 400 else "error"


def status_of_error(words: Iterable[Any]) -> str:
    """Return the status of a failed request from its error's code, class or type, as other software writes them.

    >>> [status_of_error([w]) for w in ("RateLimitError", "rate_limit_exceeded", "429", "APITimeoutError", "boom")]
    ['rejected', 'rejected', 'rejected', 'timeout', 'error']
    >>> [status_of_error([w]) for w in ("Error code: 503 - x", "HTTP/1.1 408", "14290 tokens", "has 503 more, v1.408")]
    ['rejected', 'timeout', 'error', 'error']
    """
    texts = [str(word)[:200].lower() for word in words if word is not None]
    told = " ".join(texts)
    codes = {status_of_http(int(code)) for text in texts for code in _CODE.findall(text)}
    for status, marks in (("rejected", _REJECTED), ("timeout", _TIMEOUT), ("cancelled", _CANCELLED)):
        if status in codes or any(mark in told for mark in marks):
            return status
    return "error"


def hashed_id(*parts: Any) -> str:
    """Return an id made of parts; one that would be too long for an event id is replaced by its hash."""
    joined = "/".join(str(part) for part in parts if part not in (None, ""))
    if len(joined) <= 200:
        return joined
    from hashlib import blake2b

    return "blake2b-" + blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def first_of(fields: Mapping[str, Any], *names: str) -> Any:
    """Return the first value that is not None."""
    for name in names:
        found = fields.get(name)
        if found is not None:
            return found
    return None
