"""The cells of the benchmark: which trace, which pool, which start-up time, which world.

Traces of services that are too large for one pool are thinned: each request is kept with the same probability, by a
seeded draw, so that a cell has at most ``MOST_REQUESTS``. Where a trace has no lengths they are drawn from the Azure
conversation trace of 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.config.settings import PoolSettings
from pipeline.evaluate.trace import RequestTrace
from sizing.simulate import Requests, World

MOST_REQUESTS = 200_000
SEED = 1

#: Qwen3-32B on two H100, TTFT 3 s and TPOT 100 ms, 3 to 8 replicas: llm-d, guides/workload-autoscaling, slo-aware.
LLMD = PoolSettings(
    model="qwen3-32b",
    profile="qwen3-32b",
    accelerator="h100-sxm",
    tensor_parallel=2,
    ttft_seconds=3.0,
    tpot_seconds=0.1,
    slo_percentile=0.99,
    min_replicas=3,
    max_replicas=8,
    scale_down_stabilisation_seconds=120.0,
)
#: The same model on the same GPUs as llm-d's token-aware guide has them (keda-epp-token-aware, read 2026-12-01): from
#: one replica to four, objectives as the goodput of its load profile (llm-d-benchmark, random_prefill_heavy) has them.
TOKEN_AWARE = LLMD.model_copy(
    update={
        "ttft_seconds": 2.0,
        "tpot_seconds": 0.05,
        "slo_percentile": 0.95,
        "min_replicas": 1,
        "max_replicas": 4,
        "initial_replicas": 1,
    }
)
#: A chat pool of a small model; objectives of Azure's traces are not published, these are the defaults of the settings.
CHAT = PoolSettings(
    model="llama-3.1-8b",
    profile="llama-3.1-8b",
    accelerator="h100-sxm",
    ttft_seconds=1.0,
    tpot_seconds=0.03,
    min_replicas=1,
    max_replicas=40,
)
#: The same for a large model.
LARGE = CHAT.model_copy(
    update={"model": "llama-3.1-70b", "profile": "llama-3.1-70b", "tensor_parallel": 4, "tpot_seconds": 0.05}
)

SLOW = World(slow=1.4)
ROUGH = World(slow=0.8, noise=0.1, stragglers=0.1, straggler_slow=1.5, start_fail=0.1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One evaluation; ``name`` identifies it in the results."""

    name: str
    trace: Callable[[Path | None], RequestTrace]
    pool: PoolSettings
    start_up_seconds: float
    world: World | None = None
    score_from_seconds: float = 0.0
    folder: bool = True


def llmd_ramp(_: Path | None, repeats: int = 1) -> RequestTrace:
    """2, 4, 6, 8, 10, 4, 1 requests/s for 330, 5 x 360 and 300 s; about 4000 tokens in and 1000 out (10 % spread)."""
    random = np.random.default_rng(SEED)
    at, times = 0.0, []
    for _ in range(repeats):
        for rate, seconds in ((2, 330), (4, 360), (6, 360), (8, 360), (10, 360), (4, 360), (1, 300)):
            times.append(at + np.sort(random.random(random.poisson(rate * seconds))) * seconds)
            at += seconds
    arrival = np.concatenate(times)
    inputs, outputs = (np.rint(random.normal(mean, mean / 10, arrival.size)) for mean in (4000, 1000))
    return RequestTrace("llm-d ramp", Requests.of(arrival, inputs, outputs), at, drawn=True)


def llmd_prefill_heavy(_: Path | None) -> RequestTrace:
    """1.93 requests/s for 1,200 s, 8192 tokens in and 256 out: llm-d-benchmark, random_prefill_heavy."""
    random = np.random.default_rng(SEED)
    seconds = 1_200.0
    arrival = np.sort(random.random(random.poisson(1.93 * seconds))) * seconds
    lengths = (np.full(arrival.size, tokens, dtype=np.int64) for tokens in (8_192, 256))
    return RequestTrace("llm-d, 8192 in and 256 out", Requests.of(arrival, *lengths), seconds, drawn=True)


