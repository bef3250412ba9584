"""GPU specifications: what one board can hold, read, compute and send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizing.errors import InvalidInput

__all__ = ["GpuSpec", "Link", "Price", "gpu_from_mapping"]


@dataclass(frozen=True, slots=True)
class Link:
    """All-reduce among ``g`` GPUs: seconds = ``latency_seconds`` + 2 (g-1)/g · bytes / ``bandwidth``."""

    latency_seconds: float
    bandwidth_bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Price:
    """What one GPU costs for an hour, US dollars before tax: who asks it, and when that was read."""

    dollars_per_gpu_hour: float
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU as an inference engine sees it; dense FLOP/s, base units, per GPU.

    ``compute_efficiency`` is the share of ``flops_per_second`` reached by large GEMMs of a precision. ``links`` is by
    group size within a node. ``source`` and ``as_of`` say where the figures are from. ``price`` is one provider's list
    price on demand, an example to compare with and not a quote; None: not known.
    """

    name: str
    memory_bytes: float
    memory_bandwidth_bytes_per_second: float
    flops_per_second: Mapping[str, float]
    compute_efficiency: Mapping[str, float]
    gpus_per_node: int
    topology: str
    links: Mapping[int, Link]
    inter_node_bandwidth_bytes_per_second: float
    other_reserve_bytes: float
    comm_reserve_bytes: Mapping[int, float]
    source: str
    as_of: str
    price: Price | None = None

    def compute_precision(self, precision: str) -> str:
        """Return the precision that GEMMs run in for weights of ``precision``: bf16 where the board has no better."""
        wanted = {"int4": "bf16", "mxfp4": "bf16"}.get(precision, precision)
        return wanted if wanted in self.flops_per_second else "bf16"

    def effective_flops_per_second(self, precision: str) -> float:
        """Return the FLOP/s that large GEMMs reach with weights of ``precision``."""
        compute = self.compute_precision(precision)
        return self.flops_per_second[compute] * self.compute_efficiency[compute]

    def link(self, group: int) -> Link:
        """Return the all-reduce link of a group of ``group`` GPUs.

        A size between two measured ones takes the larger one; a group larger than a node takes the network's
        bandwidth with the latency of the largest measured group (no timings across nodes: an assumption).
        """
        sizes = sorted(self.links)
        for size in sizes:
            if group <= size and group <= self.gpus_per_node:
                return self.links[size]
        largest = self.links[sizes[-1]]
        bandwidth = min(largest.bandwidth_bytes_per_second, self.inter_node_bandwidth_bytes_per_second)
        return Link(largest.latency_seconds, bandwidth)

    def comm_reserve(self, group: int) -> float:
        """Return the bytes that communication buffers take per GPU in a group of ``group`` GPUs."""
        sizes = sorted(self.comm_reserve_bytes)
        return self.comm_reserve_bytes[next((size for size in sizes if group <= size), sizes[-1])]


def gpu_from_mapping(name: str, fields: Mapping[str, Any]) -> GpuSpec:
    """Build a ``GpuSpec`` from a catalogue entry (the keys of ``gpus.yaml``).

    Raises:
        InvalidInput: a field is missing, is not a number or is not positive.
    """
    try:
        spec = GpuSpec(
            name=name,
            memory_bytes=_positive(fields["memory_bytes"]),
            memory_bandwidth_bytes_per_second=_positive(fields["memory_bandwidth_bytes_per_second"]),
            flops_per_second=_table(fields["flops_per_second"]),
            compute_efficiency=_table(fields["compute_efficiency"]),
            gpus_per_node=int(fields["gpus_per_node"]),
            topology=str(fields["topology"]),
            links={
                int(size): Link(_positive(link["latency_seconds"]), _positive(link["bandwidth_bytes_per_second"]))
                for size, link in fields["links"].items()
            },
            inter_node_bandwidth_bytes_per_second=_positive(fields["inter_node_bandwidth_bytes_per_second"]),
            other_reserve_bytes=float(fields["other_reserve_bytes"]),
            comm_reserve_bytes={int(size): float(value) for size, value in fields["comm_reserve_bytes"].items()},
            source=str(fields["source"]),
            as_of=str(fields["as_of"]),
            price=_price(fields.get("price")),
        )
    except KeyError as error:
        raise InvalidInput(f"GPU {name!r}: {error.args[0]} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"GPU {name!r}: {error}") from error
    if "bf16" not in spec.flops_per_second or not spec.links or not spec.comm_reserve_bytes:
        raise InvalidInput(f"GPU {name!r}: needs bf16 FLOP/s, links and comm_reserve_bytes")
    if not set(spec.flops_per_second) <= set(spec.compute_efficiency):
        missing = sorted(set(spec.flops_per_second) - set(spec.compute_efficiency))
        raise InvalidInput(f"GPU {name!r}: compute_efficiency has no {', '.join(missing)}")
    if spec.gpus_per_node < 1 or not all(0 < share <= 1 for share in spec.compute_efficiency.values()):
        raise InvalidInput(f"GPU {name!r}: needs gpus_per_node of at least 1 and compute_efficiency within (0, 1]")
    if min(spec.other_reserve_bytes, *spec.comm_reserve_bytes.values()) < 0:
        raise InvalidInput(f"GPU {name!r}: a reserve is negative")
    return spec


def _price(fields: Mapping[str, Any] | None) -> Price | None:
    if fields is None:
        return None
    return Price(_positive(fields["dollars_per_gpu_hour"]), str(fields["source"]), str(fields["as_of"]))


def _positive(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{value!r} is not a positive number")
    return number


def _table(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): _positive(value) for key, value in values.items()}
