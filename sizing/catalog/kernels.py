"""Which precisions of weights an inference engine can serve on a GPU at all.

Sources: vLLM 0.32.0 as installed from its wheel (``get_min_capability`` of ``model_executor/layers/quantization``,
``is_fp4_marlin_supported``, and the kernels by platform in ``model_executor/kernels/linear/__init__.py``; read
2026-12-01): below compute capability 7.5 (Turing) there is no kernel for weights in 8 bits or NVFP4, below 8.0 (Ampere)
none for MXFP4, and on AMD all that there is for NVFP4, and before CDNA4 for dense layers in MXFP4, is an emulation for
checks of quality, which unpacks the whole layer to 16 bits at every step. TensorRT-LLM's pages on hardware and
precisions (nvidia.github.io/TensorRT-LLM, supported-hardware and reference/support-matrix; read 2026-12-01): NVIDIA's
GPUs alone, FP8 from Ada on, NVFP4 on Blackwell alone.
"""

from __future__ import annotations

from sizing.catalog.engines import engine
from sizing.catalog.gpus import GpuSpec
from sizing.errors import NoKernel

__all__ = ["check_kernel"]

_VLLM_LACKS = {"volta": ("fp8", "int8", "nvfp4", "mxfp4"), "turing": ("mxfp4",)}
_NAMES = {"fp8": "FP8", "int8": "INT8", "nvfp4": "NVFP4", "mxfp4": "MXFP4"}


def check_kernel(engine_name: str, gpu: GpuSpec, precision: str, *, experts: bool) -> None:
    """Check that an engine serves weights of ``precision`` on a GPU; ``experts``: of a mixture-of-experts model.

    Of engines that are not in the catalogue and GPUs whose architecture is not known nothing is said.

    Raises:
        NoKernel: it does not.

    >>> from sizing.catalog import resolve_gpu
    >>> check_kernel("vllm", resolve_gpu("h100"), "nvfp4", experts=False)
    >>> check_kernel("vllm", resolve_gpu("mi300x"), "nvfp4", experts=False)
    Traceback (most recent call last):
    sizing.errors.NoKernel: mi300x has no kernels for weights in NVFP4, only an emulation: take fp8 or bf16
    """
    spec = engine(engine_name)
    if spec is None:
        return
    weights = f"weights in {_NAMES.get(precision, precision)}"
    if gpu.vendor == "amd":
        if spec.name == "tensorrt-llm":
            raise NoKernel(f"TensorRT-LLM does not run on {gpu.name}: it serves on NVIDIA's GPUs alone")
        if precision == "nvfp4" or (precision == "mxfp4" and gpu.architecture == "cdna3" and not experts):
            raise NoKernel(f"{gpu.name} has no kernels for {weights}, only an emulation: take fp8 or bf16")
    elif spec.name == "tensorrt-llm":
        if precision in ("fp8", "nvfp4") and precision not in gpu.flops_per_second:
            raise NoKernel(f"TensorRT-LLM has no kernels for {weights} on {gpu.name}: take int4 or bf16")
    elif spec.name == "vllm" and precision in _VLLM_LACKS.get(gpu.architecture or "", ()):
        raise NoKernel(f"vLLM has no kernels for {weights} on {gpu.name}: take int4 or bf16")
