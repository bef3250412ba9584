"""Lists in pages: at most ``limit`` entries, ``truncated`` where there are more, and a cursor that asks for them.

A cursor is the place of the last entry in the order of the list, as text, so it stays valid while the list changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.publish.http.parameter import MAX_TEXT, Parameter

__all__ = ["NAME_CURSOR", "TIME_CURSOR", "list_schema", "name_place", "page_members", "time_place"]

_DESCRIPTION = "the next_cursor of the page before"
_TIME_AND_NAME = r"([0-9]{1,11}(?:\.[0-9]{1,9})?)-([\s\S]*)"


def _names(value: str) -> tuple[str, str]:
    if len(value) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    model, _, pool = value.rpartition("/")
    return model, pool


def _time_and_name(value: str) -> tuple[float, str]:
    found = re.fullmatch(_TIME_AND_NAME, value) if len(value) <= MAX_TEXT else None
    if found is None:
        raise ValueError("is not one that this server gave as next_cursor")
    return float(found[1]), found[2]


#: In lists by model and pool.
NAME_CURSOR = Parameter("cursor", {"type": "string", "maxLength": MAX_TEXT}, _names, _DESCRIPTION)
#: In lists by time, newest first, and then by a name.
TIME_CURSOR = Parameter(
    "cursor", {"type": "string", "maxLength": MAX_TEXT, "pattern": f"^{_TIME_AND_NAME}$"}, _time_and_name, _DESCRIPTION
)


def name_place(model: str, pool: str) -> str:
    """Return the cursor of a pool."""
    return f"{model}/{pool}"


def time_place(seconds: float, name: str) -> str:
    """Return the cursor of an entry of a time and a name."""
    return f"{float(seconds)!r}-{name}"


def page_members(cursor: str | None) -> dict[str, Any]:
    """Return ``truncated`` and ``next_cursor`` of an answer; ``cursor`` is where it was cut (None: it is whole)."""
    return {"truncated": cursor is not None, "next_cursor": cursor}


def list_schema(name: str, items: Mapping[str, Any], **more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with a list ``name`` of ``items``, how it was cut, and ``more`` members."""
    told: dict[str, Any] = {
        **more,
        name: {"type": "array", "items": dict(items)},
        "truncated": {"type": "boolean", "description": "there are more than `limit`"},
        "next_cursor": {"type": ["string", "null"], "description": "asks for the next ones as `cursor`"},
    }
    return {"type": "object", "required": list(told), "properties": told}
