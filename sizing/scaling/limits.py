"""The limits of a policy on advice: how few, how many, and how far up in one step."""

from __future__ import annotations

import math

from sizing.types import PolicyConfig

__all__ = ["limited", "step_cap"]


def limited(wanted: int, policy: PolicyConfig) -> tuple[int, tuple[str, ...]]:
    """Return the replicas within the limits of a policy, and the names of those that cut them."""
    if wanted > policy.max_replicas:
        return policy.max_replicas, ("max_replicas",)
    if wanted < policy.min_replicas:
        return policy.min_replicas, ("min_replicas",)
    return wanted, ()


def step_cap(running: int, surely: int, policy: PolicyConfig) -> int:
    """Return the most replicas that one step goes up to from ``running``.

    What is ``surely`` needed may be had in one step, from nothing too; the cap is for what is only feared.
    """
    return math.ceil(max(running, surely, 1) * policy.max_step_up_ratio)
