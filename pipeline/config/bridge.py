"""``[bridge]``: which metrics endpoints of inference servers are read, and the pool that each belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.events.request_event import DEFAULT_POOL, MAX_TEXT_LENGTH

__all__ = ["BridgeSettings", "BridgeTarget"]

_Name = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)]
_MOST_TARGETS = 500


class BridgeTarget(BaseModel):
    """One server whose metrics are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(max_length=2_048, description="address of the metrics, such as http://vllm-0:8000/metrics")
    model: _Name = Field(description="the pool's model, or an alias of it")
    pool: _Name = DEFAULT_POOL
    model_name: str | None = Field(
        default=None, description="count only series with this label model_name; unset: all series of the server"
    )
    bearer_token_file: Path | None = Field(
        default=None, description="file with the bearer token that the server requires"
    )

    @model_validator(mode="after")
    def _reachable(self) -> BridgeTarget:
        try:
            address = urlsplit(self.url)
            fine = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            fine = False
        if not fine:
            raise ValueError(
                f"url {self.url[:256]!r} is not an address of metrics; http://vllm-0:8000/metrics would do"
            )
        if address.username is not None or address.password is not None:
            raise ValueError("url must not hold credentials; set bearer_token_file")
        return self

    @property
    def key(self) -> str:
        """What tells this target from the others."""
        return self.url if self.model_name is None else f"{self.url} {self.model_name}"


class BridgeSettings(BaseModel):
    """``tokentide bridge prometheus``: windows from servers' counters, for pools that have no events yet."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(
        default="prometheus",
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="unique name; each running bridge needs its own",
    )
    scrape_seconds: float = Field(
        default=15.0, ge=1.0, le=300.0, description="at most half of windows.allowed_lateness_seconds"
    )
    timeout_seconds: float = Field(default=5.0, gt=0.0, le=60.0, description="time limit for the answer of one server")
    state_path: Path = Field(
        default=Path("tokentide-bridge.json"), description="file with the bridge's state; it must survive restarts"
    )
    targets: tuple[BridgeTarget, ...] = Field(default=(), max_length=_MOST_TARGETS)

    @model_validator(mode="after")
    def _targets_once(self) -> BridgeSettings:
        seen: set[str] = set()
        for target in self.targets:
            if target.key in seen or (target.model_name is not None and target.url in seen):
                raise ValueError(f"target {target.key} is named twice: its requests would count twice")
            seen.add(target.key)
        return self
