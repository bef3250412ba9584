"""GPU specifications: what one board can hold, read, compute and send."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sizing.errors import InvalidInput

__all__ = ["GpuSpec", "Link", "Overheads", "Price", "gpu_from_mapping"]

#: Of boards without timings of experts' kernels: the least of those with (H100, H200, L40S, B200;
#: benchmarks/sizing/experts.py), because kernels are tuned for those. Products of experts over the share of the peak
#: that large products reach, by precision of the weights (int8 as fp8; unpacked ones on Blackwell aside), and the time
#: of moving activations over its ideal. Reading experts over its ideal: the most of those.
_EXPERT_SHARE = {"bf16": 0.75, "fp8": 0.48, "int8": 0.48, "int4": 0.35, "mxfp4": 0.91, "nvfp4": 1.31}
_EXPERT_MOVING_RATIO = 2.15
_EXPERT_READ_RATIO = {"bf16": 1.18, "fp8": 1.24, "int8": 1.24, "int4": 1.28, "mxfp4": 1.13, "nvfp4": 1.12}


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
class Overheads:
    """Times of one device beyond the global coefficients, as ``sizing.calibration.hardware`` fits them.

    ``step_seconds`` are added to every engine step, ``request_seconds`` pass before a prompt is computed, and
    ``prompt_wait_share`` is the share of every other client's prompt that a prompt waits for in a closed loop.
    """

    step_seconds: float
    request_seconds: float
    prompt_wait_share: float


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU as an inference engine sees it; dense FLOP/s, base units, per GPU.

    ``compute_efficiency`` is the share of ``flops_per_second`` reached by large GEMMs of a precision. ``links`` is by
    group size within a node. ``source`` and ``as_of`` say where the figures are from. ``price`` is one provider's list
    price on demand, an example to compare with and not a quote; None: not known. ``vendor`` is "nvidia" or "amd",
    ``architecture`` the generation of its cores (hopper, blackwell, ada, ampere, turing, volta, cdna3, cdna4; None: not
    known). ``reported_memory_bytes`` is what the driver says (None: not known). ``overheads`` None: those that the
    global coefficients have for every device. ``expert_efficiency`` is the share of the peak that fused expert kernels
    reach, by precision of the weights (a missing one: a usual share of ``compute_efficiency``), and
    ``unpacked_weights_per_second`` how many 4-bit weights they unpack to 16 bits (None: no slower than they are read);
    ``expert_moving_ratio`` is the time that they take to move activations over the ideal, ``expert_read_ratio`` that of
    reading weights which they need not unpack first, by precision.
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
    overheads: Overheads | None = None
    vendor: str = "nvidia"
    architecture: str | None = None
    reported_memory_bytes: float | None = None
    expert_efficiency: Mapping[str, float] = field(default_factory=dict)
    unpacked_weights_per_second: float | None = None
    expert_moving_ratio: float = _EXPERT_MOVING_RATIO
    expert_read_ratio: Mapping[str, float] = field(default_factory=dict)

    @property
    def visible_memory_bytes(self) -> float:
        """The memory that the driver reports to an engine; the data sheet's where that is not known."""
        return self.memory_bytes if self.reported_memory_bytes is None else self.reported_memory_bytes

    def compute_precision(self, precision: str) -> str:
        """Return the precision that GEMMs run in for weights of ``precision``: bf16 where the board has no better."""
        return precision if precision in self.flops_per_second and precision != "int4" else "bf16"

    def unpacks(self, precision: str) -> bool:
        """Return whether kernels unpack 4-bit weights of ``precision`` to 16 bits before they multiply."""
        return precision in ("int4", "mxfp4", "nvfp4") and self.compute_precision(precision) == "bf16"

    def expert_flops_per_second(self, precision: str) -> float:
        """Return the FLOP/s that fused kernels of routed experts reach with many tokens per expert."""
        compute, kernel = self.compute_precision(precision), precision
        if compute != precision and precision not in ("int4", "mxfp4"):
            # Without cores for it NVFP4 is unpacked by the kernels that int4 has, 8 bits are multiplied as 16.
            kernel = "int4" if precision == "nvfp4" else "bf16"
        share = self.expert_efficiency.get(kernel)
        if share is None:
            share = _EXPERT_SHARE[kernel] * self.compute_efficiency[compute]
        return self.flops_per_second[compute] * share

    def expert_reading_ratio(self, precision: str) -> float:
        """Return the time that fused kernels of routed experts take to read weights over that of the data sheet."""
        return self.expert_read_ratio.get(precision, _EXPERT_READ_RATIO[precision])

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
        if not sizes:
            raise InvalidInput(f"{self.name} has no links in its catalogue entry: it is sized as a single device only")
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
    fields = {**(_SINGLE if fields.get("gpus_per_node", 1) == 1 else {}), **fields}
    missing = [key for key in _REQUIRED if fields.get(key) is None]
    if missing:
        raise InvalidInput(f"GPU {name!r}: missing {', '.join(missing)}")
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
            inter_node_bandwidth_bytes_per_second=_inter_node(fields["inter_node_bandwidth_bytes_per_second"]),
            other_reserve_bytes=float(fields["other_reserve_bytes"]),
            comm_reserve_bytes={int(size): float(value) for size, value in fields["comm_reserve_bytes"].items()},
            source=str(fields["source"]),
            as_of=str(fields["as_of"]),
            price=_price(fields.get("price")),
            overheads=_overheads(fields.get("overheads")),
            vendor=str(fields.get("vendor") or "nvidia"),
            architecture=None if fields.get("architecture") is None else str(fields["architecture"]),
            reported_memory_bytes=(
                None if fields.get("reported_memory_bytes") is None else _positive(fields["reported_memory_bytes"])
            ),
            expert_efficiency=_table(fields.get("expert_efficiency") or {}),
            unpacked_weights_per_second=(
                None
                if fields.get("unpacked_weights_per_second") is None
                else _positive(fields["unpacked_weights_per_second"])
            ),
            expert_moving_ratio=_positive(fields.get("expert_moving_ratio") or _EXPERT_MOVING_RATIO),
            expert_read_ratio=_table(fields.get("expert_read_ratio") or {}),
        )
    except KeyError as error:
        raise InvalidInput(f"GPU {name!r}: {error.args[0]} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"GPU {name!r}: {error}") from error
    if "bf16" not in spec.flops_per_second or not spec.comm_reserve_bytes:
        raise InvalidInput(f"GPU {name!r}: needs bf16 FLOP/s and comm_reserve_bytes")
    if not spec.links and spec.gpus_per_node > 1:
        raise InvalidInput(f"GPU {name!r}: needs links, for {spec.gpus_per_node} GPUs per node")
    if not set(spec.flops_per_second) <= set(spec.compute_efficiency):
        missing = sorted(set(spec.flops_per_second) - set(spec.compute_efficiency))
        raise InvalidInput(f"GPU {name!r}: compute_efficiency has no {', '.join(missing)}")
    shares = [*spec.compute_efficiency.values(), *spec.expert_efficiency.values()]
    if spec.gpus_per_node < 1 or not all(0 < share <= 1 for share in shares):
        raise InvalidInput(f"GPU {name!r}: needs gpus_per_node of at least 1 and efficiencies within (0, 1]")
    if spec.vendor not in ("nvidia", "amd"):
        raise InvalidInput(f"GPU {name!r}: vendor must be nvidia or amd, not {spec.vendor[:20]!r}")
    if min(spec.other_reserve_bytes, *spec.comm_reserve_bytes.values()) < 0:
        raise InvalidInput(f"GPU {name!r}: a reserve is negative")
    return spec


#: What an entry needs, and what one of a single device may leave out: nothing of it is shared.
_REQUIRED = (
    "memory_bytes",
    "memory_bandwidth_bytes_per_second",
    "flops_per_second",
    "compute_efficiency",
    "gpus_per_node",
    "topology",
    "links",
    "inter_node_bandwidth_bytes_per_second",
    "other_reserve_bytes",
    "comm_reserve_bytes",
    "source",
    "as_of",
)
_SINGLE: Mapping[str, Any] = {
    "gpus_per_node": 1,
    "topology": "single",
    "links": {},
    "inter_node_bandwidth_bytes_per_second": math.inf,
    "other_reserve_bytes": 0.0,
    "comm_reserve_bytes": {1: 0.0},
}


def _inter_node(value: Any) -> float:
    return math.inf if value == math.inf else _positive(value)


def _overheads(fields: Mapping[str, Any] | None) -> Overheads | None:
    if fields is None:
        return None
    share = _positive(fields["prompt_wait_share"])
    if share > 1:
        raise ValueError(f"prompt_wait_share must be in (0, 1], not {share!r}")
    return Overheads(_positive(fields["step_seconds"]), _positive(fields["request_seconds"]), share)


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
