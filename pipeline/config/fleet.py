"""The settings of the fleet: who reports replica counts, and whether Tokentide may scale."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, field_serializer

from pipeline.config.sinks import masked

__all__ = ["FleetSettings"]


class FleetSettings(BaseModel):
    """Where replica counts come from. Tokentide scales nothing unless ``actuate`` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(
        default="kafka",
        min_length=1,
        max_length=64,
        description=(
            "who reports replicas: kafka (kafka.replicas_topic), kubernetes (scale subresources),"
            " or a fleet that another package registers"
        ),
    )
    actuate: bool = Field(default=False, description="pass recommendations to the fleet, which must be able to scale")
    options: dict[str, Any] = Field(default={}, description="options of the fleet; it checks them")
    stock: str | None = Field(
        default=None,
        description="TOML with the GPUs that the pools share, their prices and priorities (docs/fleet.md); unset: none",
    )

    @field_serializer("options")
    def _masked(self, options: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        """As JSON for people, secrets are masked; as Python values for child processes they are not."""
        return masked(options) if info.mode == "json" else options
