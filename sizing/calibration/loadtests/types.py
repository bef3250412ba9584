"""What a load-test report holds, whichever tool wrote it, and the protocol of its readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from sizing.calibration.measurement import ObservedPoint

__all__ = ["LoadKind", "LoadTest", "Reader", "Stage", "Subject"]


class LoadKind(StrEnum):
    """How clients sent: at a rate of their own (open loop), or when an answer came (closed loop)."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report names as tested; None: it does not say.

    ``engine`` is a serving engine (vllm, sglang, tensorrt-llm), never the tool. ``gpu``, ``tensor_parallel`` and
    ``precision`` as the report spells them.
    """

    model: str | None = None
    engine: str | None = None
    gpu: str | None = None
    tensor_parallel: int | None = None
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One load of a test, as a report gives it; None: the report does not say. Seconds, tokens, requests.

    ``e2e_seconds`` and ``ttft_seconds`` are (mean, median) over successful requests, ``tpot_seconds`` the tool's own
    time per output token where it is defined as (E2E - TTFT) / (output tokens - 1); without it TPOT follows from means.
    ``rate`` counts completed requests per second; ``offered_rate`` is what clients sent by plan, ``concurrency_limit``
    how many they kept in flight at most. ``duration_seconds`` runs from the first request to the last answer,
    ``sending_seconds`` to the last request. ``ttft_quantiles`` pairs levels (0 is the minimum) with seconds,
    ``ttft_deviation_seconds`` is the standard deviation; ``delay_quantiles`` are of how much later than planned
    requests were sent. ``incomplete`` counts requests without an answer when the test was cut off, ``failed`` those
    that were answered by an error. ``speculative``: the server made tokens with a speculative decoder. ``notes``
    are what the reader converted, and why.
    """

    name: str
    input_tokens: float | None = None
    output_tokens: float | None = None
    e2e_seconds: tuple[float | None, float | None] = (None, None)
    ttft_seconds: tuple[float | None, float | None] = (None, None)
    tpot_seconds: float | None = None
    rate: float | None = None
    concurrency: float | None = None
    kind: LoadKind | None = None
    offered_rate: float | None = None
    concurrency_limit: float | None = None
    completed: float | None = None
    incomplete: float = 0.0
    failed: float = 0.0
    duration_seconds: float | None = None
    sending_seconds: float | None = None
    ttft_quantiles: tuple[tuple[float, float], ...] = ()
    ttft_deviation_seconds: float | None = None
    delay_quantiles: tuple[tuple[float, float], ...] = ()
    cached_share: float | None = None
    speculative: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadTest:
    """A report that was read: the points of its stages, what it tested, and what a user should know about both."""

    tool: str
    version: str | None
    points: tuple[ObservedPoint, ...]
    subject: Subject = Subject()
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads the reports of one tool."""

    @property
    def name(self) -> str:
        """The tool, as users name it (``--tool``)."""
        ...

    def detect(self, report: Any) -> bool:
        """Whether a parsed report is of this tool, by its keys; never raises."""
        ...

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """Return the stages of a report, what was tested, and the tool's version.

        Raises:
            InvalidInput: it is no report of this tool, or one that must be converted; the text says how.
        """
        ...
