"""What an engine keeps free of weights and KV cache: activations, its runtime, communication, CUDA graphs.

vLLM measures it at start: it runs the largest step and a sampling step of max_num_seqs sequences, takes the peak, and
gives the rest to the KV cache (vllm-project/vllm, vllm/v1/worker/gpu_worker.py, determine_available_memory). The
sampling step usually decides: its buffers grow with max_num_seqs · vocabulary. Bytes per logit, by release and with
their sources, are in ``catalog/engines.yaml``; for engines and devices without such figures ``other_reserve_bytes``
stand.
"""

from __future__ import annotations

from dataclasses import dataclass

from sizing.catalog.engines import EngineMemory, engine_memory
from sizing.catalog.gpus import GpuSpec
from sizing.catalog.models import ModelSpec
from sizing.catalog.quantization import Quantization
from sizing.types import Deployment

__all__ = ["Reserve", "engine_reserve"]

_BYTES = 2.0  # activations are in 16 bits
#: Hidden states that live beside the logits of the sampling step, in copies: 4.76 to 4.84 GiB of peak for hidden sizes
#: of 4,096 and 8,192 at one vocabulary, 5.56 to 5.64 GiB for 1,024 and 5,120 (llm-d/llm-d-benchmark, config_explorer,
#: 2025-10).
_HIDDEN_COPIES = 1.28
#: Tensors of hidden size that one layer of the largest step has alive at once: residual, normed, attention in and out.
_LAYER_COPIES = 4.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """Bytes per GPU that neither weights nor the KV cache get, by cause."""

    activations: float
    runtime: float
    communication: float
    graphs: float
    source: str

    @property
    def total(self) -> float:
        """All of them, in bytes."""
        return self.activations + self.runtime + self.communication + self.graphs


def engine_reserve(
    deployment: Deployment, model: ModelSpec, gpu: GpuSpec, quantization: Quantization | None
) -> Reserve:
    """Return what the engine keeps free on each GPU of a replica."""
    memory = engine_memory(deployment.engine, deployment.engine_version)
    group = deployment.gpus
    # A device of the user's own, without a generation, is none that start-up lines were read of.
    if memory is None or model.vocabulary is None or gpu.architecture is None:
        return Reserve(gpu.other_reserve_bytes, 0.0, gpu.comm_reserve(group), 0.0, f"empirical; {gpu.source}")
    vendor = gpu.vendor
    return Reserve(
        activations=_activations(deployment, model, gpu, quantization, memory),
        runtime=memory.runtime_bytes[vendor],
        communication=_communication(memory, gpu, deployment.tensor_parallel * deployment.data_parallel),
        graphs=memory.graph_bytes[vendor],
        source=memory.source,
    )


def _communication(memory: EngineMemory, gpu: GpuSpec, group: int) -> float:
    if group == 1:
        return 0.0
    if gpu.topology == "pcie" and gpu.vendor == "nvidia":
        return memory.pcie_bytes
    switched = gpu.topology == "nvswitch" and gpu.architecture in ("hopper", "blackwell")
    return memory.group_bytes[gpu.vendor] + (memory.nvswitch_bytes if switched else 0.0)


def _activations(
    deployment: Deployment, model: ModelSpec, gpu: GpuSpec, quantization: Quantization | None, memory: EngineMemory
) -> float:
    tokens, tp = deployment.max_batched_tokens, deployment.tensor_parallel
    hidden = tokens * model.hidden_size * _BYTES
    sequences = min(deployment.max_num_seqs, tokens)
    sampling = sequences * (model.vocabulary or 0) * memory.logit_bytes[gpu.vendor] + _HIDDEN_COPIES * hidden
    # A gated feed-forward part has gate, up and their product alive.
    step = _LAYER_COPIES * hidden + 3 * tokens * model.widest * _BYTES / tp
    experts = _expert_workspace(deployment, model)
    if memory.expert_workspace_kept and _workspace_kernels(deployment, model, gpu, quantization):
        kept = experts
    else:
        kept, step = 0.0, step + experts
    if model.encoder_parameters:
        kept += memory.encoder_bytes[gpu.vendor]
    if model.index_bytes:
        kept += memory.indexer_bytes
    return max(sampling, step) + kept


def _expert_workspace(deployment: Deployment, model: ModelSpec) -> float:
    """Return the two buffers in which expert kernels keep every token once for each of its experts."""
    if model.expert_shape is None:
        return 0.0
    return 2 * deployment.max_batched_tokens * model.expert_shape.per_token * model.expert_shape.width * _BYTES


def _workspace_kernels(
    deployment: Deployment, model: ModelSpec, gpu: GpuSpec, quantization: Quantization | None
) -> bool:
    """Whether vLLM runs the experts in kernels with a workspace of its own (Triton, DeepGEMM), not in FlashInfer's.

    FlashInfer's are the default for FP8 and FP4 on Blackwell, for one FP8 scale per tensor and for experts without a
    gate (vllm-project/vllm, vllm/model_executor/layers/fused_moe/oracle; read 2026-11).
    """
    if model.expert_shape is None or deployment.expert_parallel > 1 or gpu.architecture == "blackwell":
        return False
    own = None if quantization is None else quantization.of("experts")
    if own is None:
        return model.expert_shape.matrices == 3
    return own.precision in ("fp8", "int8") and own.scales != "tensor" and model.expert_shape.matrices == 3
