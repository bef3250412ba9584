"""What the split of a shared stock is made of, and the split itself: what the store keeps of it."""

from __future__ import annotations

from typing import Any

import msgspec

from sizing.planning.fleet_types import MixKey
from sizing.types import Confidence

__all__ = ["Known", "SplitState", "Terms", "read_state"]


class Known(msgspec.Struct, frozen=True):
    """What the evidence of advice with a plan says: of one replica, and of the requests (mean lengths)."""

    requests_per_second: float
    input_tokens: float
    output_tokens: float
    cached_share: float
    dispersion: float


class Terms(msgspec.Struct, frozen=True):
    """What a pool was advised when its advice changed last; ``known`` None: never yet with a plan."""

    model: str
    pool: str
    generation: int
    desired: int
    confidence: Confidence
    known: Known | None


class SplitState(msgspec.Struct, frozen=True):
    """The state after a step.

    ``terms`` are what the pools were advised, ``waiting`` whether the split is still to follow them. The split is that
    of the step of ``as_of``, for the stock and the settings that ``made_for`` names; ``mix`` is what the next changes
    are counted against (None: nothing was ever split) and ``plan`` what ``/v1/fleet`` says of it, as JSON; None with
    ``problem``: no plan was found.
    """

    made_for: str
    as_of: int
    terms: list[Terms]
    mix: list[tuple[MixKey, int]] | None
    plan: dict[str, Any] | None
    problem: str | None = None
    waiting: bool = False


def read_state(body: str) -> SplitState | None:
    """Return a state as JSON; None: another version wrote it in another shape."""
    try:
        return msgspec.json.decode(body, type=SplitState)
    except msgspec.DecodeError:  # of which ValidationError is one
        return None
