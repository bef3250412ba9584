"""Vision and audio towers that a language model is loaded with: parameters, from their part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sizing.catalog.reader import Reader
from sizing.errors import SizingError, UnknownModel

__all__ = ["encoder_parameters", "is_tower"]

#: Towers of a class whose configuration leaves the part out: parameters of the encoder by model type (google/gemma-4
#: model cards: E2B and E4B, "vision encoder ~150M, audio encoder ~300M"; google/gemma-3 cards: SigLIP, 417M; the
#: classes' defaults; read 2026-11).
_DEFAULTS = {"gemma4": {"vision_config": 151e6, "audio_config": 305e6}, "gemma3": {"vision_config": 417e6}}
#: How the keys end under which towers are described.
_PARTS = ("vision_config", "audio_config", "speech_config")
#: No tower widens more than this between its two matrices.
_MOST_RATIO = 100
#: Towers by their own model type, where a configuration leaves out what its class has as defaults: hidden size, layers
#: and intermediate size (huggingface/transformers 4.57, configuration_pixtral.py, configuration_siglip.py,
#: configuration_clip.py; read 2026-12).
_CLASSES = {
    "pixtral": (1024, 24, 4096),
    "siglip_vision_model": (768, 12, 3072),
    "clip_vision_model": (768, 12, 3072),
}
#: Towers whose configuration does not tell their size, by their model type (google/gemma-3n model cards: E2B 5.44 B and
#: E4B 7.85 B in all, 4.46 and 6.87 B of them text; the vision tower is named mobilenetv5_300m_enc; read 2026-12).
_WHOLE = {"gemma3n_vision": 0.30e9, "gemma3n_audio": 0.68e9}
#: Model types whose vision feed-forward part has a gate: three matrices instead of two.
_GATED = ("gemma4", "glm_ocr", "pixtral", "qwen2_5_omni_vision", "qwen2_5_vl", "mistral3")


def is_tower(key: object) -> bool:
    """Whether a key of a configuration holds the description of a vision or audio tower."""
    return str(key).endswith(_PARTS)


def encoder_parameters(config: Mapping[str, Any], name: str = "config") -> float:
    """Return the parameters of the vision and audio towers of a configuration.

    A transformer of depth layers is 4 · hidden² of attention and its feed-forward matrices; a merger of patches into
    the language model's space is two matrices. The towers are small beside their language models (Qwen3-VL-235B: 0.6
    B), so an error of a tenth there is one of less than 0.1 % here.

    Raises:
        UnknownModel: a tower's sizes cannot be read; beside a small language model it may weigh a tenth.
    """
    inner = config.get("thinker_config")
    holder: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config
    model_type = holder.get("model_type")
    known = _DEFAULTS.get(model_type, {}) if isinstance(model_type, str) else {}
    total = sum(size for part, size in known.items() if part not in holder)
    for part, fields in holder.items():
        # Also high_res_vision_config, and what else a model has beside its first tower.
        if is_tower(part) and isinstance(fields, Mapping) and fields:
            try:
                total += _transformer(fields)
            except SizingError as error:
                kind = str(fields.get("model_type") or "no model_type")[:40]
                raise UnknownModel(
                    f"{name}: {part} ({kind}) does not tell hidden size and depth of its tower, whose weights count"
                ) from error
    return total


def _transformer(fields: Mapping[str, Any]) -> float:
    read = Reader("tower", fields)
    if read.model_type in _WHOLE:
        return _WHOLE[read.model_type]
    usual = _CLASSES.get(read.model_type, (None, None, None))
    # Qwen2-VL calls its width embed_dim; hidden_size is then that of the language model.
    narrow = fields.get("embed_dim") is not None
    hidden = read.size("embed_dim", "hidden_size", "vt_hidden_size", "width", "d_model", default=usual[0])
    depth = read.size(
        "depth", "num_hidden_layers", "vt_num_hidden_layers", "layers", "encoder_layers", default=usual[1]
    )
    ratio = fields.get("mlp_ratio")
    wide = round(hidden * ratio) if isinstance(ratio, int | float) and 0 < ratio <= _MOST_RATIO else 4 * hidden
    inner = read.size("intermediate_size", "vt_intermediate_size", "encoder_ffn_dim", default=usual[2] or wide)
    names = ("out_hidden_size", "text_hidden_size", "output_hidden_size", *(("hidden_size",) if narrow else ()))
    out = read.size(*names, "projection_dim", default=hidden)
    merge = read.size("spatial_merge_size", default=1) ** 2
    if read.model_type.startswith("glm4v"):
        # Blocks are gated and as wide as the language model; intermediate_size is the merger's (modeling_glm4v).
        return float(depth * (4 * hidden**2 + 3 * hidden * out) + out * (hidden * merge + out + 3 * inner))
    matrices = 3 if read.model_type.startswith(_GATED) else 2
    blocks = depth * (4 * hidden**2 + matrices * hidden * inner)
    deep = fields.get("deepstack_visual_indexes")
    mergers = 1 + (len(deep) if isinstance(deep, list | tuple) else 0)
    return float(blocks + mergers * ((hidden * merge) ** 2 * (merge > 1) + hidden * merge * out))
