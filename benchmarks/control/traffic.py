"""Synthetic traffic for benchmarks of the controller: one delta a minute with every pool in it."""

from __future__ import annotations

import math

import numpy as np

from pipeline.config.settings import Settings
from pipeline.windows.histogram import bucket
from pipeline.windows.types import BASE_SECONDS, MEASURES, Delta, DeltaRows, HistogramRows, WindowKey

__all__ = ["DAY", "HOUR", "MINUTE", "START", "Traffic"]

START = 1_760_486_400  # a midnight
MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: Histogram cells of a base window.
CELLS = 30
#: Of the first histograms, in order: tokens in and out, seconds to the first and per further token, queued, in all.
TYPICAL = (900.0, 200.0, 0.3, 0.018, 0.05, 4.0)


class Traffic:
    """Deltas of a fleet whose pools have a day's course of their own, and a burst of one minute every ten hours."""

    def __init__(self, settings: Settings) -> None:
        count = len(settings.pools)
        self._topic = settings.kafka.requests_topic
        self._keys = [WindowKey(pool.model, pool.pool, "") for pool in settings.pools]
        self._random = np.random.default_rng(3)
        self._phase = self._random.uniform(0.0, 2.0 * math.pi, count)
        self._size = self._random.lognormal(3.0, 0.7, count)
        self._offset = 0

    def expected_per_second(self, at: float) -> list[float]:
        """Requests that come per second at a time (epoch seconds), by pool and without bursts."""
        course = 1.0 + 0.5 * np.sin(2.0 * math.pi * (at // MINUTE * MINUTE % DAY) / DAY + self._phase)
        rates: list[float] = ((self._size * course + 1.0) / BASE_SECONDS).tolist()
        return rates

    def delta(self, start: int) -> Delta:
        """Everything of the minute that begins at ``start``."""
        pools, parts = len(self._keys), MINUTE // BASE_SECONDS
        rows = pools * parts
        course = 1.0 + 0.5 * np.sin(2.0 * math.pi * (start % DAY) / DAY + self._phase)
        burst = np.where(self._random.random(pools) < 1.0 / 600.0, 3.0, 1.0)
        requests = self._random.poisson(np.tile(self._size * course * burst, parts)) + 1
        window = start + BASE_SECONDS * np.repeat(np.arange(parts), pools)
        per_request = {
            "requests": 1,
            "ok": 1,
            "input_tokens": 900,
            "output_tokens": 200,
            "input_tokens_squared": 900 * 1_000,
            "output_tokens_squared": 200 * 250,
            "input_output_product": 900 * 200,
            "kv_token_milliseconds": 1_000 * 4_000,
            "inflight_milliseconds": 4_000,
        }
        cells = rows * CELLS
        typical = np.array(TYPICAL)[np.arange(cells) % len(TYPICAL)]
        count, begin = int(requests.sum()), self._offset
        self._offset += count
        return Delta(
            topic=self._topic,
            partition=0,
            from_offset=begin,
            through_offset=begin + count - 1,
            base_delta_offset=(start - START) // MINUTE - 1,
            producer_id="memory",
            records=count,
            event_records=count,
            events=count,
            duplicates=0,
            lost=0,
            max_event_at=float(start + MINUTE - 1),
            idle=False,
            dead_letters=[],
            keys=self._keys,
            rows=DeltaRows(
                window=window.tolist(),
                key=np.tile(np.arange(pools), parts).tolist(),
                measures=[(requests * per_request.get(name, 0)).tolist() for name in MEASURES],
                max_completed_ms=((window + BASE_SECONDS) * 1_000).tolist(),
            ),
            histograms=HistogramRows(
                row=np.repeat(np.arange(rows), CELLS).tolist(),
                metric=(np.arange(cells) % len(TYPICAL)).tolist(),
                bucket=bucket(typical * self._random.lognormal(0.0, 0.3, cells)).tolist(),
                n=[1] * cells,
            ),
        )
