"""How long a replica takes to start, and how much of that one that is kept warm has behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sizing.errors import InvalidInput

__all__ = ["Stage", "StartUp"]

_MOST_SECONDS = 1e7


class Stage(StrEnum):
    """What a place for a replica has behind it."""

    COLD = "cold"
    """Nothing: a machine has to be had."""
    PROVISIONED = "provisioned"
    """The machine is there with the engine's image; weights are not loaded."""
    LOADED = "loaded"
    """Weights are loaded too (a sleeping engine); what is left is to wake, compile and capture graphs."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """Seconds from the order of a replica until it takes requests, and the parts of that, where they are known.

    ``total_seconds`` = provisioning + ``weights_seconds`` + ``warm_up_seconds``. Parts that are None are unknown, and
    nothing can be said of replicas that are kept warm.

    Raises:
        InvalidInput: a time is negative or not finite, one part is told without the other, or they exceed the total.
    """

    total_seconds: float
    weights_seconds: float | None = None
    warm_up_seconds: float | None = None

    def __post_init__(self) -> None:
        times = [self.total_seconds, self.weights_seconds or 0.0, self.warm_up_seconds or 0.0]
        if not all(0 <= seconds <= _MOST_SECONDS for seconds in times):
            raise InvalidInput(f"a start-up of {times} s cannot be")
        if (self.weights_seconds is None) != (self.warm_up_seconds is None):
            raise InvalidInput(
                "of a start-up, both the loading of the weights and the warm-up must be known, or neither"
            )
        if times[1] + times[2] > self.total_seconds + 1e-9:
            raise InvalidInput(f"a start-up of {times[0]:g} s cannot hold {times[1]:g} s and {times[2]:g} s")

    @classmethod
    def of_parts(cls, provisioning_seconds: float, weights_seconds: float, warm_up_seconds: float) -> StartUp:
        """Return a start-up of three parts that follow each other.

        >>> StartUp.of_parts(300.0, 240.0, 60.0).total_seconds
        600.0
        """
        return cls(provisioning_seconds + weights_seconds + warm_up_seconds, weights_seconds, warm_up_seconds)

    @property
    def is_split(self) -> bool:
        """Whether the parts are known."""
        return self.weights_seconds is not None

    def left_seconds(self, stage: Stage) -> float:
        """Return how long a replica still takes that has ``stage`` behind it.

        >>> [StartUp.of_parts(300.0, 240.0, 60.0).left_seconds(stage) for stage in Stage]
        [600.0, 300.0, 60.0]

        Raises:
            InvalidInput: the parts are not known, and the stage is not ``cold``.
        """
        if stage is Stage.COLD:
            return self.total_seconds
        if self.weights_seconds is None or self.warm_up_seconds is None:
            raise InvalidInput("what a warm replica still needs is not known: give the start-up in parts")
        return self.warm_up_seconds + (self.weights_seconds if stage is Stage.PROVISIONED else 0.0)
