"""What part of a fleet may be on spot capacity in a world that interrupts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluate.policies.base import Setup
from pipeline.evaluate.policies.oracle import needed_replicas
from pipeline.evaluate.policies.reactive import SPEC as REACTIVE
from sizing.planning.spot import SpotPart, spot_part
from sizing.simulate import World

__all__ = ["SpotAdvice", "spot_advice"]


@dataclass(frozen=True, slots=True)
class SpotAdvice:
    """Of ``held`` replicas, what the busiest minute needs with the headroom of ``reactive``, ``part`` may be on spot.

    ``together``: all of it is interrupted at once; ``alone``: each replica on its own. ``needed`` is the busiest minute
    without headroom, ``allowed_share`` the whole error budget of the SLO.
    """

    held: int
    needed: int
    allowed_share: float
    together: SpotPart
    alone: SpotPart

    def __str__(self) -> str:
        together, alone = self.together, self.alone
        return (
            f"spot: of {self.held} replicas for the busiest minute, which needs {self.needed}, {together.replicas} "
            f"may be on spot capacity if all of it can go at once, {alone.replicas} if each goes on its own; "
            f"one is missing for {together.missing_share:.1%} of the time."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def spot_advice(setup: Setup, world: World) -> SpotAdvice:
    """Return the advice for the busiest minute of the trace, by the load test."""
    held, needed = (int(np.max(needed_replicas(setup, margin))) for margin in (REACTIVE.knob.default or 1.0, 1.0))
    test, allowed = setup.load_test, 1.0 - setup.pool.slo().percentile

    def part(*, together: bool) -> SpotPart:
        return spot_part(
            held,
            needed,
            interruptions_per_hour=world.spot_interrupt,
            notice_seconds=world.spot_notice,
            start_up_seconds=setup.start_up_seconds,
            request_seconds=test.concurrency / test.requests_per_second,
            allowed_share=allowed,
            together=together,
        )

    return SpotAdvice(held, needed, allowed, part(together=True), part(together=False))
