"""Checks the options of one extension: unknown keys and wrong values are errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ConfigError

__all__ = ["Options", "checked"]


class Options(BaseModel):
    """Base of the options of an extension."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Options)


def checked(kind: type[T], options: Mapping[str, Any], where: str) -> T:
    """Return ``options`` as a ``kind``; ``where`` names the extension in errors ("sinks.webhook").

    Raises:
        ConfigError: a key is unknown, missing or wrong; the text names each.
    """
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        found = (
            (".".join(map(str, (where, *item["loc"]))), item["msg"].removeprefix("Value error, "))
            for item in error.errors()
        )
        raise ConfigError("; ".join(f"{name}: {text}" for name, text in found)) from error
