"""How a checkpoint is quantised: which parts of a model, to what, and with which scales.

Read from ``quantization_config`` of a Hugging Face configuration (fp8, fbgemm_fp8, compressed-tensors, modelopt, awq,
gptq, auto-round, bitsandbytes, mxfp4, quark). Formats: huggingface/transformers ``utils/quantization_config.py``,
vllm-project/compressed-tensors ``quant_config.py``, NVIDIA/TensorRT-Model-Optimizer's exported ``hf_quant_config``;
2026-11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sizing.catalog.layers import LayerPlan
from sizing.catalog.modules import ignored_share, named_share
from sizing.catalog.precision import weight_precision
from sizing.errors import InvalidInput

__all__ = ["Quantization", "assumed_quantization", "checkpoint_quantization"]

#: Parts that checkpoints and engines keep in 16 bits at every precision (routers: ReplicatedLinear without a
#: quantisation in vllm-project/vllm, vllm/model_executor/models; embeddings, heads and towers: every ignore list read).
ALWAYS_16_BIT = ("head", "embedding", "encoder", "router", "projection")
_LAYER_PARTS = ("attention", "linear_attention", "mamba", "mlp", "shared_expert", "experts", "indexer")


@dataclass(frozen=True, slots=True)
class Quantization:
    """What the weights of a checkpoint are quantised to.

    ``scales`` says what one scale belongs to: a "tensor", a "channel" (output row), a "block" (128 × 128) or a "group"
    of ``group_size`` weights. ``kept`` maps parts to the share of them that stays in 16 bits, 0 where not named.
    ``kv_precision`` is what the checkpoint asks the KV cache to be in (None: nothing). ``zeros``: groups have zero
    points. ``parts`` are those of a mixed checkpoint that are quantised in another way than the routed experts (or,
    without experts, than most). ``ignore`` and ``schemes`` are what the file says, until ``bound`` to a model's layers.
    """

    precision: str
    scales: str
    group_size: int | None = None
    kept: tuple[tuple[str, float], ...] = ()
    kv_precision: str | None = None
    zeros: bool = False
    method: str = ""
    ignore: tuple[str, ...] = ()
    schemes: tuple[tuple[tuple[str, ...], Quantization], ...] = ()
    parts: tuple[tuple[str, Quantization], ...] = ()

    def of(self, part: str) -> Quantization:
        """Return how a part is quantised: as the rest, or in a mixed checkpoint in its own way."""
        return dict(self.parts).get(part, self)

    def share_kept(self, part: str) -> float:
        """Return the share of a part that stays in 16 bits."""
        return 1.0 if part in ALWAYS_16_BIT else dict(self.kept).get(part, 0.0)

    @property
    def bytes_per_parameter(self) -> float:
        """Bytes of one quantised weight with the scales of its group or block; those of channels come on top."""
        bits = {"fp8": 8, "int8": 8, "int4": 4, "nvfp4": 4, "mxfp4": 4}[self.precision]
        if self.precision == "nvfp4":
            return 0.5 + 1 / 16  # an FP8 scale for 16 weights
        if self.precision == "mxfp4":
            return 0.5 + 1 / 32  # an 8-bit exponent for 32 weights (OCP Microscaling 1.0)
        extra = 0.0
        if self.scales == "group" and self.group_size:
            extra = (2.0 + (bits / 8 if self.zeros else 0.0)) / self.group_size
        elif self.scales == "block":
            extra = 4.0 / 128**2
        return bits / 8 + extra

    def bound(self, plan: LayerPlan, model_type: str, parts: Collection[str]) -> Quantization:
        """Return this with what the file names evaluated on the layers of a model that has these parts.

        Raises:
            InvalidInput: a pattern of the file cannot be read.
        """
        present = [part for part in _LAYER_PARTS if part in parts]
        if self.schemes:
            return self._bound_schemes(plan, model_type, present)
        shares = {part: ignored_share(self.ignore, part, plan, model_type) for part in present}
        kept = {part: share for part, share in self.kept if part in present}
        kept |= {part: share for part, share in shares.items() if share > 0}
        return replace(self, kept=tuple(sorted(kept.items())), ignore=())

    def _bound_schemes(self, plan: LayerPlan, model_type: str, present: Sequence[str]) -> Quantization:
        """Choose the scheme of every part: that of most of its layers; the rest of them stays in 16 bits."""
        chosen: dict[str, Quantization] = {}
        kept: dict[str, float] = {}
        for part in present:
            ignored = ignored_share(self.ignore, part, plan, model_type)
            shares = [(named_share(names, part, plan, model_type), scheme) for names, scheme in self.schemes]
            share, scheme = max(shares, key=lambda pair: pair[0])
            chosen[part] = replace(scheme, kept=(), ignore=(), schemes=())
            left = 1.0 - min(share, 1.0 - ignored)
            if left > 0:
                kept[part] = left
        common = "experts" if "experts" in present else max(present, key=lambda part: 1.0 - kept.get(part, 0.0))
        main = chosen[common]
        return replace(
            main,
            kept=tuple(sorted(kept.items())),
            kv_precision=self.kv_precision,
            method=self.method,
            parts=tuple(
                (part, scheme) for part, scheme in chosen.items() if scheme != main and kept.get(part, 0.0) < 1
            ),
        )


def checkpoint_quantization(config: Mapping[str, Any], name: str = "config") -> Quantization | None:
    """Return how a configuration says that its weights are quantised; None: they are not.

    Raises:
        InvalidInput: it names a method or a format that cannot be read.

    >>> awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    >>> checkpoint_quantization({"quantization_config": awq}).precision
    'int4'
    """
    given = config.get("quantization_config")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{name}: quantization_config must be a mapping, not {type(given).__name__}")
    nested = given.get("quantization")
    fields = nested if isinstance(nested, Mapping) else given
    method = str(fields.get("quant_method") or fields.get("producer") or "").lower()
    if fields.get("quant_algo") is not None or "modelopt" in method:
        return _modelopt(fields, name)
    reader = _METHODS.get(method)
    if reader is None:
        raise InvalidInput(
            f"{name}: quantization_config has quant_method {method[:40]!r}, which cannot be read; "
            f"known: {', '.join(sorted(_METHODS))}, modelopt"
        )
    return reader(fields, name)


#: Names that tools give their lists of modules in 16 bits.
_IGNORE = (
    "ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "exclude", "llm_int8_skip_modules",
)  # fmt: skip


def _ignore(fields: Mapping[str, Any]) -> tuple[str, ...]:
    for key in _IGNORE:
        values = fields.get(key)
        if isinstance(values, list | tuple):
            return tuple(str(value) for value in values[:20_000])
    return ()


def _group_size(fields: Mapping[str, Any], name: str, default: int | None = None) -> int | None:
    value = fields.get("group_size", default)
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise InvalidInput(f"{name}: group_size must be a positive whole number, not {str(value)[:40]!r}")
    return value


def _kv(fields: Mapping[str, Any]) -> str | None:
    scheme = fields.get("kv_cache_scheme") or fields.get("kv_cache_quant_algo")
    if isinstance(scheme, str):
        return "fp8" if scheme.upper().startswith("FP8") else None
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
        return "fp8" if scheme.get("type") == "float" else "int8"
    return None


def _fp8(fields: Mapping[str, Any], _name: str) -> Quantization:
    block = fields.get("weight_block_size")
    return Quantization("fp8", "block" if block else "tensor", method="fp8", ignore=_ignore(fields))


def _fbgemm(fields: Mapping[str, Any], _name: str) -> Quantization:
    return Quantization("fp8", "channel", method="fbgemm_fp8", ignore=_ignore(fields))


def _integer(fields: Mapping[str, Any], name: str) -> Quantization:
    method, bits = str(fields.get("quant_method")), fields.get("bits", fields.get("w_bit", 4))
    if bits not in (4, 8):
        raise InvalidInput(f"{name}: {method[:20]} with {str(bits)[:20]} bits cannot be read; known: 4, 8")
    symmetric = fields.get("sym") is True or fields.get("zero_point") is False
    return Quantization(
        "int4" if bits == 4 else "int8",
        "group",
        _group_size(fields, name, 128) or 128,
        zeros=not symmetric,
        method=method,
        ignore=(*_ignore(fields), *_exceptions(fields, bits, name)),
    )


def _exceptions(fields: Mapping[str, Any], bits: Any, name: str) -> tuple[str, ...]:
    """Return the modules that stay in 16 bits by rules of their own: GPTQModel's ``dynamic``, AutoRound's
    ``extra_config``.

    Raises:
        InvalidInput: a rule gives modules other bits, fewer than 16.
    """
    found = []
    for key in ("dynamic", "extra_config"):
        rules = fields.get(key) or {}
        if not isinstance(rules, Mapping):
            raise InvalidInput(f"{name}: {key} of quantization_config must be a mapping")
        for pattern, rule in rules.items():
            own = rule.get("bits", bits) if isinstance(rule, Mapping) else bits
            if str(pattern).startswith("-:"):
                found.append(f"re:{pattern[2:]}")
            elif own in (16, 32):
                found.append(str(pattern))
            elif own != bits:
                raise InvalidInput(f"{name}: {key} with {str(own)[:20]} bits for {str(pattern)[:40]!r} cannot be read")
    return tuple(found)


def _bitsandbytes(fields: Mapping[str, Any], name: str) -> Quantization:
    if fields.get("load_in_8bit") or fields.get("_load_in_8bit"):
        return Quantization("int8", "channel", method="bitsandbytes", ignore=_ignore(fields))
    if fields.get("load_in_4bit") or fields.get("_load_in_4bit"):
        # 64 weights share a scale of 4 bytes (bitsandbytes, functional.quantize_4bit): as 2 bytes for 32.
        return Quantization("int4", "group", 32, method="bitsandbytes", ignore=_ignore(fields))
    raise InvalidInput(f"{name}: bitsandbytes without load_in_4bit or load_in_8bit cannot be read")


def _mxfp4(fields: Mapping[str, Any], _name: str) -> Quantization:
    # Only the experts are in MXFP4 (openai/gpt-oss-120b, modules_to_not_convert).
    kept = tuple((part, 1.0) for part in _LAYER_PARTS if part not in ("experts",))
    return Quantization("mxfp4", "group", 32, kept, method="mxfp4", ignore=_ignore(fields))


def _weights(group: Mapping[str, Any], name: str, form: str) -> Quantization:
    """Read one group of compressed-tensors: what its targets' weights are."""
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        raise InvalidInput(f"{name}: a group of config_groups has no weights")
    bits, kind = weights.get("num_bits"), weights.get("type", "float")
    size = _group_size(weights, name)
    written = str(group.get("format") or form)
    if bits == 8 and kind == "float" and size is not None:
        raise InvalidInput(f"{name}: weights of 8 bits in groups of {size} (MXFP8) cannot be read")
    if bits == 8 and kind == "float":
        scales = {"tensor": "tensor", "channel": "channel", "block": "block"}.get(
            str(weights.get("strategy")), "tensor"
        )
        return Quantization("fp8", scales)
    if bits == 8:
        return Quantization("int8", "group" if size else "channel", size)
    if bits == 4 and kind == "float":
        return Quantization("mxfp4" if "mxfp4" in written or size == 32 else "nvfp4", "group", 32 if size == 32 else 16)
    if bits == 4:
        zeros = weights.get("symmetric") is False
        return Quantization("int4", "group" if size else "channel", size, zeros=zeros)
    raise InvalidInput(f"{name}: weights of {str(bits)[:20]} bits ({str(kind)[:20]}) cannot be read")


