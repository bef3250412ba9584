"""Vision and audio towers that a language model is loaded with: parameters, from their part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sizing.catalog.reader import Reader
from sizing.errors import SizingError

__all__ = ["encoder_parameters"]

#: Towers of a class whose configuration leaves the part out: parameters of the encoder by model type (google/gemma-4
#: model cards: E2B and E4B, "vision encoder ~150M, audio encoder ~300M"; google/gemma-3 cards: SigLIP, 417M; the
#: classes' defaults; read 2026-11).
_DEFAULTS = {"gemma4": {"vision_config": 151e6, "audio_config": 305e6}, "gemma3": {"vision_config": 417e6}}
#: Model types whose vision feed-forward part has a gate: three matrices instead of two.
_GATED = ("gemma4", "pixtral", "qwen2_5_vl", "mistral3")


def encoder_parameters(config: Mapping[str, Any]) -> float:
    """Return the parameters of the vision and audio towers of a configuration, without what cannot be understood.

    A transformer of depth layers is 4 · hidden² of attention and its feed-forward matrices; a merger of patches into
    the language model's space is two matrices. The towers are small beside their language models (Qwen3-VL-235B: 0.6
    B), so an error of a tenth there is one of less than 0.1 % here.
    """
    model_type = config.get("model_type")
    known = _DEFAULTS.get(model_type, {}) if isinstance(model_type, str) else {}
    total = 0.0
    for part in ("vision_config", "audio_config"):
        if part not in config:
            total += known.get(part, 0.0)
        elif isinstance(config[part], Mapping):
            total += _transformer(config[part])
    return total


def _transformer(fields: Mapping[str, Any]) -> float:
    read = Reader("vision_config", fields)
    try:
        hidden = read.size("hidden_size", "vt_hidden_size")
        depth = read.size("depth", "num_hidden_layers", "vt_num_hidden_layers")
        inner = read.size("intermediate_size", "vt_intermediate_size", default=4 * hidden)
        out = read.size("out_hidden_size", "text_hidden_size", "projection_dim", default=hidden)
        merge = read.size("spatial_merge_size", default=1) ** 2
    except SizingError:
        return 0.0
    matrices = 3 if read.model_type.startswith(_GATED) else 2
    blocks = depth * (4 * hidden**2 + matrices * hidden * inner)
    deep = fields.get("deepstack_visual_indexes")
    mergers = 1 + (len(deep) if isinstance(deep, list | tuple) else 0)
    return float(blocks + mergers * ((hidden * merge) ** 2 * (merge > 1) + hidden * merge * out))
