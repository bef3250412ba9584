"""A fleet that is not as the step-time model believes: slower or faster, uneven, with starts and replicas that fail."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from sizing.errors import InvalidInput

__all__ = ["NO_FATE", "ReplicaFate", "World"]

#: Starts in a row that may fail; a chance of failing of at most 0.9 makes more of them rarer than one in 10^45.
_MOST_ATTEMPTS = 1_000


class ReplicaFate(NamedTuple):
    """What the world does to one replica: its step times' factor, start attempts, seconds until it fails once ready.

    ``interrupted_after_seconds``: seconds once ready until it hears that its spot capacity is taken back.
    """

    step_ratio: float
    attempts: int
    lifetime_seconds: float
    interrupted_after_seconds: float = math.inf


#: A replica that is as the model says.
NO_FATE = ReplicaFate(1.0, 1, math.inf)


@dataclass(frozen=True, slots=True)
class World:
    """How the simulated fleet differs from the model; the default is a world that is the model.

    ``slow`` multiplies every step time. ``noise`` is the standard deviation of the log of a replica's own factor on
    top. ``stragglers`` is the share of replicas that are ``straggler_slow`` times slower still. ``start_fail`` is the
    probability that a start fails at the end of its time and begins anew. ``crashes`` are failures per hour and ready
    replica: the requests in it are lost, and a replacement starts at once.

    ``spot_interrupt`` are interruptions per hour of a ready replica on spot capacity, which ``spot_share`` of the
    replicas are on, independently of each other. An interrupted replica takes no more requests, its replacement is
    ordered at once, and what it has not finished ``spot_notice`` seconds later is lost. The default is Amazon EC2's
    notice of two minutes (EC2 User Guide, "Spot Instance interruption notices", 2026-11); providers differ.

    Raises:
        InvalidInput: a value that cannot be.
    """

    slow: float = 1.0
    noise: float = 0.0
    stragglers: float = 0.0
    straggler_slow: float = 2.0
    start_fail: float = 0.0
    crashes: float = 0.0
    spot_interrupt: float = 0.0
    spot_share: float = 1.0
    spot_notice: float = 120.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("slow", 0.01, 100.0),
            ("noise", 0.0, 2.0),
            ("stragglers", 0.0, 1.0),
            ("straggler_slow", 0.01, 100.0),
            ("start_fail", 0.0, 0.9),
            ("crashes", 0.0, 3_600.0),
            ("spot_interrupt", 0.0, 3_600.0),
            ("spot_share", 0.0, 1.0),
            ("spot_notice", 0.0, 86_400.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(
                    f"{name.replace('_', '-')} of the world must be in [{low:g}, {high:g}], not {value!r}"
                )

    @classmethod
    def parse(cls, text: str) -> World:
        """Return a world from ``slow=1.4,start-fail=.1``; what is not named is as in the model.

        >>> World.parse("slow=1.4,start-fail=.1") == World(slow=1.4, start_fail=0.1)
        True

        Raises:
            InvalidInput: an unknown name, one that is given twice, or a value that cannot be.
        """
        known = {field.name.replace("_", "-"): field.name for field in fields(cls)}
        values: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = (piece.strip() for piece in part.partition("="))
            if name not in known:
                raise InvalidInput(f"the world has no {name[:40]!r}; it has: {', '.join(known)}")
            if known[name] in values:
                raise InvalidInput(f"{name} of the world is given twice")
            try:
                values[known[name]] = float(number)
            except ValueError:
                raise InvalidInput(f"{name} of the world must be a number, not {number[:40]!r}") from None
        return cls(**values)

    def fate(self, number: int, seed: int) -> ReplicaFate:
        """Return what happens to replica ``number``: it depends on the two numbers and the world alone."""
        random = np.random.default_rng([seed, number])
        noise, straggles, life = random.standard_normal(), random.random(), random.standard_exponential()
        ratio = self.slow * math.exp(self.noise * noise)
        if straggles < self.stragglers:
            ratio *= self.straggler_slow
        attempts = 1
        while attempts < _MOST_ATTEMPTS and random.random() < self.start_fail:
            attempts += 1
        lifetime = life * 3_600.0 / self.crashes if self.crashes else math.inf
        interrupted = math.inf
        if self.spot_interrupt and random.random() < self.spot_share:
            interrupted = random.standard_exponential() * 3_600.0 / self.spot_interrupt
        return ReplicaFate(ratio, attempts, lifetime, interrupted)
