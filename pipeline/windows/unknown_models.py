"""Demand of models that no pool is configured for: how much of all it is, and the pool that each looks like.

A renamed model, a LoRA adapter or a gateway's prefix shows up as a pool of its own that nobody sizes, while the
configured pool seems to lose demand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from pipeline.events.request_event import DEFAULT_POOL
from pipeline.windows.types import ClosedWindow, PoolKey

__all__ = ["MAX_NAMED", "UnknownDemand", "UnknownModel", "UnknownModels", "similar_pool"]

#: Unknown models that are told of by name, the heaviest first.
MAX_NAMED = 10
#: Seconds of event time after which a request counts half.
_HALF_LIFE_SECONDS = 600.0
#: Names alike by less than this (2 · common characters / all characters, as difflib counts them) look like nothing.
_LEAST_LIKENESS = 0.75
_SAME_POOL = 0.1


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """A (model, pool) without settings: its share of all requests, and the configured pool it looks like (None: none).

    ``requests_ratio`` is in (0, 1].
    """

    model: str
    pool: str
    requests_ratio: float
    similar: PoolKey | None


@dataclass(frozen=True, slots=True)
class UnknownDemand:
    """The share of all requests that is of models without settings, 0 to 1, and the heaviest of these models."""

    requests_ratio: float
    models: tuple[UnknownModel, ...]


class UnknownModels:
    """Counts the requests of closed windows by whether their pool is ``configured``; recent ones weigh most."""

    def __init__(self, configured: Collection[PoolKey]) -> None:
        self._configured = frozenset(configured)
        self._requests: Counter[PoolKey] = Counter()  # of unknown ones, faded
        self._total = 0.0
        self._as_of: int | None = None
        self._similar = lru_cache(maxsize=4_096)(lambda key: similar_pool(key, self._configured))

    def take(self, as_of: int, windows: Iterable[ClosedWindow]) -> None:
        """Count windows of the step of ``as_of`` (epoch seconds); a step may come in parts."""
        if self._as_of is not None and as_of > self._as_of:
            kept = 0.5 ** ((as_of - self._as_of) / _HALF_LIFE_SECONDS)
            self._total *= kept
            self._requests = Counter({key: n * kept for key, n in self._requests.items() if n * kept >= 0.5})
        self._as_of = as_of
        for window in windows:
            self._total += window.requests
            if window.requests and window.key not in self._configured:
                self._requests[window.key] += window.requests

    def report(self) -> UnknownDemand | None:
        """Return the shares now; None without configured pools, or before the first request."""
        if not self._configured or self._total <= 0.0:
            return None
        heaviest = sorted(self._requests.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_NAMED]
        return UnknownDemand(
            min(1.0, sum(self._requests.values()) / self._total),
            tuple(UnknownModel(*key, n / self._total, self._similar(key)) for key, n in heaviest),
        )


def similar_pool(unknown: PoolKey, configured: Collection[PoolKey]) -> PoolKey | None:
    """Return the configured pool that an unknown (model, pool) is most likely another name of; None: none stands out.

    By the name of the model without case, prefix, tag and punctuation; else by the name of the pool, where it serves
    one model only.

    >>> pools = [PoolKey("llama-3.1-8b-instruct", "chat"), PoolKey("qwen3-32b", "code")]
    >>> similar_pool(PoolKey("meta-llama/Llama-3.1-8B-Instruct", "default"), pools)
    PoolKey(model='llama-3.1-8b-instruct', pool='chat')
    >>> similar_pool(PoolKey("sql-lora", "chat"), pools)
    PoolKey(model='llama-3.1-8b-instruct', pool='chat')
    >>> similar_pool(PoolKey("whisper", "speech"), pools)
    """
    name = _plain(unknown.model)
    scored = sorted(
        ((_likeness(name, _plain(key.model)) + _SAME_POOL * (key.pool == unknown.pool), key) for key in configured),
        reverse=True,
    )
    if scored and scored[0][0] >= _LEAST_LIKENESS and (len(scored) < 2 or scored[0][0] > scored[1][0]):
        return scored[0][1]
    same = [key for key in configured if key.pool == unknown.pool != DEFAULT_POOL]
    return same[0] if len(same) == 1 else None


def _plain(model: str) -> str:
    return re.sub(r"[\W_]", "", model.lower().rsplit("/", 1)[-1].split(":", 1)[0])


def _likeness(one: str, other: str) -> float:
    if not one or not other:
        return 0.0
    if one == other:
        return 1.0
    if min(len(one), len(other)) >= 4 and (one in other or other in one):
        return 0.9
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.real_quick_ratio() >= _LEAST_LIKENESS <= matcher.quick_ratio() else 0.0