def _groups(fields: Mapping[str, Any], name: str) -> list[tuple[tuple[str, ...], Quantization]]:
    groups = fields.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise InvalidInput(f"{name}: quantization_config has no config_groups")
    found = []
    for group in groups.values():
        if not isinstance(group, Mapping):
            raise InvalidInput(f"{name}: config_groups must hold mappings")
        targets = group.get("targets", ["Linear"])
        named = tuple(str(t) for t in targets) if isinstance(targets, list | tuple) else ("Linear",)
        found.append((named, _weights(group, name, str(fields.get("format", "")))))
    return found


def _compressed_tensors(fields: Mapping[str, Any], name: str) -> Quantization:
    sparse = fields.get("sparsity_config")
    if isinstance(sparse, Mapping) and sparse.get("format") not in (None, "dense"):
        raise InvalidInput(f"{name}: sparse weights ({str(sparse.get('format'))[:30]}) cannot be read")
    groups = _groups(fields, name)
    chosen = groups[0][1]
    common: dict[str, Any] = {"kv_precision": _kv(fields), "method": "compressed-tensors", "ignore": _ignore(fields)}
    if any(group != chosen for _, group in groups[1:]) or "Linear" not in groups[0][0]:
        return replace(chosen, schemes=tuple(groups), **common)
    return replace(chosen, **common)


