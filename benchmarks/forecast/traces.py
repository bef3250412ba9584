"""The demand traces of the benchmark: where they lie, their grain, the horizons asked for."""

from __future__ import annotations

import csv
import datetime
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from pipeline.forecast.calendar.effects import CalendarRecord

__all__ = ["HELD_OUT", "TRACES", "WARM_UP_SECONDS", "WORLDCUP_START", "Trace", "load", "matches", "named"]

WARM_UP_SECONDS = 2 * 86_400
MATCH_SECONDS = 6300
WORLDCUP_START = datetime.datetime(1998, 5, 1, tzinfo=datetime.UTC).timestamp()


@dataclass(frozen=True)
class Trace:
    """One series: ``column`` of ``file``, ``rows`` of it per window of ``grain_seconds``."""

    file: str
    column: str
    order: str
    where: str
    rows: int
    grain_seconds: int
    horizons_seconds: tuple[int, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """The horizons in windows."""
        return tuple(horizon // self.grain_seconds for horizon in self.horizons_seconds)

    @property
    def day(self) -> int:
        """Windows per day."""
        return 86_400 // self.grain_seconds

    @property
    def first(self) -> int:
        """The first window after the warm-up."""
        return WARM_UP_SECONDS // self.grain_seconds


_MINUTES = (300, 900, 3600)
_TENS = (600, 1200, 3600)
_HOURS = (3600, 10_800, 86_400)
_AZURE, _BURST = "azure_llm_2024/conv_10s_counts.parquet", "burstgpt/hourly.parquet"
_SERVEGEN = "servegen/model_demand_10min.parquet"

TRACES = {
    "az_1min": Trace(_AZURE, "requests", "timestamp", "true", 6, 60, _MINUTES),
    "az_5min": Trace(_AZURE, "requests", "timestamp", "true", 30, 300, _MINUTES),
    "burst_tokens_5min": Trace("burstgpt/week1_tokens_1min.parquet", "tokens", "t_s", "true", 5, 300, _MINUTES),
    "burst_conversation_1h": Trace(_BURST, "conversation", "t_s", "true", 1, 3600, _HOURS),
    "burst_all_1h": Trace(_BURST, "conversation + api", "t_s", "true", 1, 3600, _HOURS),
    "servegen_small_10min": Trace(_SERVEGEN, "requests", "t_s", "model = 'm-small'", 1, 600, _TENS),
    "servegen_mid_10min": Trace(_SERVEGEN, "requests", "t_s", "model = 'm-mid'", 1, 600, _TENS),
    "nasa_5min": Trace("nasa_http/requests_10s.parquet", "requests", "t_s", "true", 30, 300, _MINUTES),
    "worldcup_5min": Trace(
        "worldcup98/requests_1min.parquet", "requests", "timestamp", "timestamp >= '1998-05-01'", 5, 300, _MINUTES
    ),
}

_MONITORED, _NAB = "ms_cloud_monitoring/series.parquet", "nab/series.parquet"
_PURCHASE, _INGRESS = "series = 'consumer-purchase-rate/purchase-{:02}'", "series = 'data-ingress-rate/ingress-{:02}'"
_BALANCER = "series = 'realAWSCloudwatch/elb_request_count_8c0756.csv'"

#: Demand that nothing in the forecaster was chosen on: labelled monitoring series that count something, but for those
#: that are zero in most windows (purchase-01 and -06, ingress-02).
HELD_OUT = {
    **{
        f"ingress_{n:02}_5min": Trace(_MONITORED, "value", "timestamp", _INGRESS.format(n), 5, 300, _MINUTES)
        for n in (1, 3, 4, 5)
    },
    "balancer_5min": Trace(_NAB, "value", "timestamp", _BALANCER, 1, 300, _MINUTES),
    **{
        f"purchase_{n:02}_1h": Trace(_MONITORED, "value", "timestamp", _PURCHASE.format(n), 1, 3600, _HOURS)
        for n in (2, 3, 4, 5)
    },
}


def load(folder: Path, name: str) -> np.ndarray:
    """Rates per second of one trace, per window."""
    trace = named(name)
    query = f"select {trace.column} as y from read_parquet(?) where {trace.where} order by {trace.order}"
    counts = duckdb.execute(query, [str(folder / trace.file)]).fetchnumpy()["y"].astype(np.float64)
    return counts[: len(counts) // trace.rows * trace.rows].reshape(-1, trace.rows).sum(axis=1) / trace.grain_seconds


def named(name: str) -> Trace:
    """The trace of this name.

    Raises:
        KeyError: there is none.
    """
    return TRACES[name] if name in TRACES else HELD_OUT[name]


def matches(folder: Path) -> tuple[CalendarRecord, ...]:
    """The public fixture list of the World Cup: what was known beforehand, kick-off times only."""
    records = []
    with (folder / "worldcup98/match_schedule.csv").open() as file:
        for at, row in enumerate(csv.DictReader(file)):
            kickoff = datetime.datetime.fromisoformat(row["kickoff_utc"]).replace(tzinfo=datetime.UTC).timestamp()
            records.append(CalendarRecord(str(at), "match", kickoff, kickoff + MATCH_SECONDS))
    return tuple(records)
