"""The changes of one setting that are tried on a deployment, each with what it costs.

They are those of the tables of ``size --explain``. Steps are such as people take: half precision to FP8, objectives a
fifth and a half longer, limits and tensor parallelism doubled, half or four fifths of the prompts from the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sizing.catalog.engines import engine
from sizing.catalog.precision import KV_BYTES_PER_ELEMENT
from sizing.planning.disaggregation import transfer_bytes
from sizing.planning.serving import QUALITY, Apart
from sizing.replica.memory import Resolved
from sizing.types import Deployment, Slo, Workload

__all__ = ["CHANGES", "Case"]

_BY_FORMULA = "the KV cache is sized by formula, not by what the engine reported"
_PREFIXES = "only if so much of the prompts is shared"
_CLIENTS = "a weaker promise to clients"


@dataclass(frozen=True, slots=True)
class Case:
    """A deployment under a load with an objective, whole or with one change; ``caveat`` says what the change costs.

    ``apart``: prefill and decode are on replicas of their own.
    """

    resolved: Resolved
    workload: Workload
    slo: Slo
    apart: Apart | None = None
    value: str = ""
    label: str = ""
    caveat: str | None = None


def _fp8_weights(base: Case) -> Case | None:
    resolved = base.resolved
    if resolved.precision != "bf16" or "fp8" not in resolved.gpu.flops_per_second:
        return None
    deployment = replace(resolved.deployment, precision="fp8", observed_kv_tokens=None)
    changed = replace(resolved, precision="fp8", deployment=deployment)
    return replace(base, resolved=changed, value="fp8", label="FP8 weights", caveat=_measured(base, QUALITY))


def _fp8_kv_cache(base: Case) -> Case | None:
    resolved = base.resolved
    spec = engine(resolved.deployment.engine)
    known = spec is None or "fp8" in spec.kv_precisions
    if resolved.kv_precision != "bf16" or not known or "fp8" not in resolved.gpu.flops_per_second:
        return None
    observed = resolved.deployment.observed_kv_tokens
    if observed is not None:
        observed = int(observed * KV_BYTES_PER_ELEMENT["bf16"] / KV_BYTES_PER_ELEMENT["fp8"])
    deployment = replace(resolved.deployment, kv_precision="fp8", observed_kv_tokens=observed)
    changed = replace(resolved, kv_precision="fp8", deployment=deployment)
    return replace(base, resolved=changed, value="fp8", label="FP8 KV cache", caveat=QUALITY)


def _slower_tokens(base: Case) -> Case | None:
    if base.slo.tpot_seconds is None:
        return None
    seconds = _two_digits(1.2 * base.slo.tpot_seconds)
    slo = replace(base.slo, tpot_seconds=seconds)
    return replace(base, slo=slo, value=f"{seconds:g}", label=f"TPOT {seconds * 1e3:g} ms", caveat=_CLIENTS)


def _later_first_token(base: Case) -> Case | None:
    if base.slo.ttft_seconds is None:
        return None
    seconds = _two_digits(1.5 * base.slo.ttft_seconds)
    slo = replace(base.slo, ttft_seconds=seconds)
    return replace(base, slo=slo, value=f"{seconds:g}", label=f"TTFT {seconds:g} s", caveat=_CLIENTS)


def _more_from_cache(base: Case) -> Case | None:
    share = next((share for share in (0.5, 0.8) if base.workload.cached_share <= share - 0.05), None)
    if share is None:
        return None
    workload = replace(base.workload, cached_share=share)
    return replace(base, workload=workload, value=f"{share:g}", label=f"prefix cache share {share:g}", caveat=_PREFIXES)


def _more_sequences(base: Case) -> Case:
    value = 2 * base.resolved.deployment.max_num_seqs
    deployment = replace(base.resolved.deployment, max_num_seqs=value)
    return _with_limit(base, "max_num_seqs", value, deployment)


def _more_tokens_per_step(base: Case) -> Case:
    value = 2 * base.resolved.deployment.max_batched_tokens
    deployment = replace(base.resolved.deployment, max_batched_tokens=value)
    return _with_limit(base, "max_batched_tokens", value, deployment)


def _with_limit(base: Case, name: str, value: int, deployment: Deployment) -> Case:
    changed = replace(base.resolved, deployment=deployment)
    return replace(base, resolved=changed, value=f"{value}", label=f"{name} {value}")


def _more_gpus(base: Case) -> Case | None:
    size = 2 * base.resolved.deployment.tensor_parallel
    if size > base.resolved.gpu.gpus_per_node:
        return None
    deployment = replace(base.resolved.deployment, tensor_parallel=size, observed_kv_tokens=None)
    changed = replace(base.resolved, deployment=deployment)
    label, caveat = f"tensor parallelism {size}", _measured(base, "more GPUs per replica")
    return replace(base, resolved=changed, value=f"{size}", label=label, caveat=caveat)


def _prefill_apart(base: Case) -> Case:
    resolved = base.resolved
    network = resolved.gpu.inter_node_bandwidth_bytes_per_second * resolved.deployment.gpus
    sent = transfer_bytes(resolved, base.workload)
    caveat = (
        f"{sent / 1e6:,.0f} MB of KV cache per request over {network / 1e9:,.0f} GB/s, with nothing else on the link; "
        "no way of serving apart was measured here"
    )
    return replace(base, apart=Apart(network), value="apart", label="prefill and decode apart", caveat=caveat)


def _measured(base: Case, caveat: str) -> str:
    """Add what is lost of the engine's own report to a caveat."""
    return caveat if base.resolved.deployment.observed_kv_tokens is None else f"{caveat}; {_BY_FORMULA}"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


#: The changes by the setting that they change, in the order in which they are told.
CHANGES: dict[str, Callable[[Case], Case | None]] = {
    "kv_precision": _fp8_kv_cache,
    "precision": _fp8_weights,
    "slo_tpot_seconds": _slower_tokens,
    "slo_ttft_seconds": _later_first_token,
    "cached_share": _more_from_cache,
    "max_num_seqs": _more_sequences,
    "max_batched_tokens": _more_tokens_per_step,
    "tensor_parallel": _more_gpus,
    "serving": _prefill_apart,
}
