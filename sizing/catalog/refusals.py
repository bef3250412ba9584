"""Configurations of what is not sized: encoders, rankers, and models with parts that nothing here counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sizing.catalog.encoders import is_tower
from sizing.errors import UnknownModel

__all__ = ["language_model", "refuse_encoders", "refuse_other_parts"]

#: Model types that hold more than their fields tell by the names read here (jetmoe: experts of attention; got_ocr2,
#: granite_docling, muse_glimmer and ovis2: necks and heads of their towers; video_llava: a second tower).
_UNSUPPORTED_TYPES = ("got_ocr2", "granite_docling", "jetmoe", "muse_glimmer", "ovis2", "video_llava")
#: Names of the language model inside a larger one.
_LANGUAGE = ("text_config", "llm_config", "language_config")
#: Parts that engines do not load to generate text (Qwen-Omni's speech).
_NOT_LOADED = ("talker_config", "code2wav_config", "token2wav_config")
#: Architectures that encode: they have no KV cache and generate nothing.
_ENCODERS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
#: Architectures that embed, rank or score with the layers of a language model.
_SCORES = re.compile(r"For\w*(Ranking|Embedding|Encoding|Retrieval|Reward\w*|Rerank\w*|Scoring|Classification)$")
_ENCODER_TYPES = {"albert", "bert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet",
"nomic_bert",                   "roberta", "xlm-roberta"}  # fmt: skip
_ENCODER_DECODERS = {
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "longt5", "m2m_100", "marian", "mbart",
    "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t", "seamless_m4t_v2",
    "speech_to_text", "switch_transformers", "t5", "t5gemma", "t5gemma2", "udop", "umt5", "whisper",
}  # fmt: skip
#: Model types whose layers have no shape that is known here, so that another missing field is not named in their place.
_UNKNOWN_TYPE = re.compile(
    r"\w+_assistant|rwkv\d*|xlstm|recurrent_gemma|longcat\w*|reformer|xlnet|openai-gpt|ctrl|cpmant|blt"
)


def language_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a configuration that describes the language model, under one of the names that owners use."""
    inner = config.get("thinker_config")
    holder = inner if isinstance(inner, Mapping) else config
    for key in _LANGUAGE:
        if isinstance(holder.get(key), Mapping):
            nested: Mapping[str, Any] = holder[key]
            return nested
    return config


def refuse_other_parts(config: Mapping[str, Any], name: str) -> None:
    """Refuse model types and parts (a perceiver, a codebook) whose weights nothing here counts."""
    model_type = config.get("model_type")
    kind = str(model_type)[:60]
    if kind in _UNSUPPORTED_TYPES or _UNKNOWN_TYPE.fullmatch(kind):
        raise UnknownModel(f"{name}: architectures of model_type {kind!r} are not supported yet")
    for key, value in config.items():
        known = str(key) in (*_LANGUAGE, *_NOT_LOADED, "thinker_config", "quantization_config") or is_tower(key)
        if str(key).endswith("_config") and not known and isinstance(value, Mapping):
            sized = any(re.search(r"dim|depth|hidden|layers|latents", str(inner)) and value[inner] for inner in value)
            if sized and config is not language_model(config):
                raise UnknownModel(f"{name}: architectures with a {str(key)[:60]!r} are not supported yet")


def refuse_encoders(config: Mapping[str, Any], name: str) -> None:
    """Refuse what generates nothing, or what encodes a prompt in a model of its own."""
    named = config.get("architectures")
    architecture = str(named[0])[:60] if isinstance(named, list | tuple) and named else ""
    model_type = config.get("model_type")
    kind = model_type if isinstance(model_type, str) else ""
    if kind in _ENCODER_TYPES or architecture.endswith(_ENCODERS) or architecture.endswith("EncoderModel"):
        raise UnknownModel(f"{name}: {architecture or kind} is an encoder: it generates no tokens and has no KV cache")
    base = re.search(r"(?<!Chat)(?<!GLM)(?<!Head)Model$", architecture) is not None
    both_ways = any(
        fields.get("is_causal") is False or fields.get("use_bidirectional_attention") is True
        for fields in (config, language_model(config))
    )
    if base or both_ways or _SCORES.search(architecture):
        raise UnknownModel(f"{name}: {architecture or kind} embeds or scores texts: it generates no tokens")
    if config.get("is_encoder_decoder") is True or kind in _ENCODER_DECODERS:
        raise UnknownModel(f"{name}: encoder-decoder models ({architecture or kind}) are not supported")
