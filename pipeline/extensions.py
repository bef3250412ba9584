"""Extensions by name: what this distribution brings, and what other distributions register as entry points."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import ConfigError

__all__ = ["available", "load_extension"]


def available(group: str, builtin: Mapping[str, Any]) -> list[str]:
    """Return the names that can be configured, sorted. ``group`` is an entry point group such as tokentide.sinks."""
    return sorted({*builtin, *(point.name for point in entry_points(group=group))})


def load_extension(group: str, name: str, builtin: Mapping[str, Any], what: str) -> Any:
    """Return the extension called ``name``; built-in ones win over entry points of the same name.

    ``what`` names the kind in errors ("sink").

    Raises:
        ConfigError: there is none, or its distribution fails to import.
    """
    if name in builtin:
        return builtin[name]
    for point in entry_points(group=group):
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise ConfigError(f"{what} {name!r} ({point.value}) cannot be imported: {error}") from error
    known = available(group, builtin)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ConfigError(f"unknown {what} {name!r}{hint} Available: {', '.join(known)}")
