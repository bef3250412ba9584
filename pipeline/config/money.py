"""Settings of money: where prices of the user's own are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MoneySettings"]


class MoneySettings(BaseModel):
    """What GPUs and APIs cost. It shapes no advice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prices: str | None = Field(
        default=None, description="TOML with prices of GPUs, pools and APIs (docs/money.md); unset: the catalogue's"
    )
