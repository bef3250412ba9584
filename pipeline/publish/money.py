"""What each pool costs now and as advised, per token and against an API, and what the advice saves.

Worked out when it is asked for, from the replica-hours that the engine counts and the prices of the user; a change of
price changes the past, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.config.prices import PoolPrice
from pipeline.engine.types import ReplicaUse
from pipeline.publish.exposition import Sample
from pipeline.publish.views import PoolView
from sizing.price_age import is_stale, price_age_days
from sizing.usage_cost import Usage, compare_with_api, savings, usage_cost

__all__ = ["money_samples", "pool_money_data"]

#: The span that metrics of cost per token are told over: the newest that is steady.
_SPAN_OF_METRICS = "1h"
_SPAN_OF_SAVINGS = "30d"


def pool_money_data(view: PoolView, when: float) -> dict[str, Any]:
    """Return the money of a pool, as ``/v1/money`` has it; the age of prices is told at ``when`` (epoch seconds)."""
    per_hour = _dollars_per_replica_hour(view)
    price = view.price or PoolPrice()
    advice = view.recommendation
    current = _current(view)
    api = None
    if price.api is not None:
        api = {"name": price.api_name, **asdict(price.api), **_age(price.api.as_of, when)}
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "gpu": None if view.settings is None else view.settings.accelerator,
        "gpus_per_replica": _gpus(view),
        "price": None if price.gpu is None else asdict(price.gpu) | _age(price.gpu.as_of, when),
        "api": api,
        "current_replicas": current,
        "advised_replicas": None if advice is None else advice.desired,
        "dollars_per_hour_now": None if per_hour is None or current is None else current * per_hour,
        "dollars_per_hour_advised": None if per_hour is None or advice is None else advice.desired * per_hour,
        "spans": [_span_data(use, per_hour, price) for use in view.uses],
    }


def _span_data(use: ReplicaUse, per_hour: float | None, price: PoolPrice) -> dict[str, Any]:
    saved = None
    if per_hour is not None:
        saved = asdict(savings(use.advised, use.peak_replicas, use.ran, use.advised_while_ran_replica_hours, per_hour))
    return {
        "span": use.span,
        "peak_replicas": use.peak_replicas,
        "advised": _usage_data(use.advised, per_hour, price),
        "ran": None if use.ran is None else _usage_data(use.ran, per_hour, price),
        "savings_dollars": saved,
    }


def _usage_data(usage: Usage, per_hour: float | None, price: PoolPrice) -> dict[str, Any]:
    cost = None if per_hour is None else usage_cost(usage, per_hour)
    api = None if cost is None or price.api is None else compare_with_api(usage, cost, price.api)
    return {
        "usage": asdict(usage),
        "cost": None if cost is None else asdict(cost),
        "api": None if api is None else asdict(api),
    }


def _age(as_of: str, when: float) -> dict[str, Any]:
    age = price_age_days(as_of, datetime.fromtimestamp(when, tz=UTC).date())
    return {"age_days": age, "stale": is_stale(age)}


def _gpus(view: PoolView) -> int | None:
    return None if view.settings is None else view.settings.deployment().gpus


def _dollars_per_replica_hour(view: PoolView) -> float | None:
    gpus = _gpus(view)
    if gpus is None or view.price is None or view.price.gpu is None:
        return None
    return gpus * view.price.gpu.dollars_per_gpu_hour


def _current(view: PoolView) -> int | None:
    """The replicas that the fleet reported last; None: not known now."""
    if view.window is not None and view.window.current_replicas is not None:
        return view.window.current_replicas
    return None if view.recommendation is None else view.recommendation.current


def money_samples(view: PoolView) -> Iterator[Sample]:
    """Yield the metrics of a pool's money; nothing without a price."""
    per_hour = _dollars_per_replica_hour(view)
    if per_hour is None or view.price is None or view.price.gpu is None:
        return
    when = 0.0 if view.window is None else float(view.window.end)
    if when:
        for what, price in (("gpu", view.price.gpu), ("api", view.price.api)):
            age = None if price is None else _age(price.as_of, when)["age_days"]
            yield "price_age_seconds", (what,), None if age is None else 86_400 * age
    current, advice = _current(view), view.recommendation
    yield "cost_dollars_per_hour", ("now",), None if current is None else current * per_hour
    yield "cost_dollars_per_hour", ("advised",), None if advice is None else advice.desired * per_hour
    for use in view.uses:
        if use.span == _SPAN_OF_METRICS:
            for basis, usage in (("advised", use.advised), ("ran", use.ran)):
                if usage is not None:
                    yield from _cost_samples(basis, usage, per_hour, view.price)
        if use.span == _SPAN_OF_SAVINGS:
            saved = savings(use.advised, use.peak_replicas, use.ran, use.advised_while_ran_replica_hours, per_hour)
            yield "savings_dollars", ("static_peak",), saved.against_static_peak
            yield "savings_dollars", ("ran",), saved.against_ran


def _cost_samples(basis: str, usage: Usage, per_hour: float, price: PoolPrice) -> Iterator[Sample]:
    cost = usage_cost(usage, per_hour)
    yield "cost_dollars_per_million_tokens", (basis, "input"), cost.dollars_per_million_input_tokens
    yield "cost_dollars_per_million_tokens", (basis, "output"), cost.dollars_per_million_output_tokens
    yield "cost_dollars_per_million_tokens", (basis, "all"), cost.dollars_per_million_tokens
    yield "cost_dollars_per_request", (basis,), cost.dollars_per_request
    yield "capacity_utilisation_ratio", (basis,), cost.utilisation
    if price.api is not None and price.api_name is not None:
        there = compare_with_api(usage, cost, price.api)
        yield "api_break_even_utilisation_ratio", (basis, price.api_name, "standard"), there.break_even_utilisation
        yield "api_break_even_utilisation_ratio", (basis, price.api_name, "batch"), there.batch_break_even_utilisation
