"""A user's own catalogue: GPUs and models from the content of a file.

Form: ``{"gpus": {name: fields}, "models": {name: fields}}``. A GPU's fields are those of ``gpus.yaml``; with ``like``
it takes the fields that it does not name from a built-in GPU. A model is ``{"config": {...}}``, the content of a
Hugging Face ``config.json``, with an optional ``source``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sizing.catalog import Catalog, from_hf_config
from sizing.errors import InvalidInput

__all__ = ["catalog_from_mapping"]

_SECTIONS = {"gpus", "models"}
_GPU_TABLES = (
    "flops_per_second",
    "compute_efficiency",
    "expert_efficiency",
    "expert_read_ratio",
    "links",
    "comm_reserve_bytes",
)
_GPU_FIELDS = {
    "like",
    "memory_bytes",
    "memory_bandwidth_bytes_per_second",
    "flops_per_second",
    "expert_efficiency",
    "expert_moving_ratio",
    "expert_read_ratio",
    "unpacked_weights_per_second",
    "compute_efficiency",
    "gpus_per_node",
    "topology",
    "links",
    "inter_node_bandwidth_bytes_per_second",
    "other_reserve_bytes",
    "comm_reserve_bytes",
    "source",
    "as_of",
    "price",
    "overheads",
    "vendor",
    "architecture",
    "reported_memory_bytes",
}
_MODEL_FIELDS = {"config", "source"}


def catalog_from_mapping(
    content: Mapping[str, Any], extra_models: Mapping[str, Mapping[str, Any]] | None = None
) -> Catalog:
    """Return the built-in catalogue with the entries of a user's, which win; ``extra_models`` are plain configurations.

    Raises:
        InvalidInput, UnknownGpu, UnknownModel: a section, a field or a value cannot be understood.

    >>> mine = {"gpus": {"h100-mine": {"like": "h100-sxm", "memory_bytes": 94 * 2**30, "source": "nvidia-smi"}}}
    >>> gpu = catalog_from_mapping(mine).gpu("H100-mine")
    >>> gpu.memory_bytes / 2**30, gpu.gpus_per_node
    (94.0, 8)
    """
    _known("the catalogue", content, _SECTIONS)
    builtin = Catalog()
    gpus = {
        str(name): _gpu(str(name), _mapping(f"GPU {name!r}", fields), builtin)
        for name, fields in _section(content, "gpus").items()
    }
    models: dict[str, Any] = dict(extra_models or {})
    for name, fields in _section(content, "models").items():
        entry = _mapping(f"model {name!r}", fields)
        _known(f"model {name!r}", entry, _MODEL_FIELDS)
        source = entry.get("source")
        config = _mapping(f"config of model {name!r}", entry.get("config"))
        models[str(name)] = from_hf_config(config, str(name), None if source is None else str(source))
    return Catalog(gpus, models)


def _gpu(name: str, fields: Mapping[str, Any], builtin: Catalog) -> dict[str, Any]:
    _known(f"GPU {name!r}", fields, _GPU_FIELDS)
    own = {key: value for key, value in fields.items() if key != "like"}
    for key in _GPU_TABLES:
        if key in own:
            _mapping(f"{key} of GPU {name!r}", own[key])
    if own.get("overheads") is not None:
        _mapping(f"overheads of GPU {name!r}", own["overheads"])
    if own.get("price") is not None:
        _mapping(f"price of GPU {name!r}", own["price"])
    if fields.get("like") is None:
        return own
    base = asdict(builtin.gpu(str(fields["like"])))
    base.pop("name")
    # What is like something else has not been measured itself, unless its own entry says so.
    base["source"] = f"assumed like {fields['like']}"
    return base | own


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return {} if content.get(name) is None else _mapping(name, content[name])


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what} must be a mapping, not {type(value).__name__}")
    return value


def _known(what: str, fields: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(key)[:40] for key in set(fields) - known)
    if unknown:
        raise InvalidInput(f"{what} has unknown keys {', '.join(unknown[:5])}; known: {', '.join(sorted(known))}")
