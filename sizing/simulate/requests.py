"""Requests for the simulator: columns, what becomes of them, and seeded generators of arrivals and lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sizing.errors import InvalidInput

__all__ = ["LaneLimits", "RequestTable", "Requests", "generate"]

_MAX_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in order of arrival; arrays of one length.

    ``arrival_seconds`` (float64), ``input_tokens``, ``output_tokens`` (int64, at least 1), ``cached_tokens`` (int64):
    prompt tokens already in the prefix cache, fewer than ``input_tokens``. Build with ``Requests.of``.
    """

    arrival_seconds: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.arrival_seconds.size)

    @classmethod
    def of(
        cls,
        arrival_seconds: ArrayLike,
        input_tokens: ArrayLike,
        output_tokens: ArrayLike,
        cached_tokens: ArrayLike = 0,
    ) -> Requests:
        """Check and sort columns; single numbers stand for all requests. At least one prompt token is always computed.

        Raises:
            InvalidInput: lengths differ, or a value is not finite, negative or beyond 10 million tokens.
        """
        arrival = np.atleast_1d(np.asarray(arrival_seconds, dtype=np.float64))
        if arrival.ndim != 1 or not np.all(np.isfinite(arrival)):
            raise InvalidInput("arrival_seconds must be one column of finite numbers")
        columns = []
        for name, least, values in (
            ("input_tokens", 1, input_tokens),
            ("output_tokens", 1, output_tokens),
            ("cached_tokens", 0, cached_tokens),
        ):
            column = np.asarray(values, dtype=np.float64)
            if column.ndim > 1 or column.size not in (1, arrival.size):
                raise InvalidInput(f"{name} has {column.size} values for {arrival.size} requests")
            if not (np.all(column >= least) and np.all(column <= _MAX_TOKENS)):
                raise InvalidInput(f"{name} must be in [{least}, {_MAX_TOKENS}]")
            columns.append(np.broadcast_to(np.rint(column).astype(np.int64), arrival.shape))
        order = np.argsort(arrival, kind="stable")
        prompt, output, cached = (column[order] for column in columns)
        return cls(arrival[order], prompt, output, np.minimum(cached, prompt - 1))


def generate(
    count: int,
    requests_per_second: float,
    input_tokens: float,
    output_tokens: float,
    *,
    dispersion: float = 1.0,
    input_scv: float = 0.0,
    output_scv: float = 0.0,
    cached_share: float = 0.0,
    seed: int = 0,
) -> Requests:
    """Draw ``count`` requests: gamma gaps between arrivals, lognormal lengths; the same seed, the same requests.

    ``dispersion`` is the squared coefficient of variation of the gaps (1: Poisson, 0: evenly spaced), which is the
    index of dispersion of a renewal process in the long run; ``input_scv`` and ``output_scv`` are those of the lengths
    (0: constant).

    Raises:
        InvalidInput: a number is not positive and finite, or negative where it may be 0.
    """
    if not 1 <= count <= 100_000_000 or not 0 < requests_per_second < 1e9:
        raise InvalidInput(f"{count!r} requests at {requests_per_second!r} per second cannot be drawn")
    if not (0 <= dispersion < 1e6 and 0 <= input_scv < 1e6 and 0 <= output_scv < 1e6 and 0 <= cached_share <= 1):
        raise InvalidInput("dispersion and squared variations must be in [0, 1e6), cached_share in [0, 1]")
    random = np.random.default_rng(seed)
    gaps = np.ones(count)
    if dispersion > 0:
        gaps = random.gamma(1.0 / dispersion, dispersion, count)
    arrival = np.cumsum(gaps) / requests_per_second

    def lengths(mean: float, scv: float) -> NDArray[np.float64]:
        if scv == 0:
            return np.full(count, mean)
        variance = math.log1p(scv)
        return np.asarray(mean * random.lognormal(-variance / 2, math.sqrt(variance), count))

    prompt = np.clip(np.rint(lengths(input_tokens, input_scv)), 1, _MAX_TOKENS)
    output = np.clip(np.rint(lengths(output_tokens, output_scv)), 1, _MAX_TOKENS)
    return Requests.of(arrival, prompt, output, np.floor(prompt * cached_share))


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What bounds one lane: sequences at once, tokens per step (running sequences and prompts), KV blocks."""

    max_num_seqs: int
    max_batched_tokens: int
    kv_blocks: int


@dataclass(slots=True)
class RequestTable:
    """Requests and what became of them, shared by all lanes; one entry per request, times in seconds, NaN: not yet.

    ``computed`` are the prompt tokens to compute (the rest is in the prefix cache); ``output`` includes the first
    token. ``admitted`` is when a prompt was first scheduled, ``first`` when its first token was there. ``failed`` is
    when a request was lost with its replica. ``lost`` counts those. ``begun`` and ``ended`` are the requests with a
    first and a last token, in the order in which that was simulated.
    """

    arrival: list[float]
    prompt: list[int]
    computed: list[int]
    output: list[int]
    admitted: list[float] = field(init=False)
    first: list[float] = field(init=False)
    finish: list[float] = field(init=False)
    failed: list[float] = field(init=False)
    lost: int = 0
    preemptions: list[int] = field(init=False)
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = len(self.arrival)
        self.admitted = [math.nan] * size
        self.first = [math.nan] * size
        self.finish = [math.nan] * size
        self.failed = [math.nan] * size
        self.preemptions = [0] * size