def _modelopt(fields: Mapping[str, Any], name: str) -> Quantization:
    algorithm = str(fields.get("quant_algo") or "").upper()
    mixed = fields.get("quantized_layers")
    if algorithm == "MIXED_PRECISION" and isinstance(mixed, Mapping):
        return _mixed(fields, mixed, name)
    common: dict[str, Any] = {
        "kv_precision": _kv(fields),
        "method": f"modelopt {algorithm}",
        "ignore": _ignore(fields),
    }
    if algorithm in ("FP8", "FP8_PER_TENSOR"):
        return Quantization("fp8", "tensor", **common)
    if algorithm in ("FP8_PER_CHANNEL_PER_TOKEN", "FP8_PC_PT"):
        return Quantization("fp8", "channel", **common)
    if algorithm in ("FP8_PB_WO", "FP8_PB_REAL", "FP8_BLOCK"):
        return Quantization("fp8", "block", **common)
    if algorithm in ("NVFP4", "NVFP4_AWQ", "W4A16_NVFP4", "NVFP4_SVDQUANT"):
        return Quantization("nvfp4", "group", 16, **common)
    if algorithm == "MXFP4":
        return Quantization("mxfp4", "group", 32, **common)
    if algorithm in ("W4A16_AWQ", "W4A8_AWQ", "INT4_AWQ"):
        return Quantization("int4", "group", _group_size(fields, name, 128) or 128, **common)
    if algorithm in ("INT8_SQ", "W8A8_SQ_PER_CHANNEL"):
        return Quantization("int8", "channel", **common)
    raise InvalidInput(f"{name}: quantization_config has quant_algo {algorithm[:40]!r}, which cannot be read")


