from __future__ import annotations

import pytest

from sizing.calibration.loadtests.subject import differences
from sizing.calibration.loadtests.types import Subject
from sizing.catalog import Catalog
from sizing.types import Deployment

GIVEN = Deployment("llama-3.1-8b", "h100", precision="fp8")


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
        "llama-3.1-8b",
        "prod-chat",  # an alias of the operator's may stand for anything
        None,
    ],
)
def test_the_same_model_by_other_names(name: str | None) -> None:
    assert differences(Subject(model=name), GIVEN, Catalog()) == ()


@pytest.mark.parametrize(
    "name",
    ["meta-llama/Llama-3.2-3B-Instruct", "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.3-70B-Instruct", "some/Other-8B"],
)
def test_another_model(name: str) -> None:
    assert differences(Subject(model=name), GIVEN, Catalog()) == (
        f"the report names the model {name}, --model is llama-3.1-8b",
    )


def test_engine_gpu_shape_and_precision() -> None:
    same = Subject(engine="vLLM", gpu="NVIDIA H100 80GB HBM3", tensor_parallel=1, precision="FP8")
    assert differences(same, GIVEN, Catalog()) == ()
    other = Subject(engine="sglang", gpu="h200", tensor_parallel=4, precision="bf16")
    assert [text.partition(",")[0] for text in differences(other, GIVEN, Catalog())] == [
        "the report names the serving engine sglang",
        "the report names the GPU h200",
        "the report names tensor parallelism 4",
        "the report names the precision bf16",
    ]


def test_a_configuration_by_its_path_has_no_name_to_compare() -> None:
    given = Deployment("/models/config.json", "h100")
    assert differences(Subject(model="tiny-llama"), given, Catalog()) == ()
