"""The settings of sinks: what every ``[[sinks]]`` table has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = ["SinkSettings", "masked"]

#: Option names of extensions that hold a secret; names of files that hold one are no secrets.
_SECRET_KEY = re.compile(r"(secret|password|token|api_key)$", re.IGNORECASE)


def masked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an extension for people: values of keys that hold a secret are hidden.

    >>> masked({"url": "http://x/", "api_key": "hunter2"})
    {'url': 'http://x/', 'api_key': '**********'}
    """
    return {key: "**********" if _SECRET_KEY.search(key) else value for key, value in options.items()}


class SinkSettings(BaseModel):
    """One ``[[sinks]]`` table: ``kind`` names the sink, all other keys are its own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(min_length=1, max_length=64, description="parquet, webhook or one that another package registers")

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside ``kind``; the sink checks them."""
        return dict(self.model_extra or {})

    @model_serializer(mode="wrap")
    def _masked(self, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """As JSON for people, secrets are masked; as Python values for child processes they are not."""
        values: dict[str, Any] = plain(self)
        return masked(values) if info.mode == "json" else values