def flash_crowd(folder: Path | None) -> RequestTrace:
    """Two hours of 6 requests/s with a crowd of 30 requests/s for ten minutes, reached within a minute."""
    assert folder is not None
    random = np.random.default_rng(SEED)
    seconds = np.arange(7_200.0)
    rate = 6.0 + 24.0 * np.clip((seconds - 3_600.0) / 60.0, 0.0, 1.0) * (seconds < 4_200.0)
    counts = random.poisson(rate)
    arrival = np.sort(np.repeat(seconds, counts) + random.random(int(counts.sum())))
    return _with_lengths("synthetic flash crowd", arrival, 7_200.0, folder, random)


def azure_2023(folder: Path | None, which: str) -> RequestTrace:
    """One hour, per request, with its own lengths."""
    assert folder is not None
    query = f"""SELECT epoch_us(timestamp) / 1e6 AS t, prompt_tokens AS i, output_tokens AS o
                FROM '{folder}/azure_llm_2023/{which}_requests.parquet' ORDER BY t"""
    found = duckdb.sql(query).fetchnumpy()
    times = found["t"] - found["t"][0]
    requests = Requests.of(times, np.maximum(found["i"], 1), np.maximum(found["o"], 1))
    return RequestTrace(f"Azure 2023 {which}", requests, float(times[-1]))


def mooncake(folder: Path | None) -> RequestTrace:
    """17 minutes of long prompts, per request, with its own lengths; the prefix cache is not simulated."""
    assert folder is not None
    query = f"""SELECT timestamp_ms / 1e3 AS t, prompt_tokens AS i, output_tokens AS o
                FROM '{folder}/mooncake/synthetic_requests.parquet' ORDER BY t"""
    found = duckdb.sql(query).fetchnumpy()
    requests = Requests.of(found["t"], np.minimum(found["i"], 100_000), found["o"])
    return RequestTrace("Mooncake synthetic", requests, float(found["t"][-1]))


def counted(folder: Path | None, name: str, source: str, bin_seconds: float, start: float, end: float) -> RequestTrace:
    """An excerpt of counts per bin, from ``start`` to ``end`` (seconds since its first bin), thinned."""
    assert folder is not None
    query = f"SELECT t, n FROM ({source.format(folder=folder)}) ORDER BY t"
    found = duckdb.sql(query).fetchnumpy()
    at = found["t"].astype(np.float64) - float(found["t"][0])
    inside = (at >= start) & (at < end)
    at, counts = at[inside] - start, found["n"][inside].astype(np.int64)
    random = np.random.default_rng(SEED)
    kept = random.binomial(counts, min(1.0, 0.98 * MOST_REQUESTS / counts.sum()))
    arrival = np.sort(np.repeat(at, kept) + random.random(int(kept.sum())) * bin_seconds)
    return _with_lengths(name, arrival, end - start, folder, random)


def _with_lengths(
    name: str, arrival: NDArray[np.float64], end: float, folder: Path, random: np.random.Generator
) -> RequestTrace:
    query = f"SELECT prompt_tokens AS i, output_tokens AS o FROM '{folder}/azure_llm_2023/conv_requests.parquet'"
    found = duckdb.sql(query).fetchnumpy()
    drawn = random.integers(0, len(found["i"]), arrival.size)
    requests = Requests.of(arrival, np.maximum(found["i"][drawn], 1), np.maximum(found["o"][drawn], 1))
    return RequestTrace(name, requests, end, drawn=True)


_AZURE_2024 = "SELECT epoch(timestamp) AS t, requests AS n FROM '{folder}/azure_llm_2024/conv_10s_counts.parquet'"
_WORLD_CUP = "SELECT epoch(timestamp) AS t, requests AS n FROM '{folder}/worldcup98/requests_1min.parquet'"
_BURST = "SELECT t_s AS t, conversation AS n FROM '{folder}/burstgpt/hourly.parquet'"
_BURST_API = "SELECT t_s AS t, api AS n FROM '{folder}/burstgpt/hourly.parquet'"
_SERVEGEN = "SELECT t_s AS t, requests AS n FROM '{folder}/servegen/model_demand_10min.parquet' WHERE model = 'm-mid'"
#: Of the World Cup trace, which begins on 30 April, 21:30: 23 June, 11:00 to 18:00 UTC.
_MATCH_DAY = (54 * 24 - 21.5 + 11) * 3_600.0


