"""Fewer examples of properties than they ask for themselves, for runs that are to be quick."""

from __future__ import annotations

from typing import Any

import hypothesis

__all__ = ["limit_examples"]


def limit_examples(test: Any, most: int) -> None:
    """Let a property try ``most`` examples at most; any other test stays as it is.

    A profile's number does not do: ``@settings`` of the property itself goes before it.
    """
    own = getattr(test, "_hypothesis_internal_use_settings", None)
    if own is not None and own.max_examples > most:
        test._hypothesis_internal_use_settings = hypothesis.settings(own, max_examples=most)
