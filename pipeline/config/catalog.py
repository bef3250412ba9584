"""The sizing catalogue of a run or a command: the built-in one, the user's file, and ``config.json`` files named as
models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.settings import Settings
from pipeline.config.user_files import read_json, read_mapping
from pipeline.errors import InputError
from sizing.catalog import Catalog
from sizing.catalog.user import catalog_from_mapping

__all__ = ["catalog_for", "catalog_from"]


def catalog_for(settings: Settings) -> Catalog:
    """Return the catalogue for the pools of ``settings``: with the file ``sizing.catalog`` and the profiles that are
    paths.

    Raises:
        InputError, SizingError: a file cannot be read or understood.
    """
    path = settings.sizing.catalog
    return catalog_from((pool.profile for pool in settings.pools), None if path is None else Path(path))


def catalog_from(models: Iterable[str | None], path: Path | None = None) -> Catalog:
    """Return the built-in catalogue with the user's file, and every model that is the path of a ``config.json``.

    Raises:
        InputError, SizingError: a file cannot be read or understood.
    """
    configs: dict[str, Mapping[str, Any]] = {}
    for name in models:
        if name is None or not name.lower().endswith(".json"):
            continue
        content = read_json(Path(name))
        if not isinstance(content, Mapping):
            raise InputError(f"{name} is not a model configuration: it holds a {type(content).__name__}")
        configs[name] = _with_quantization(Path(name), content)
    content = read_mapping(path) if path is not None else {}
    return catalog_from_mapping(content, configs)


def _with_quantization(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a model configuration with the quantization that modelopt writes into a file of its own beside it.

    Raises:
        InputError: that file cannot be read.
    """
    beside = path.with_name(path.name.removesuffix("config.json") + "hf_quant_config.json")
    if not path.name.endswith("config.json") or "quantization_config" in config or not beside.is_file():
        return config
    return {**config, "quantization_config": read_mapping(beside)}
