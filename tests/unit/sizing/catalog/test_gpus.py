from __future__ import annotations

import pytest

from sizing.catalog import Catalog, resolve_gpu
from sizing.errors import UnknownGpu


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA H800", "h800-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A800-SXM4-80GB", "a800-sxm-80gb"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-max-q"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100-sxm-32gb"),
        ("Tesla V100-PCIE-16GB", "v100-pcie-16gb"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L20", "l20"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA B200", "b200-sxm"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI350X", "mi350x"),
        ("AMD Instinct MI355X", "mi355x"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm"),
        ("AMD_Instinct_MI300X_OAM", "mi300x"),
        ("nvidia-h100-mega-80gb", "h100-sxm"),
        ("nvidia-a100-80gb", "a100-sxm-80gb"),
        ("nvidia-tesla-a100", "a100-sxm-40gb"),
        ("nvidia-tesla-v100", "v100-sxm-16gb"),
        ("nvidia-tesla-t4", "t4"),
        ("rtx4090", "rtx-4090"),
        ("RTX_4090", "rtx-4090"),
        ("NVIDIA-A100-80GB-PCIe", "a100-pcie-80gb"),
        ("NVIDIA A100-SXM-80GB", "a100-sxm-80gb"),
        ("NVIDIA H100 SXM5 80GB", "h100-sxm"),
        ("nvidia-h200-141gb", "h200-sxm"),
        ("NVIDIA GB200 NVL72", "gb200"),
        ("nvidia-rtx-pro-6000", "rtx-pro-6000"),
        ("Tesla V100-SXM3-32GB", "v100-sxm-32gb"),
        ("AMD Instinct MI300X VF", "mi300x"),
        ("AMD Instinct MI325X", "mi325x"),
    ],
)
def test_names_as_drivers_print_them(driver: str, name: str) -> None:
    assert resolve_gpu(driver).name == name


@pytest.mark.parametrize(
    "name",
    [
        # Other memory under a known name.
        "NVIDIA A100-SXM-64GB", "NVIDIA A800-SXM4-40GB", "NVIDIA H100 SXM5 64GB", "NVIDIA H100 96GB HBM3",
        "NVIDIA GH200 144G HBM3e", "NVIDIA H20-3e", "NVIDIA H20 141GB", "RTX 4090 48GB", "NVIDIA H100 80GB HBM2e",
        # Another board, one letter or word away.
        "NVIDIA A10M", "NVIDIA A16", "NVIDIA A2", "NVIDIA A100X", "NVIDIA L2", "NVIDIA L40G", "NVIDIA B100",
        "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 5090 D v2",
        "NVIDIA GeForce RTX 3090 Ti", "NVIDIA RTX A5000", "NVIDIA RTX 5880 Ada Generation", "Quadro RTX 6000",
        "NVIDIA RTX 6000D", "NVIDIA RTX PRO 5000 72GB Blackwell", "NVIDIA H800 PCIe", "NVIDIA H800 NVL",
        "Tesla V100S-PCIE-32GB", "Tesla V100-FHHL-16GB", "Tesla T40 24GB", "AMD Instinct MI300A",
        "AMD Instinct MI308X", "AMD Instinct MI250X", "NVIDIA Thor", "NVIDIA CMP 170HX",
        # Shares of a board by NVIDIA's vGPU, several boards, and machines.
        "GRID A100D-80C", "NVIDIA A10G-24Q", "NVIDIA L40S-48Q", "GRID T4-16Q", "2x H100", "H100 80GB x8", "p5.48xlarge",
        "a2-highgpu-1g", "Standard_ND96isr_H100_v5",
    ],
)  # fmt: skip
def test_names_that_are_of_none_of_these_boards(name: str) -> None:
    with pytest.raises(UnknownGpu, match="unknown GPU"):
        resolve_gpu(name)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA-L4-SHARED",
        "A100-SXM4-80GB-1g.10gb",
    ],
)
def test_parts_of_a_gpu_are_refused_as_such(name: str) -> None:
    with pytest.raises(UnknownGpu, match="is a part of a GPU"):
        resolve_gpu(name)


@pytest.mark.parametrize("name", ["Gaudi 3", "gaudi2", "TPU v5e", "tpu-v6e", "Inferentia2", "trn1", "Trainium"])
def test_accelerators_that_are_known_but_not_sized(name: str) -> None:
    with pytest.raises(UnknownGpu, match="known by name, but not sized"):
        resolve_gpu(name)


@pytest.mark.parametrize(
    ("name", "offered"),
    [("h100-xsm", "h100-sxm"), ("a100-80g", "a100-"), ("NVIDIA L40SX", None), ("rtx 4080", None), ("mi250x", None)],
)
def test_suggestions_are_of_the_same_model_number(name: str, offered: str | None) -> None:
    with pytest.raises(UnknownGpu) as caught:
        resolve_gpu(name)
    text = str(caught.value)
    if offered is None:
        assert "did you mean" not in text
    else:
        _, _, meant = text.partition("did you mean ")
        assert meant
        assert all(each.startswith(offered.split("-")[0]) for each in meant.rstrip("?").split(" or "))


def test_every_board_has_its_generation_and_no_more_memory_than_its_sheet() -> None:
    catalog = Catalog()
    for name in catalog.gpu_names():
        gpu = catalog.gpu(name)
        assert gpu.architecture is not None, name
        assert gpu.visible_memory_bytes <= gpu.memory_bytes, name
        assert (gpu.vendor == "amd") == name.startswith("mi")
        # A figure that nothing backs would be called measured.
        assert (
            "data sheet" in gpu.source
            or "http" in gpu.source
            or "Architecture" in gpu.source
            or ":" in gpu.source
            or "brief" in gpu.source
            or "performance-prediction" in gpu.source
        )
