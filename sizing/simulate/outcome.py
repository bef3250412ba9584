"""What became of simulated requests, as a client sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.simulate.requests import Requests

__all__ = ["Frontend", "Outcome"]


@dataclass(frozen=True, slots=True)
class Frontend:
    """What a client waits for beside the engine: seconds per request and per prompt token (HTTP, tokenising, queues).

    Added to every latency and taking nothing from the engine. Fitted by ``benchmarks/sizing/simulate.py`` on the
    112 Llama-3.1-8B points of llm-inferno/model-trainer commit 047f0ae0b9 (reweighted least squares, 2026-11).
    """

    request_seconds: float = 5.8e-3
    prompt_token_seconds: float = 6.9e-6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests, in order of arrival. Seconds; NaN where there is none.

    ``ttft_seconds`` and ``e2e_seconds`` run from arrival, ``queue_seconds`` until a prompt is first scheduled;
    ``tpot_seconds`` = (E2E - TTFT) / (output tokens - 1), NaN for one token. ``replica`` is -1 where none took it.
    ``rejected`` requests are longer than a lane's whole KV cache; what is neither rejected nor has an ``e2e_seconds``
    was not finished when the simulation stopped. The rest are sums over lanes: ``running_seconds`` (``batch_seconds``)
    integrate admitted (decoding) sequences over time, ``replica_seconds`` the replicas ordered and not yet gone.
    """

    requests: Requests
    ttft_seconds: NDArray[np.float64]
    tpot_seconds: NDArray[np.float64]
    e2e_seconds: NDArray[np.float64]
    queue_seconds: NDArray[np.float64]
    replica: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    rejected: NDArray[np.bool_]
    end_seconds: float
    busy_seconds: float
    running_seconds: float
    batch_seconds: float
    replica_seconds: float
    kv_blocks: int
    most_kv_blocks_used: int

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which requests got their last token."""
        return np.isfinite(self.e2e_seconds)

    @property
    def batch(self) -> float:
        """Mean decoding sequences of a busy lane."""
        return self.batch_seconds / self.busy_seconds if self.busy_seconds > 0 else 0.0
