from __future__ import annotations

from dataclasses import replace

import pytest

from sizing.errors import InvalidInput
from sizing.planning.disaggregation import disaggregated, speculation
from sizing.replica.memory import kv_bytes_per_token, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Deployment, Workload

H100 = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
CHAT = Workload(2000, 200)


def test_prefill_and_decode_are_balanced_and_the_transfer_is_paid() -> None:
    slow = disaggregated(H100, H100, CHAT, network_bytes_per_second=1e9)
    fast = disaggregated(H100, H100, CHAT, network_bytes_per_second=50e9)
    assert slow.transfer_bytes == 2000 * 131_072
    assert slow.transfer_seconds == pytest.approx(0.262144)
    assert slow.latency.ttft_seconds - fast.latency.ttft_seconds == pytest.approx(0.262144 * 0.98)
    balance = slow.prefill_per_decode * slow.prefill_requests_per_second
    assert balance == pytest.approx(slow.decode_requests_per_second)


def test_states_of_recurrent_layers_are_sent_too() -> None:
    hybrid = resolve(Deployment("qwen3-coder-next", "h100-sxm", tensor_parallel=4))
    sent = disaggregated(hybrid, hybrid, CHAT, network_bytes_per_second=1e9).transfer_bytes
    assert sent == 2000 * kv_bytes_per_token(hybrid.model) + 2 * hybrid.model.state_elements


def test_decode_alone_is_quicker_per_token_than_mixed_with_prompts() -> None:
    apart = disaggregated(H100, H100, CHAT, network_bytes_per_second=50e9)
    mixed = ReplicaModel(H100, CHAT)
    batch = mixed.lane_batch(mixed.saturation_requests_per_second * 0.7)
    assert batch is not None
    decode = ReplicaModel(H100, replace(CHAT, cached_share=1.0))
    assert decode.step_seconds(batch) < mixed.step_seconds(batch)
    assert apart.decode_requests_per_second > mixed.saturation_requests_per_second * 0.9


def test_longer_prompts_need_more_prefill_replicas() -> None:
    short = disaggregated(H100, H100, Workload(500, 300), network_bytes_per_second=50e9)
    long = disaggregated(H100, H100, Workload(8000, 300), network_bytes_per_second=50e9)
    assert long.prefill_per_decode > short.prefill_per_decode


def test_two_models_cannot_share_a_request() -> None:
    other = resolve(Deployment("qwen3-32b", "h100-sxm"))
    with pytest.raises(InvalidInput, match="one model"):
        disaggregated(H100, other, CHAT, network_bytes_per_second=1e9)
    for wrong in ({"network_bytes_per_second": 0.0}, {"network_bytes_per_second": 1e9, "utilisation": 1.0}):
        with pytest.raises(InvalidInput):
            disaggregated(H100, H100, CHAT, **wrong)


def test_speculation_helps_alone_and_loses_its_gain_in_large_batches() -> None:
    replica = ReplicaModel(H100, Workload(100, 60))
    ratios = [
        speculation(replica, batch, draft_tokens=4, acceptance=0.5).tpot_ratio for batch in (1, 16, 64, 256, 1024)
    ]
    assert ratios == sorted(ratios)
    assert ratios[0] < 0.75
    assert ratios[-1] > 1.0


def test_nothing_accepted_is_only_a_cost() -> None:
    found = speculation(ReplicaModel(H100, CHAT), 8, draft_tokens=4, acceptance=0.0)
    assert found.tokens_per_step == 1.0
    assert found.tpot_ratio > 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"draft_tokens": 0, "acceptance": 0.5},
        {"draft_tokens": 4, "acceptance": 1.0},
        {"draft_tokens": 4, "acceptance": float("nan")},
        {"draft_tokens": 4, "acceptance": 0.5, "draft_cost_ratio": -1.0},
    ],
)
def test_speculation_refuses_what_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        speculation(ReplicaModel(H100, CHAT), 8, **wrong)
    with pytest.raises(InvalidInput):
        speculation(ReplicaModel(H100, CHAT), 0, draft_tokens=4, acceptance=0.5)
