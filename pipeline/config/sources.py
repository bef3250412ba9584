"""Where request events come from: the topics, what format each has, and what its records leave out."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import ConfigError
from pipeline.events.codecs.base import Codec
from pipeline.events.codecs.registry import MAPPING, codec_for

__all__ = ["SourceSettings"]


class SourceSettings(BaseModel):
    """One topic of request events."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    topic: str
    codec: str = Field(default="auto", description="format of the records; auto recognises it record by record")
    mapping: dict[str, Any] = Field(default={}, description="for codec mapping: event field to path, unit, constant")
    model: str | None = Field(default=None, description="model of records without one, such as vLLM's spans")
    pool: str | None = Field(default=None, description="pool of records without one")

    @model_validator(mode="after")
    def _can_be_read(self) -> SourceSettings:
        if self.mapping and self.codec != MAPPING:
            raise ValueError(f"mapping is for codec {MAPPING!r}, not for {self.codec!r}")
        try:
            self.reader()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def reader(self) -> Codec:
        """The codec of this source.

        Raises:
            ConfigError: there is no such codec, or the mapping cannot work.
        """
        return codec_for(self.codec, self.mapping, {"model": self.model, "pool": self.pool})
