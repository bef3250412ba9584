"""Builds the sizing catalogue that settings ask for: the built-in one plus ``config.json`` files that pools name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.settings import Settings
from sizing.catalog import Catalog

__all__ = ["catalog_for", "catalog_with"]


def catalog_for(settings: Settings) -> Catalog:
    """The catalogue for the pools of ``settings``.

    Raises:
        InputError: a profile is the path of a file that cannot be read as a model configuration.
    """
    return catalog_with(pool.profile for pool in settings.pools)


def catalog_with(profiles: Any) -> Catalog:
    """The built-in catalogue, and every profile that is the path of a Hugging Face ``config.json`` under that path."""
    extra: dict[str, Any] = {}
    for profile in profiles:
        path = Path(profile)
        if path.suffix != ".json":
            continue
        try:
            extra[profile] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
    return Catalog(extra_models=extra)
