"""The settings of alert rules: which are in force, and what is changed of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AlertRuleSettings", "AlertsSettings"]

_Threshold = Annotated[float, Field(ge=0, le=1e15)]
_RuleName = Annotated[str, Field(min_length=1, max_length=64)]


class AlertRuleSettings(BaseModel):
    """One ``[alerts.rules.NAME]`` table: of a built-in rule, or of one that another package registers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = Field(
        default=True, description="false: the rule is not evaluated, and is left out of the rule file"
    )
    for_seconds: float | None = Field(
        default=None,
        ge=0,
        le=30 * 86_400,
        description="how long the expression must hold; unset: the rule's own duration",
    )
    severity: Literal["info", "warning", "critical"] | None = Field(
        default=None, description="label in Prometheus; unset: the rule's own severity"
    )
    thresholds: dict[str, _Threshold] = Field(
        default={}, description="thresholds by name; they replace those of the rule"
    )


class AlertsSettings(BaseModel):
    """Alert rules. ``tokentide alerts list`` prints them with their thresholds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: dict[_RuleName, AlertRuleSettings] = Field(
        default={}, max_length=1_000, description="changes of rules by name; rules of other packages are named here"
    )
