"""Tables for steps 9 and 10: prefill and decode apart, and speculative decoding; both for comparison only."""

from __future__ import annotations

from sizing.errors import SizingError
from sizing.explain.model import Table, Value
from sizing.explain.question import Worked
from sizing.planning.disaggregation import disaggregated, speculation
from sizing.replica.replica_model import MAX_UTILISATION

__all__ = ["apart", "speculative"]

#: What the sensitivity assumes: five tokens are verified per step, 70 % of the drafted ones are accepted.
_DRAFT_TOKENS, _ACCEPTANCE = 4, 0.7


def apart(w: Worked) -> Table:
    """Return prefill and decode on replicas of their own beside one replica that does both."""
    together = w.replica.mean_latency(w.lane_batch)
    rows: list[tuple[Value, ...]] = [
        (
            "together, at the operating point",
            w.point.requests_per_second,
            None,
            None,
            together.ttft_seconds * w.known.ttft_ratio,
            together.tpot_seconds * 1e3,
        )
    ]
    network = w.resolved.gpu.inter_node_bandwidth_bytes_per_second * w.question.deployment.gpus
    try:
        found = disaggregated(
            w.resolved, w.resolved, w.workload, network_bytes_per_second=network, coefficients=w.known.coefficients
        )
    except SizingError:
        found = None
    if found is not None:
        # A rate takes rate / prefill capacity + rate / decode capacity replicas.
        front, back = found.prefill_requests_per_second, found.decode_requests_per_second
        rows.append(
            (
                f"apart, at {found.utilisation:.0%} of saturation",
                front * back / (front + back) * found.utilisation / MAX_UTILISATION,
                found.prefill_per_decode,
                found.transfer_seconds * 1e3,
                found.latency.ttft_seconds,
                found.latency.tpot_seconds * 1e3,
            )
        )
    columns = ("prefill and decode", "req/s per replica", "prefill replicas per decode", "KV transfer, ms")
    return Table(
        "Prefill and decode apart",
        (*columns, "mean TTFT, s", "mean TPOT, ms"),
        tuple(rows),
        f"sizing.planning.disaggregation (DistServe, OSDI '24); KV cache over {network / 1e9:.0f} GB/s; {w.gpu_source}",
        0,
    )


def speculative(w: Worked) -> Table:
    """Return what speculative decoding would do to TPOT from one sequence to a full batch."""
    most = max(w.replica.max_lane_batch, 1.0)
    rows: list[tuple[Value, ...]] = []
    for batch in sorted({1.0, max(most / 4, 1.0), max(w.lane_batch, 1.0), most}):
        found = speculation(w.replica, batch, draft_tokens=_DRAFT_TOKENS, acceptance=_ACCEPTANCE)
        plain = found.tpot_seconds / found.tpot_ratio
        rows.append((batch, plain * 1e3, found.tpot_seconds * 1e3, found.tpot_ratio))
    return Table(
        "Speculative decoding, as a sensitivity (prompts left out)",
        ("sequences in a batch", "TPOT without, ms", "TPOT with, ms", "with / without"),
        tuple(rows),
        f"sizing.planning; assumed: {_DRAFT_TOKENS} draft tokens, {_ACCEPTANCE:.0%} accepted; {w.step_source}",
    )