def _mixed(fields: Mapping[str, Any], layers: Mapping[str, Any], name: str) -> Quantization:
    """Read modelopt's mixed precision: layers by name, each in its own precision, the rest in 16 bits."""
    names: dict[str, list[str]] = {}
    for layer, value in layers.items():
        algorithm = str(value.get("quant_algo") if isinstance(value, Mapping) else value).upper()
        names.setdefault(algorithm, []).append(str(layer))
    if not names:
        raise InvalidInput(f"{name}: quantized_layers is empty")
    schemes = tuple((tuple(listed), _modelopt({"quant_algo": algorithm}, name)) for algorithm, listed in names.items())
    return replace(schemes[0][1], kv_precision=_kv(fields), method="modelopt MIXED_PRECISION", schemes=schemes)


def _quark(fields: Mapping[str, Any], name: str) -> Quantization:
    whole = fields.get("global_quant_config")
    weight = whole.get("weight") if isinstance(whole, Mapping) else None
    weight = weight[0] if isinstance(weight, list | tuple) and weight else weight
    if not isinstance(weight, Mapping) or fields.get("layer_quant_config"):
        raise InvalidInput(f"{name}: quark with quantization by layer cannot be read")
    kind = str(weight.get("dtype"))
    common: dict[str, Any] = {"method": "quark", "ignore": _ignore(fields)}
    if kind.startswith("fp8"):
        scales = "channel" if "channel" in str(weight.get("qscheme")) else "tensor"
        return Quantization(
            "fp8", scales, kv_precision="fp8" if fields.get("kv_cache_quant_config") else None, **common
        )
    if kind.startswith("fp4"):
        return Quantization("mxfp4", "group", 32, **common)
    if kind in ("int4", "uint4"):
        return Quantization("int4", "group", _group_size(weight, name, 128) or 128, **common)
    raise InvalidInput(f"{name}: quark weights of dtype {kind[:20]!r} cannot be read")


_METHODS = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "compressed-tensors": _compressed_tensors,
    "awq": _integer,
    "gptq": _integer,
    "auto-round": _integer,
    "intel/auto-round": _integer,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4,
    "quark": _quark,
}


def assumed_quantization(precision: str, *, experts: bool, model_type: str = "", like: str = "") -> Quantization | None:
    """Return how checkpoints of a precision are usually quantised; None for 16 bits.

    FP8 with scales per block, linear attention in 16 bits (ignore lists of Qwen/Qwen3.5-…-FP8 and RedHatAI's); Llama
    4's FP8 only in the routed experts (meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8). 4-bit checkpoints of
    mixtures of experts keep all but the experts in 16 bits (moonshotai/Kimi-K2.5, nvidia/Kimi-K2.5-NVFP4,
    nvidia/MiniMax-M2.5-NVFP4, nvidia/Qwen3.5-397B-A17B-NVFP4). ``like`` is the checkpoint's name: scales per channel
    where it ends in "dynamic" (llm-compressor), per tensor where NVIDIA published it (modelopt). Lists read 2026-11.
    """
    precision = weight_precision(precision)
    if precision == "bf16":
        return None
    owner, _, title = like.lower().rpartition("/")
    nvidia = owner == "nvidia"
    others = tuple((part, 1.0) for part in _LAYER_PARTS if part != "experts")
    linear = (("linear_attention", 1.0),)
    if precision in ("fp8", "int8"):
        dynamic = "dynamic" in title or owner in ("redhatai", "neuralmagic") or precision == "int8"
        if model_type.startswith("llama4"):
            return Quantization(precision, "channel", kept=others, method="assumed")
        scales = "tensor" if nvidia else "channel" if dynamic else "block"
        return Quantization(precision, scales, kept=linear, method="assumed")
    kept = others if experts else linear
    group = {"nvfp4": 16, "mxfp4": 32}.get(precision, 128)
    return Quantization(precision, "group", group, kept, zeros=precision == "int4", method="assumed")
