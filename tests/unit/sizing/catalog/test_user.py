from __future__ import annotations

from typing import Any

import pytest

from sizing.catalog.user import catalog_from_mapping
from sizing.errors import SizingError
from sizing.replica.memory import resolve
from sizing.types import Deployment

CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}


def test_a_gpu_like_a_known_one_with_a_price_of_ones_own() -> None:
    price = {"dollars_per_gpu_hour": 1.75, "source": "our contract", "as_of": "2026-11"}
    catalog = catalog_from_mapping({"gpus": {"H100-ours": {"like": "h100", "price": price}}})
    gpu = catalog.gpu("h100-OURS")
    assert gpu.price is not None
    assert gpu.price.dollars_per_gpu_hour == 1.75
    assert gpu.links == catalog.gpu("h100").links
    # It was not measured itself.
    assert resolve(Deployment("llama-3.1-8b", "h100-ours"), catalog).assumed_gpu


def test_a_model_by_its_configuration() -> None:
    catalog = catalog_from_mapping({"models": {"mine": {"config": CONFIG, "source": "our training"}}})
    assert catalog.model("MINE").source == "our training"
    assert "mine" in catalog.model_names()


@pytest.mark.parametrize(
    "content",
    [
        {"gpu": {}},
        {"gpus": []},
        {"gpus": {"x": None}},
        {"gpus": {"x": {"like": "abacus"}}},
        {"gpus": {"x": {"like": "h100", "memory": 3}}},
        {"gpus": {"x": {"like": "h100", "memory_bytes": "lots"}}},
        {"gpus": {"x": {"like": "h100", "memory_bytes": -1}}},
        {"gpus": {"x": {"like": "h100", "memory_bytes": True}}},
        {"gpus": {"x": {"like": "h100", "links": 5}}},
        {"gpus": {"x": {"like": "h100", "links": {2: 5}}}},
        {"gpus": {"x": {"like": "h100", "links": {}}}},
        {"gpus": {"x": {"like": "h100", "compute_efficiency": {"bf16": 1.5, "fp8": 0.5, "int8": 0.5}}}},
        {"gpus": {"x": {"like": "h100", "compute_efficiency": {"bf16": 0.5}}}},
        {"gpus": {"x": {"like": "h100", "flops_per_second": {"fp8": 1e15}}}},
        {"gpus": {"x": {"like": "h100", "gpus_per_node": 0}}},
        {"gpus": {"x": {"like": "h100", "price": 3}}},
        {"gpus": {"x": {"like": "h100", "price": {"dollars_per_gpu_hour": 3}}}},
        {"gpus": {"x": {"like": "h100", "price": {"dollars_per_gpu_hour": float("nan"), "source": "", "as_of": ""}}}},
        {"gpus": {"x": {"like": "h100", "other_reserve_bytes": -1}}},
        {"models": {"x": CONFIG}},
        {"models": {"x": {}}},
        {"models": {"x": {"config": {"num_hidden_layers": 10**30}}}},
        {"models": "x"},
    ],
)
def test_catalogues_that_cannot_be(content: dict[str, Any]) -> None:
    with pytest.raises(SizingError) as caught:
        catalog_from_mapping(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
