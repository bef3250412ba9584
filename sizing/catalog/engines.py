"""Inference engines: the limits they set when nobody else does, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sizing.catalog.data import section
from sizing.catalog.gpus import GpuSpec
from sizing.catalog.models import ModelSpec
from sizing.errors import InvalidInput

__all__ = [
    "EngineDefaults",
    "EngineMemory",
    "EngineSpec",
    "engine",
    "engine_defaults",
    "engine_memory",
    "engine_release",
    "engine_warnings",
]

#: What sizing takes where an engine's own default is not known: vLLM's, before 2026.
_MAX_NUM_SEQS, _MAX_BATCHED_TOKENS, _MEMORY_SHARE = 256, 8192, 0.90


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine. ``memory_share`` is of the whole GPU (``memory_share_of`` "gpu") or of what is free after loading.

    ``batch`` holds (largest GPU memory in bytes or None, sequences or None, tokens per step or None), ascending;
    ``kv_block_tokens`` None: not known. ``source`` and ``as_of`` say where the figures are from.
    """

    name: str
    memory_share: float
    memory_share_of: str
    kv_block_tokens: int | None
    kv_precisions: tuple[str, ...]
    batch: tuple[tuple[float | None, int | None, int | None], ...]
    small_batch_gpus: tuple[str, ...]
    divides_heads: bool
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """What one release of an engine keeps free on a GPU; bytes, by vendor ("nvidia", "amd") where they differ.

    ``logit_bytes`` per sequence and entry of the vocabulary in the sampling step; ``group_bytes`` where GPUs work
    together, ``pcie_bytes`` instead where NVIDIA's have no NVLink; ``windows`` and ``chunks``: whether
    such layers give back what has left the window; ``tokens_are_concurrency``: whether the KV cache size that it
    prints is maximum concurrency times length, instead of an equal share of the blocks for every group of layers;
    ``kv_from_checkpoint``: whether the KV cache is in what the checkpoint asks for when nothing is set.
    """

    logit_bytes: Mapping[str, float]
    runtime_bytes: Mapping[str, float]
    group_bytes: Mapping[str, float]
    pcie_bytes: float
    nvswitch_bytes: float
    encoder_bytes: Mapping[str, float]
    indexer_bytes: float
    graph_bytes: Mapping[str, float]
    expert_workspace_kept: bool
    windows: bool
    chunks: bool
    tokens_are_concurrency: bool
    kv_from_checkpoint: bool
    memory_share: float
    source: str


@dataclass(frozen=True, slots=True)
class EngineDefaults:
    """What a deployment gets when nothing is set; ``source`` says whose defaults these are."""

    max_num_seqs: int
    max_batched_tokens: int
    memory_utilisation: float
    source: str


@cache
def _engines() -> dict[str, EngineSpec]:
    found = {}
    for name, fields in section("engines.yaml", "engines").items():
        batch = tuple((row["up_to_bytes"], row["max_num_seqs"], row["max_batched_tokens"]) for row in fields["batch"])
        spec = EngineSpec(
            name=name,
            memory_share=fields["memory_share"],
            memory_share_of=fields["memory_share_of"],
            kv_block_tokens=fields["kv_block_tokens"],
            kv_precisions=tuple(fields["kv_precisions"]),
            batch=batch,
            small_batch_gpus=tuple(fields["small_batch_gpus"]),
            divides_heads=fields["divides_heads"],
            source=fields["source"],
            as_of=str(fields["as_of"]),
        )
        found.update(dict.fromkeys((name, *fields["aliases"]), spec))
    return found


def engine(name: str) -> EngineSpec | None:
    """Return an engine by name or alias, any case; None for one that is not known, which is no error.

    >>> engine("TRTLLM").name
    'tensorrt-llm'
    """
    return _engines().get(name.strip().lower())


def engine_release(version: str | None) -> tuple[int, ...] | None:
    """Return a release as numbers, without what follows them ("v0.18.0+rhaiv.7"); None: not given, the newest.

    Raises:
        InvalidInput: it does not begin with numbers.

    >>> engine_release("v0.13.1.dev8+g2841a84ac"), engine_release("0.11.2rc1+rhai0.cuda"), engine_release(None)
    ((0, 13, 1), (0, 11, 2), None)
    """
    if version is None or not version.strip():
        return None
    found = re.match(r"v?(\d{1,6}(?:\.\d{1,6}){0,3})", version.strip())
    if found is None:
        raise InvalidInput(f"engine_version must begin with numbers such as 0.18.0, not {version[:40]!r}")
    return tuple(int(part) for part in found[1].split("."))


@cache
def engine_memory(name: str, version: str | None = None) -> EngineMemory | None:
    """Return what a release of an engine keeps free; None for engines of which that is not known.

    Raises:
        InvalidInput: the version cannot be read.
    """
    release, spec = engine_release(version), engine(name)
    rows = section("engines.yaml", "engines")[spec.name].get("memory") if spec is not None else None
    if spec is None or not rows:
        return None
    fields: dict[str, object] = {}
    first: str | None = None
    for row in rows:
        start = engine_release(row["from"])
        if release is None or start is None or start <= release:
            fields |= row
            first = row["from"]
    fields.pop("from")
    return EngineMemory(**fields, source=f"{spec.name} from {first} on: catalog/engines.yaml ({spec.as_of})")  # type: ignore[arg-type]


def engine_defaults(name: str, gpu: GpuSpec, version: str | None = None) -> EngineDefaults:
    """Return what a deployment gets on a GPU when nothing is set.

    >>> from sizing.catalog import resolve_gpu
    >>> [engine_defaults("vllm", resolve_gpu(gpu)).max_num_seqs for gpu in ("h100", "a100", "l4")]
    [1024, 256, 256]
    """
    spec = engine(name)
    if spec is None:
        unknown = f"assumed: the engine {name[:40]!r} is not in the catalogue"
        return EngineDefaults(_MAX_NUM_SEQS, _MAX_BATCHED_TOKENS, _MEMORY_SHARE, unknown)
    small = any(gpu.name.startswith(prefix) for prefix in spec.small_batch_gpus)
    row = next(row for row in spec.batch if small or row[0] is None or gpu.memory_bytes <= row[0])
    share = spec.memory_share if spec.memory_share_of == "gpu" else _MEMORY_SHARE
    memory = engine_memory(name, version)
    share = share if memory is None else memory.memory_share
    return EngineDefaults(
        max_num_seqs=row[1] or _MAX_NUM_SEQS,
        max_batched_tokens=row[2] or _MAX_BATCHED_TOKENS,
        memory_utilisation=share,
        source=f"{spec.name}: {spec.source} ({spec.as_of})",
    )


def engine_warnings(name: str, model: ModelSpec, tensor_parallel: int, kv_precision: str) -> tuple[str, ...]:
    """Return what an engine would refuse or do differently about a deployment, one sentence each."""
    spec = engine(name)
    if spec is None:
        return (f"the engine {name[:40]!r} is not in the catalogue: its limits are not checked",)
    found = []
    if spec.divides_heads and model.heads and model.heads % tensor_parallel:
        found.append(f"{spec.name} splits {model.heads} attention heads evenly: not over {tensor_parallel} GPUs")
    if kv_precision not in spec.kv_precisions:
        found.append(f"{spec.name} keeps no KV cache in {kv_precision}")
    return tuple(found)
