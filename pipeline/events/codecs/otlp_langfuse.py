"""Langfuse's own attributes of OpenTelemetry spans (SDK 3, ``LangfuseOtelSpanAttributes``): usage is JSON in a text.

Its kinds of input tokens are parts of one whole, named ``input`` and ``input_…`` or ``…_input_tokens``; so are those
of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import parsed_json
from pipeline.events.codecs.values import count, time

__all__ = ["COMPLETION_START", "MODEL", "OBSERVATION_TYPE", "USAGE", "first_token_at", "usage_of"]

OBSERVATION_TYPE = "langfuse.observation.type"
MODEL = "langfuse.observation.model.name"
USAGE = "langfuse.observation.usage_details"
COMPLETION_START = "langfuse.observation.completion_start_time"
_MOST_CHARACTERS = 4_096


def usage_of(told: Any) -> dict[str, Any]:
    """Return the token counts of the event that ``usage_details`` has; what is no such text has none.

    >>> usage_of('{"input": 7, "input_cached_tokens": 2, "output": 3, "total": 12}')
    {'input_tokens': 9, 'output_tokens': 3, 'cached_input_tokens': 2}
    >>> usage_of('{"prompt_tokens": 7, "completion_tokens": 3}'), usage_of("-")
    ({'input_tokens': 7, 'output_tokens': 3}, {})
    """
    if not isinstance(told, str) or len(told) > _MOST_CHARACTERS:
        return {}
    try:
        details = parsed_json(told.encode("utf-8", "replace"))
    except EventRejected:
        return {}
    if not isinstance(details, dict):
        return {}
    counts = {str(name).lower(): n for name, value in details.items() if (n := count(value)) is not None}
    found = {
        "input_tokens": [n for name, n in counts.items() if "input" in name or "prompt" in name],
        "output_tokens": [n for name, n in counts.items() if "output" in name or "completion" in name],
        "cached_input_tokens": [
            n for name, n in counts.items() if "cache" in name and "creation" not in name and "write" not in name
        ],
    }
    return {name: sum(parts) for name, parts in found.items() if parts}


def first_token_at(attributes: Mapping[str, Any]) -> float | None:
    """Return epoch seconds of the first token; the attribute is RFC 3339, in quotes where it was written as JSON."""
    told = attributes.get(COMPLETION_START)
    return time(told.strip('"')) if isinstance(told, str) else None