def _excerpt(
    name: str, source: str, bin_seconds: float, start: float, seconds: float
) -> Callable[[Path | None], RequestTrace]:
    return partial(counted, name=name, source=source, bin_seconds=bin_seconds, start=start, end=start + seconds)


def cells() -> list[Cell]:
    """Return all cells, the ones that the bars are stated for first."""
    wide = LLMD.model_copy(update={"max_replicas": 14})
    twice = partial(llmd_ramp, repeats=2)
    found = [
        Cell("llm-d ramp, start-up 100 s", llmd_ramp, LLMD, 100.0, folder=False),
        Cell("llm-d ramp, start-up 300 s", llmd_ramp, LLMD, 300.0, folder=False),
        Cell("llm-d ramp, start-up 100 s, 1.4x slower, max 14", llmd_ramp, wide, 100.0, SLOW, folder=False),
        Cell("llm-d ramp again, start-up 100 s, 1.4x slower, max 14", twice, wide, 100.0, SLOW, 2_430.0, False),
        Cell("llm-d 8192/256, start-up 100 s", llmd_prefill_heavy, TOKEN_AWARE, 100.0, folder=False),
        Cell("llm-d ramp again, start-up 100 s", twice, LLMD, 100.0, None, 2_430.0, False),
    ]
    hour = 3_600.0
    traces: list[tuple[str, Callable[[Path | None], RequestTrace], PoolSettings, float]] = [
        ("Azure 2023 conversation", partial(azure_2023, which="conv"), LARGE, 0.0),
        ("Azure 2023 code", partial(azure_2023, which="code"), LARGE, 0.0),
        ("Mooncake synthetic", mooncake, LARGE.model_copy(update={"ttft_seconds": 10.0, "tpot_seconds": None}), 0.0),
        ("synthetic flash crowd", flash_crowd, LARGE, 0.0),
        (
            "World Cup, 23 June 1998, 11-18 h",
            partial(
                counted,
                name="World Cup",
                source=_WORLD_CUP,
                bin_seconds=60.0,
                start=_MATCH_DAY,
                end=_MATCH_DAY + 7 * hour,
            ),
            LARGE,
            0.0,
        ),
        (
            "Azure 2024 conversation, 14 May, 4-16 h",
            _excerpt("Azure 2024", _AZURE_2024, 10.0, 52 * hour, 12 * hour),
            LARGE,
            0.0,
        ),
        (
            "BurstGPT conversation, days 21-22",
            partial(
                counted, name="BurstGPT", source=_BURST, bin_seconds=3_600.0, start=21 * 24 * hour, end=23 * 24 * hour
            ),
            CHAT,
            24 * hour,
        ),
        (
            "ServeGen m-mid, first day",
            _excerpt("ServeGen", _SERVEGEN, 600.0, 0.0, 24 * hour),
            CHAT,
            0.0,
        ),
        # One replica carries the two above: 0.1 requests/s in any hour, and 3.8 requests/s once thinned, of 19.
        (
            "BurstGPT API, day 9, 11-24 h",
            _excerpt("BurstGPT API", _BURST_API, hour, (9 * 24 + 11) * hour, 13 * hour),
            LARGE,
            0.0,
        ),
        (
            "ServeGen m-mid, first 8 h",
            _excerpt("ServeGen", _SERVEGEN, 600.0, 0.0, 8 * hour),
            LARGE,
            0.0,
        ),
    ]
    for seconds in (180.0, 60.0, 300.0, 600.0):
        found += [
            Cell(f"{name}, start-up {seconds:g} s", trace, pool, seconds, None, score_from)
            for name, trace, pool, score_from in traces
        ]
    for world, told in ((SLOW, "1.4x slower"), (ROUGH, "0.8x, uneven, failed starts")):
        found += [
            Cell(f"{name}, start-up 180 s, {told}", trace, pool, 180.0, world, score_from)
            for name, trace, pool, score_from in traces
        ]
    return found
