"""Which parts of a model an ignore list of a quantised checkpoint leaves in 16 bits.

Lists name modules in the styles of their tools: plain names and parts of names (transformers), shell patterns
(modelopt), regular expressions after "re:" (compressed-tensors, matched from the start).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

from sizing.catalog.layers import FeedForward, LayerPlan, Mixer
from sizing.errors import InvalidInput

__all__ = ["ignored_share", "named_share"]

_LONGEST = 300
#: Shell patterns that are read, ten times the regular expressions; a file of 93 layers has 184.
_MOST_PATTERNS = 2_000
_PREFIX = re.compile(r"^(?:model\.|language_model\.|backbone\.)+")
_REGEX_PREFIX = re.compile(r"^(?:\^)?(?:(?:model|language_model|backbone)\\?\.)+")
#: Repetition of what repeats already: such a pattern can take exponential time.
_EXPLOSIVE = re.compile(r"[*+}]\)?[*+{]|\([^)]*[*+][^)]*\)[*+{]")

#: Module names of a part, below its layer, as most architectures spell them.
_NAMES = {
    "attention": ("self_attn.q_proj", "self_attn.qkv_proj", "self_attn.q_b_proj", "attn.q_proj"),
    "linear_attention": ("linear_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "self_attn.out_proj"),
    "mamba": ("mamba.in_proj",),
    "mlp": ("mlp.up_proj", "mlp.gate_up_proj"),
    "shared_expert": ("mlp.shared_expert.up_proj", "mlp.shared_experts.up_proj", "shared_mlp.input_linear"),
    "experts": ("mlp.experts.0.up_proj", "mlp.experts.gate_up_proj"),
    "indexer": ("self_attn.indexer.wq_b",),
}
#: The same, by the beginning of the model type, where an architecture spells them in its own way.
_OWN_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "nemotron_h": {
        "attention": ("mixer.q_proj",),
        "mamba": ("mixer.in_proj",),
        "mlp": ("mixer.up_proj",),
        "shared_expert": ("mixer.shared_experts.up_proj",),
        "experts": ("mixer.experts.0.up_proj",),
    },
    "llama4": {
        "mlp": ("feed_forward.up_proj", "feed_forward.gate_up_proj"),
        "shared_expert": ("feed_forward.shared_expert.up_proj",),
        "experts": ("feed_forward.experts.0.up_proj", "feed_forward.experts.gate_up_proj"),
    },
    "lfm2": {
        "mamba": ("conv.in_proj",),
        "mlp": ("feed_forward.w1",),
        "experts": ("feed_forward.experts.0.w1", "feed_forward.experts.gate_up_proj"),
    },
    "falcon_h1": {"mlp": ("feed_forward.up_proj",)},
    "kimi_linear": {
        "linear_attention": ("self_attn.q_proj",),
        "experts": ("block_sparse_moe.experts.0.w1", "mlp.experts.0.up_proj"),
        "shared_expert": ("block_sparse_moe.shared_experts.up_proj", "mlp.shared_experts.up_proj"),
    },
    "mixtral": {"experts": ("block_sparse_moe.experts.0.w1",)},
    "minimax": {"experts": ("block_sparse_moe.experts.0.w1",)},
    "jamba": {"mlp": ("feed_forward.up_proj",), "experts": ("feed_forward.experts.0.up_proj",)},
    "gemma4": {"experts": ("experts.0.up_proj", "experts.gate_up_proj", "moe.experts.0.up_proj")},
    "ernie": {"experts": ("mlp.experts.0.up_proj",)},
}


def _names(part: str, model_type: str) -> tuple[str, ...]:
    own = next((names for kind, names in _OWN_NAMES.items() if model_type.startswith(kind)), {})
    return own.get(part, _NAMES[part])


def ignored_share(ignore: tuple[str, ...], part: str, plan: LayerPlan, model_type: str) -> float:
    """Return the share of a part's layers whose modules an ignore list names; 0 where the model has no such part.

    Raises:
        InvalidInput: the list has a pattern that cannot be read.
    """
    return named_share(ignore, part, plan, model_type) if ignore else 0.0


def named_share(names: tuple[str, ...], part: str, plan: LayerPlan, model_type: str) -> float:
    """Return the share of a part's layers whose modules a list names; "Linear" names all.

    Raises:
        InvalidInput: the list has a pattern that cannot be read.
    """
    layers = _layers(part, plan)
    if not layers:
        return 0.0
    if "Linear" in names:
        return 1.0
    matcher, spelled = _matcher(names), _names(part, model_type)
    return sum(any(matcher.matches(f"layers.{plan.owner(i)}.{name}") for name in spelled) for i in layers) / len(layers)


def _layers(part: str, plan: LayerPlan) -> Sequence[int]:
    mixers = {
        "attention": (Mixer.FULL, Mixer.WINDOW, Mixer.CHUNK),
        "indexer": (Mixer.FULL,),
        "linear_attention": (Mixer.GATED_DELTA, Mixer.KIMI_DELTA, Mixer.LIGHTNING),
        "mamba": (Mixer.MAMBA1, Mixer.MAMBA2, Mixer.SHORT_CONV),
    }
    if part in mixers:
        return [i for i, mixer in enumerate(plan.mixers) if mixer in mixers[part]]
    wanted = (FeedForward.EXPERTS, FeedForward.BOTH) if part != "mlp" else (FeedForward.DENSE, FeedForward.BOTH)
    return [i for i, kind in enumerate(plan.feed_forward) if kind in wanted]


class _Matcher:
    def __init__(self, patterns: Sequence[str]) -> None:
        self._plain: set[str] = set()
        shell: list[str] = []
        regular: list[re.Pattern[str]] = []
        for pattern in patterns:
            text = pattern[:_LONGEST]
            if text.startswith("re:"):
                body = _REGEX_PREFIX.sub("", text[3:])
                regular.append(_compiled(body))
            elif any(character in text for character in "*?["):
                shell.append(fnmatch.translate(_PREFIX.sub("", text)))
            else:
                self._plain.add(_PREFIX.sub("", text).removesuffix(".weight"))
        if len(shell) > _MOST_PATTERNS or len(regular) > _MOST_PATTERNS // 10:
            raise InvalidInput(f"the quantization has {len(shell) + len(regular):,} patterns, more than are read")
        self._shell = re.compile("|".join(shell)) if shell else None
        self._regular = regular

    def matches(self, name: str) -> bool:
        parts = name.split(".")
        if self._plain:
            for start in range(len(parts)):
                for end in range(start + 1, len(parts) + 1):
                    if ".".join(parts[start:end]) in self._plain:
                        return True
        ancestors = [".".join(parts[:end]) for end in range(2, len(parts) + 1)]
        if self._shell is not None and any(self._shell.match(ancestor) for ancestor in ancestors):
            return True
        return any(regular.match(ancestor) for regular in self._regular for ancestor in ancestors)


def _compiled(body: str) -> re.Pattern[str]:
    try:
        if _EXPLOSIVE.search(body):
            raise re.error("nested repetition")
        return re.compile(body)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(f"the quantization's pattern {body[:60]!r} cannot be read: {error}") from error


@lru_cache(maxsize=16)
def _matcher(patterns: tuple[str, ...]) -> _Matcher:
    return _Matcher(patterns)
