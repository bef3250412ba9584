"""Reads a Hugging Face ``config.json`` as untrusted input: positive whole numbers, flags, and nothing unread.

A configuration describes more than any parser knows. What is left unread is harmless as long as it changes neither
parameters nor the KV cache; what might change them is refused by name (``Reader.refuse_unread``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sizing.catalog.defaults import class_defaults
from sizing.errors import InvalidInput, UnknownModel

__all__ = ["Reader"]

_LIMIT = 10**9

#: Keys that describe training, generation, tokens, positions or numerics, but neither weights nor the KV cache: by what
#: they contain, how they begin, or in full.
_CONTAIN = (
    r"(alpha|beta)_factor$", r"^(torch_)?dtype$", r"^_", r"initializer", r"_alpha$", r"_beta$", r"_coef$",
    r"_dtype$", r"_limit$", r"_loss", r"dropout", r"eps(ilon)?$", r"jitter", r"norm_eps", r"rope", r"rotary",
    r"scal(e|ing)", r"softcap", r"token",
)  # fmt: skip
_BEGIN = (
    r"bad_", r"begin_", r"diversity_", r"do_", r"early_", r"encoder_no", r"for_llm_compressor", r"forced_", r"is_",
    r"length_", r"mamba_(hidden_act|chunk|dt_(min|max|init|scale)|rms|norm_before)", r"max_length", r"min_length",
    r"min_p$",
    r"no_repeat", r"num_beam", r"num_logits", r"num_return", r"output_", r"remove_", r"repetition_",
    r"rescale_prenorm", r"residual_in_fp32", r"return_", r"ssm_(cfg|chunk)", r"suppress_", r"temperature",
    r"time_step", r"top_[kp]$", r"typical_",
    r"use_(mrope|bidirectional_attention|flash_attn|logn\w*|dynamic\w*|parallel_residual|parallel_block)$",
    r"use_(qk_norm|bias|conv_bias|mamba_kernels|gemma_norm|mtp|embedding_sharing|gated_activation)$",
    r"use_(rmsnorm|deterministic\w*|nope\w*|cache\w*|routing_bias|moe_router_bias|bfloat16|cla|alibi|layer_scale)$",
)  # fmt: skip
_WHOLE = (
    r"\w+_(sink_)?bias", r"activation\w*", r"add_cross_attention", r"anyres_\w+", r"architectures",
    r"attention_(value|multiplier|probs|out|softmax|dropout)\w*", r"attention_other_setting",
    r"attention_output_gate", r"attn_(logit|soft|drop|temperature|implementation|pdrop)\w*", r"attn_config",
    r"audio_\w+", r"auto_map", r"bf16", r"bias", r"boa\w*", r"boi\w*", r"chunk_size", r"chunk_size_feed_forward",
    r"cross_attention_hidden_size", r"decoder_start\w*", r"dim_model_base", r"dual_chunk\w*", r"embd_pdrop",
    r"embedding_multiplier", r"enable_moe_fp32_combine", r"eoa\w*", r"eoi\w*", r"ep_size", r"expand",
    r"expert_(capacity|dtype|parallel|selection_fn)\w*",
    r"exponential_decay_length_penalty", r"final_layer\w*", r"final_w_init\w*", r"finetuning_task", r"floor_scale",
    r"fp16", r"fp32", r"fp32\w*", r"gate_\w*bias", r"group_limited\w*", r"hidden_act(ivation)?", r"id2label",
    r"image_\w+", r"index_(share|skip|topk)\w*", r"init_\w+", r"initial_\w*", r"initial_context_length",
    r"kv_cache_quant\w*", r"label2id", r"language", r"latent_moe_use_norm", r"linear_(a_log|dt)_\w+",
    r"linear_allow_neg_eigval", r"layer_norm\w*", r"layer_rope\w*",
    r"layerdrop", r"layernorm\w*", r"lm_head_\w*", r"logits?_\w+", r"max_image_size", r"max_position_embeddings",
    r"max_sequence_length", r"max_window_layers", r"mla_\w*norm\w*", r"mlp_bias", r"mlp_hidden_act", r"mlp_type",
    r"mlp_multipliers", r"ssm_multipliers",
    r"mm_\w+", r"model_max_length", r"model_type",
    r"moe_(use_|norm_|router|aux|gate|score|renorm|drop|apply|z_loss|act|capacity|random)\w*", r"moe_layer_norm",
    r"moe_renormalize", r"moe_shared_expert_overlap", r"mtp_\w+", r"mup_\w+", r"n_ctx", r"n_future\w*", r"n_group",
    r"n_positions", r"nextn\w*", r"no_bias", r"no_rope_layer\w*", r"nope_layer_interval", r"norm_\w+",
    r"norm_topk\w*", r"norm_topk_prob", r"norm_type", r"num_(mtp|nextn|hash)\w*", r"num_expert_group",
    r"num_media_embeds", r"onnx_safe", r"order_of_interleaved_layers", r"org_vocab_size", r"original_max\w*",
    r"parallel_residual", r"partial_\w+", r"position_embedding_type", r"prediction_\w+", r"prefix",
    r"pretraining_tp", r"problem_type", r"pruned_heads", r"qk_head_dim", r"qk_(layer)?norm\w*", r"quantization_config",
    r"query_pre_attn_scalar", r"resid_pdrop", r"residual_multiplier", r"rms_norm\w*", r"rope", r"rotary\w*",
    r"router_\w+", r"sandwich_norm", r"scale_\w+", r"score_function", r"scoring_func", r"seq_aux", r"seq_length",
    r"shared_expert_combination_strategy", r"shared_moe_mode", r"sigmoid_gate\w*", r"softmax_\w+",
    r"sparse_attention_config", r"task_specific_params",
    r"text_config", r"tf32", r"tf_legacy_loss", r"tie_encoder_decoder", r"tokenizer_class", r"topk_group",
    r"topk_method", r"torchscript", r"training\w*", r"transformers_version", r"use_cache_\w*", r"use_grouped_topk",
    r"use_mixed_mlp_moe", r"video_\w+", r"vision_\w+", r"vit_\w+", r"vlm", r"vocab_size_per_layer_input",
    r"zero_\w*centered",
    # Phi-3-small: which blocks are computed, not which are kept.
    r"(ssm|attention)_(in|out)_multiplier", r"key_multiplier", r"blocksparse_\w+", r"dense_attention_every_n_layers",
    r"ff_dim_multiplier", r"gegelu_\w+", r"pad_sequence_to\w*",
)  # fmt: skip
_HARMLESS = re.compile(f"{'|'.join(_CONTAIN)}|^(?:{'|'.join(_BEGIN)})|^(?:{'|'.join(_WHOLE)})$")

#: Keys that may change what is stored or computed per layer: to be read, or refused.
_STRUCTURAL = re.compile(
    r"layer|block|expert|moe|attn|attention|window|sliding|head|kv|mamba|ssm|conv|state|hidden|inter|shared|sparse|latent|"
    r"lora|rank|vocab|dim|size|pattern|period|offset|interval|freq|topk|index|memory|recurr|rnn|lru|chunk|compress|"
    r"hybrid|mixer|adapter|depth|width|embed|mlp|ffn|linear|group|share|stride|ratio|rwkv|retention|hyena|engram|hc_"
)


class Reader:
    """Positive whole numbers out of an untrusted mapping; remembers what was read.

    Where a configuration leaves a field out, the default of its class in transformers counts (``class_defaults``).
    """

    def __init__(self, name: str, fields: Mapping[str, Any], *, nested: bool = False) -> None:
        self.name = name
        self.fields = fields
        self.defaults = class_defaults(fields.get("model_type"), nested=nested)
        self._read: set[str] = set()

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the configuration; empty where it names none."""
        value = self.fields.get("model_type")
        return value if isinstance(value, str) else ""

    def get(self, key: str) -> Any:
        """Return a raw value (None: not set), counting the key as read."""
        self._read.add(key)
        value = self.fields.get(key)
        return self.defaults.get(key) if value is None and key not in self.fields else value

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a switch; anything but true and false is an error."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidInput(f"{self.name}: {key} must be true or false, not {str(value)[:40]!r}")
        return value

    def size(self, key: str, *others: str, default: int | None = None) -> int:
        """Return the first of the keys that is set, as a whole number in [1, 1e9].

        A list with the same number for every layer counts as that number.

        Raises:
            UnknownModel: none of the keys is set and there is no default.
            InvalidInput: the value is not a whole number in range, or differs between layers.
        """
        self._read.update((key, *others))
        for candidate in (key, *others):
            value = self.get(candidate)
            if isinstance(value, list | tuple) and value:
                if any(item != value[0] for item in value):
                    raise UnknownModel(f"{self.name}: {candidate} differs between layers, which is not supported")
                value = value[0]
            if value is None or (value == 0 and default is not None):
                continue  # configurations write 0 for "there is none"
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value % 1:
                raise InvalidInput(f"{self.name}: {candidate} must be a whole number, not {str(value)[:40]!r}")
            if not 0 < value <= _LIMIT:
                raise InvalidInput(f"{self.name}: {candidate} must be between 1 and {_LIMIT}, not {str(value)[:40]!r}")
            return int(value)
        if default is None:
            if self.model_type:
                kind = f"(model_type {self.model_type[:40]!r}); other names for it are not read"
            else:
                kind = "and no model_type; is this a language model's configuration?"
            raise UnknownModel(f"{self.name}: config.json has no {key!r} {kind}")
        return default

    def flags(self, key: str, count: int) -> Sequence[bool]:
        """Return a list of zeros and ones, one for each layer."""
        values = self.get(key)
        if not isinstance(values, list | tuple) or len(values) < count or not all(v in (0, 1) for v in values[:count]):
            raise InvalidInput(f"{self.name}: {key} must be a list of {count} zeros and ones")
        return [bool(value) for value in values[:count]]

    def words(self, key: str, count: int) -> list[str] | None:
        """Return a list of words, one for each layer; None where it is not set."""
        values = self.get(key)
        if not isinstance(values, list | tuple) or not values:
            return None
        if len(values) < count:
            raise InvalidInput(f"{self.name}: {key} names {len(values)} of {count} layers")
        return [str(value)[:40] for value in values[:count]]

    def ignore(self, *keys: str) -> None:
        """Count keys as read that mean nothing for this architecture."""
        self._read.update(keys)

    def refuse_unread(self) -> None:
        """Refuse a configuration with a set key that was not read and may change parameters or the KV cache.

        Raises:
            UnknownModel: with the first such key by name.
        """
        for key, value in self.fields.items():
            if not isinstance(key, str) or key in self._read or _is_off(key, value):
                continue
            if _STRUCTURAL.search(key) and not _HARMLESS.search(key):
                raise UnknownModel(f"{self.name}: architectures with {key[:60]!r} are not supported yet")


#: Keys whose 1 means "no change": factors, and steps between layers.
_FACTORS = re.compile(r"ratio|factor|multiplier|interval|freq|_mod$|step|every|stride|period|scale")


def _is_off(key: str, value: Any) -> bool:
    """Whether a value means that a feature is not used; 1 does so for factors alone (one KV head is no habit)."""
    if value is None or value is False:
        return True
    if value is True:
        return False
    return value in (0, "", [], {}, (), -1) or (value == 1 and bool(_FACTORS.search(key)))
