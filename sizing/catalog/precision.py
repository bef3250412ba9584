"""Precisions by their many names, and what they weigh."""

from __future__ import annotations

import re

from sizing.errors import InvalidInput

__all__ = [
    "BYTES_PER_PARAMETER",
    "KV_BYTES_PER_ELEMENT",
    "kv_precision",
    "weight_precision",
    "without_precision",
]

_ALIASES = {
    "bf16": "bf16", "bfloat16": "bf16", "fp16": "bf16", "float16": "bf16", "half": "bf16",
    "fp8": "fp8", "fp8_block": "fp8", "fp8_ds_mla": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "float8": "fp8",
    "int8": "int8", "w8a8": "int8",
    "int4": "int4", "awq": "int4", "gptq": "int4", "w4a16": "int4",
    "fp4": "nvfp4", "nvfp4": "nvfp4", "nvfp4-pack-quantized": "nvfp4", "mxfp4": "mxfp4",
    "float-quantized": "fp8", "w4a16_awq": "int4", "pack-quantized": "int4",
}  # fmt: skip

_NAMED = re.compile(
    r"(?P<base>.+?)[-_.](?:quantized[-_.])?(?P<precision>bf16|fp8|nvfp4|fp4|mxfp4|int8|w8a8|int4|w4a16|awq|gptq)"
    r"(?:[-_.](?:dynamic|block|static|static-pertensor|v\d+|int4))?",
    re.IGNORECASE,
)

#: Bytes of one weight by canonical precision; 4-bit formats with their scales: int4 (AWQ, GPTQ) a 2-byte scale and a
#: 4-bit zero per 128 weights, NVFP4 a 1-byte scale per 16, MXFP4 (OCP Microscaling) a 1-byte scale per 32.
BYTES_PER_PARAMETER = {
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5 + 2.5 / 128,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
}

#: Bytes of one element of the KV cache.
KV_BYTES_PER_ELEMENT = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0}


def without_precision(name: str) -> tuple[str, str | None]:
    """Return a checkpoint's name without the precision at its end, and that precision (None: it names none).

    >>> without_precision("nvidia/Llama-3.1-8B-Instruct-FP8"), without_precision("org/model-quantized.w4a16")
    (('nvidia/Llama-3.1-8B-Instruct', 'fp8'), ('org/model', 'int4'))
    """
    found = _NAMED.fullmatch(name)
    return (name, None) if found is None else (found["base"], _ALIASES[found["precision"].lower()])


def weight_precision(name: str) -> str:
    """Return the canonical name of a weight precision.

    Raises:
        InvalidInput: it is not known.

    >>> weight_precision("FP16"), weight_precision("awq")
    ('bf16', 'int4')
    """
    canonical = _ALIASES.get(str(name).strip().lower())
    if canonical is None:
        raise InvalidInput(f"unknown precision {name!r}; known: {', '.join(sorted(BYTES_PER_PARAMETER))}")
    return canonical


def kv_precision(name: str | None) -> str:
    """Return the canonical precision of the KV cache; None is bf16, what engines choose when nothing is set.

    Raises:
        InvalidInput: it is not a precision that engines keep a KV cache in.
    """
    canonical = "bf16" if name is None or name.strip().lower() == "auto" else weight_precision(name)
    if canonical not in KV_BYTES_PER_ELEMENT:
        raise InvalidInput(f"KV cache in {name!r} is not supported; known: {', '.join(sorted(KV_BYTES_PER_ELEMENT))}")
    return canonical
