"""A mix and its stock as JSON: of the command ``fleet plan`` and of ``/v1/fleet`` alike."""

from __future__ import annotations

from typing import Any

from sizing.planning.fleet_types import Fleet, Mix

__all__ = ["mix_rows", "stock_rows"]


def mix_rows(fleet: Fleet, mix: Mix) -> list[dict[str, Any]]:
    """Return a row for each pool, line of stock and tensor parallelism with replicas."""
    lines = {line.name: line for line in fleet.stock}
    return [
        {
            "pool": c.pool,
            "stock": c.stock,
            "gpu": c.gpu,
            "capacity_type": lines[c.stock].capacity_type.value,
            "region": lines[c.stock].region,
            "tensor_parallel": c.tensor_parallel,
            "gpus_per_replica": c.gpus,
            "replicas": n,
            "gpus": c.gpus * n,
            "replica_requests_per_second": c.requests_per_second,
            "dollars_per_hour": c.gpus * n * lines[c.stock].price.dollars_per_gpu_hour,
            "confidence": c.confidence.value,
        }
        for c, n in mix.replicas
    ]


def stock_rows(fleet: Fleet, mix: Mix) -> list[dict[str, Any]]:
    """Return a row for each line of stock, with the GPUs of it that are used."""
    used = {line.name: sum(c.gpus * n for c, n in mix.replicas if c.stock == line.name) for line in fleet.stock}
    return [
        {
            "stock": line.name,
            "gpu": line.gpu,
            "capacity_type": line.capacity_type.value,
            "region": line.region,
            "count": line.count,
            "used": used[line.name],
            "dollars_per_gpu_hour": line.price.dollars_per_gpu_hour,
            "price_source": line.price.source,
            "price_as_of": line.price.as_of,
        }
        for line in fleet.stock
    ]
