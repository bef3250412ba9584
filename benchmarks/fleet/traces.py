"""Pools from public traces: rates of one window after the other, lengths as they were recorded."""

from __future__ import annotations

from pathlib import Path

import duckdb

from sizing.planning.fleet_types import FleetPool
from sizing.types import Slo, Workload

__all__ = ["trace_pools"]

#: The models that serve them are stand-ins: the traces do not name theirs. ServeGen's are by size.
CHAT, LARGE = "llama-3.1-8b", "llama-3.3-70b"
SERVEGEN = {"m-small": CHAT, "m-mid": "qwen3-32b"}
QUANTILES = "[0.05, 0.25, 0.5, 0.75, 0.95]"
_LENGTHS = "avg(prompt_tokens), avg(output_tokens), avg(prompt_tokens**2), avg(output_tokens**2)"


def trace_pools(folder: Path) -> dict[str, tuple[FleetPool, ...]]:
    """Return the pools of each trace that is there: Azure 2023 (a minute), Azure 2024 (10 s), ServeGen (10 min)."""
    found = {}
    azure = folder / "azure_llm_2023"
    if azure.is_dir():
        code, chat = (_requests(azure / f"{kind}_requests.parquet") for kind in ("code", "conv"))
        found["Azure 2023, code and conversation"] = (_pool("code", LARGE, *code), _pool("conversation", CHAT, *chat))
        counts = folder / "azure_llm_2024" / "conv_10s_counts.parquet"
        if counts.is_file():
            rates = _quantiles(f"select requests / 10 as rate from '{counts}'")
            found["Azure 2024, conversation (lengths of 2023)"] = (_pool("conversation", CHAT, rates, chat[1]),)
    demand = folder / "servegen" / "model_demand_10min.parquet"
    if demand.is_file():
        found["ServeGen, two models"] = tuple(
            _pool(name, model, *_servegen(demand, name)) for name, model in SERVEGEN.items()
        )
    return found


def _quantiles(rates: str) -> list[float]:
    (row,) = duckdb.sql(f"select quantile_cont(rate, {QUANTILES}) from ({rates})").fetchall()
    return [float(value) for value in row[0]]


def _requests(path: Path) -> tuple[list[float], tuple[float, ...]]:
    by_minute = f"select count(*) / 60 as rate from '{path}' group by time_bucket(interval 1 minute, timestamp)"
    (lengths,) = duckdb.sql(f"select {_LENGTHS} from '{path}'").fetchall()
    return _quantiles(by_minute), lengths


def _servegen(path: Path, name: str) -> tuple[list[float], tuple[float, ...]]:
    of_model = f"from '{path}' where model = '{name}'"
    known = "sum(requests_len_known)"
    (lengths,) = duckdb.sql(
        f"select sum(prompt_tokens_known) / {known}, sum(output_tokens_known) / {known} {of_model}"
    ).fetchall()
    return _quantiles(f"select requests / 600 as rate {of_model}"), lengths


def _pool(name: str, model: str, rates: list[float], lengths: tuple[float, ...]) -> FleetPool:
    workload = Workload(*(float(value) for value in lengths))
    return FleetPool(name, model, (0.05, 0.25, 0.5, 0.75, 0.95), tuple(rates), workload, Slo(2.0, 0.06))
