"""Waiting in front of servers, in log space so that hundreds of servers do not overflow.

Sources: Erlang (1917) for M/M/c; Allen–Cunneen and Kimura for general arrivals and services (as in Kimura 1986,
"A two-moment approximation for the mean waiting time in the GI/G/s queue"); a birth–death chain with state-dependent
service, as in llm-inferno/queue-analysis, for engines whose step slows down as the batch grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sizing.errors import InvalidInput

if TYPE_CHECKING:  # numpy loads with the first queue: importing the library stays quick
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["StateDependentQueue", "Wait", "counted", "erlang_c", "general_wait", "wait_is_negligible"]

#: A chance of waiting whose logarithm is bounded by this is 0: it changes no other float.
_NO_WAIT_LOG, _BOUND_STEPS = -50.0, 4


class Wait(NamedTuple):
    """A wait that is 0 with probability 1 - ``probability`` and exponential with ``scale_seconds`` otherwise."""

    probability: float
    scale_seconds: float

    @property
    def mean_seconds(self) -> float:
        """Mean wait; infinite when the queue grows without bound."""
        return self.probability * self.scale_seconds

    def quantile_seconds(self, level: float) -> float:
        """Return the wait that a share ``level`` of the requests stays within."""
        if self.probability <= 1.0 - level:
            return 0.0
        if math.isinf(self.scale_seconds):
            return math.inf
        return self.scale_seconds * math.log(self.probability / (1.0 - level))


class StateDependentQueue:
    """M/M(k)/c: Poisson arrivals, and a service rate that depends on how many of the c servers are busy.

    ``rates[k]`` is the total service rate (requests per second) with k + 1 requests in service; ``rates[-1]`` applies
    to everybody who waits.

    Raises:
        InvalidInput: no rate, or one that is not positive.
    """

    def __init__(self, rates: NDArray[np.float64]) -> None:
        import numpy as np

        if rates.size == 0 or not rates.min() > 0:
            raise InvalidInput("service rates must be positive, at least one")
        self._last = float(rates[-1])
        self._states = counted(rates.size + 1)
        self._log_products = np.zeros(rates.size + 1)
        np.cumsum(np.log(rates), out=self._log_products[1:])

    def wait_probability(self, arrivals_per_second: float) -> float:
        """Return the probability that an arrival must wait; 1 when the arrivals exceed the last rate."""
        import numpy as np

        if arrivals_per_second <= 0:
            return 0.0
        load = arrivals_per_second / self._last
        if load >= 1.0:
            return 1.0
        # log p_k relative to p_0, for k = 0 … c
        logs = self._states * math.log(arrivals_per_second) - self._log_products
        waiting = float(logs[-1]) - math.log1p(-load)  # states c, c + 1, …: a geometric series
        below = logs[:-1]
        top = max(float(below.max()), waiting)
        busy = math.exp(waiting - top)
        return busy / (busy + float(np.exp(below - top).sum()))


@lru_cache(maxsize=64)
def counted(count: int) -> NDArray[np.float64]:
    """Return 0, 1, 2 … as an array that is shared: do not change it."""
    import numpy as np

    return np.arange(count, dtype=np.float64)


def wait_is_negligible(
    rate_at: Callable[[float], float], rate: float, saturation: float, batch: float, most: float, servers: int
) -> bool:
    """Whether the chance of waiting in a ``StateDependentQueue`` is below e^-50, found without making the queue.

    ``rate_at`` gives the service rate of a batch, rising up to ``saturation`` at the batch ``most`` of ``servers``
    places; arrivals at ``rate`` are served by ``batch`` in the mean. Every place between ``batch`` and ``most`` lowers
    the chance by rate / (rate at that place) at least, which a few steps bound.
    """
    if rate <= 0.0:
        return True
    load = rate / saturation
    if not (load < 1.0 and batch < most):
        return False
    part = (most - batch) / _BOUND_STEPS
    places = part * servers / most
    log = -math.log1p(-load)
    for step in range(_BOUND_STEPS - 1, 0, -1):
        log += places * min(math.log(rate / rate_at(batch + step * part)), 0.0)
        if log < _NO_WAIT_LOG:
            return True
    return False


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability of waiting in M/M/c with ``servers`` servers and ``offered`` = arrivals · service time.

    >>> round(erlang_c(1, 0.5), 3), round(erlang_c(10, 8.0), 3)
    (0.5, 0.409)
    """
    if servers < 1:
        raise InvalidInput(f"a queue needs at least one server, not {servers}")
    if not offered >= 0:
        raise InvalidInput(f"offered load must be at least 0, not {offered}")
    import numpy as np

    return StateDependentQueue(np.arange(1, servers + 1, dtype=np.float64)).wait_probability(offered)


def general_wait(
    probability: float, capacity_per_second: float, arrivals_per_second: float, arrival_scv: float, service_scv: float
) -> Wait:
    """Return the wait of GI/G/c by Allen–Cunneen: an exponential tail of 1/(cμ - λ) · (ca² + cs²)/2.

    ``probability`` is that of waiting at all, ``capacity_per_second`` is cμ; ``arrival_scv`` (ca²) takes the index of
    dispersion of the arrivals, ``service_scv`` is cs².
    """
    spare = capacity_per_second - arrivals_per_second
    if spare <= 0:
        return Wait(1.0, math.inf)
    return Wait(probability, (arrival_scv + service_scv) / (2.0 * spare))
