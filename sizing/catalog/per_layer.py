"""Overrides by layer, as transformers 5 writes them, in the fields that an architecture had for them before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["without_overrides"]

#: Fields of layers that attend to everything, where others have a window: (the common name, their own name).
_GLOBAL = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
_WHOLE = ("full_attention", "attention")


def without_overrides(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields with ``per_layer_config`` written as fields of the layers that attend to everything.

    Gemma 4's configurations have "global_head_dim" as published and ``{"05": {"head_dim": 512}, …}`` once transformers
    5 has saved them (configuration_gemma4). Overrides of other fields, of other layers, or that differ between layers
    stay as they are, and are refused as a key that is not read.
    """
    overrides, words = fields.get("per_layer_config"), fields.get("layer_types")
    if not isinstance(overrides, Mapping) or not overrides or not isinstance(words, list | tuple):
        return fields
    numbers = [int(key) if str(key).isdecimal() else -1 for key in list(overrides)[: len(words) + 1]]
    first = next(iter(overrides.values()))
    same = isinstance(first, Mapping) and all(each == first for each in overrides.values())
    whole = [i for i, word in enumerate(words) if word in _WHOLE]
    if not same or set(first) - set(_GLOBAL) or sorted(numbers) != whole:
        return fields
    own = {_GLOBAL[key]: value for key, value in first.items()}
    # A head size of the whole layers alone is enough to tell them apart.
    own.setdefault("global_head_dim", fields.get("head_dim"))
    return {key: value for key, value in fields.items() if key != "per_layer_config"} | own
