"""GPUs and models by name, every figure with its source and date.

The two data files are read once per process; everything else here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sizing.catalog.data import section
from sizing.catalog.gpus import GpuSpec, Link, Price, gpu_from_mapping
from sizing.catalog.models import ModelSpec, from_hf_config
from sizing.errors import UnknownGpu, UnknownModel

__all__ = ["Catalog", "GpuSpec", "Link", "ModelSpec", "Price", "from_hf_config", "resolve_gpu", "resolve_model"]


#: An error names this many entries at most.
_LISTED = 12


@cache
def _data(file: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the entries of one data file and the canonical name of every alias (lower case)."""
    entries = section(file, name)
    names = {alias.lower(): key for key, fields in entries.items() for alias in (key, *fields.get("aliases", ()))}
    return entries, names


@cache
def _builtin_gpu(name: str) -> GpuSpec:
    return gpu_from_mapping(name, _data("gpus.yaml", "gpus")[0][name])


@cache
def _builtin_model(name: str) -> ModelSpec:
    entry = _data("models.yaml", "models")[0][name]
    return from_hf_config(entry["config"], name, entry["source"])


class Catalog:
    """The built-in catalogue, plus entries of the user's own, which win over built-in ones.

    ``extra_gpus`` maps names to ``GpuSpec`` or to mappings with the keys of ``gpus.yaml``; ``extra_models`` maps names
    (or the path that a deployment names) to ``ModelSpec`` or to the content of a Hugging Face ``config.json``.

    Raises:
        InvalidInput, UnknownModel: an extra entry cannot be understood.
    """

    def __init__(
        self,
        extra_gpus: Mapping[str, GpuSpec | Mapping[str, Any]] | None = None,
        extra_models: Mapping[str, ModelSpec | Mapping[str, Any]] | None = None,
    ) -> None:
        self._gpus = {
            name.lower(): spec if isinstance(spec, GpuSpec) else gpu_from_mapping(name, spec)
            for name, spec in (extra_gpus or {}).items()
        }
        self._models = {
            name.lower(): spec if isinstance(spec, ModelSpec) else from_hf_config(spec, name)
            for name, spec in (extra_models or {}).items()
        }

    def gpu_names(self) -> tuple[str, ...]:
        """Return the names of all GPUs, without aliases."""
        return tuple(sorted({*_data("gpus.yaml", "gpus")[0], *self._gpus}))

    def model_names(self) -> tuple[str, ...]:
        """Return the names of all models, without aliases."""
        return tuple(sorted({*_data("models.yaml", "models")[0], *self._models}))

    def gpu(self, name: str | GpuSpec) -> GpuSpec:
        """Return a GPU by name or alias, any case; also by the product name that the driver reports.

        Raises:
            UnknownGpu: with the nearest names.
        """
        if isinstance(name, GpuSpec):
            return name
        wanted = str(name).strip().lower()
        if wanted in self._gpus:
            return self._gpus[wanted]
        known = _data("gpus.yaml", "gpus")[1]
        product = re.sub(r"[\s_]+", "-", wanted)
        wanted = next((name for name in (wanted, product, f"nvidia-{product}") if name in known), wanted)
        if wanted not in known:
            raise UnknownGpu(f"unknown GPU {_shown(name)}{_nearest(wanted, [*known, *self._gpus], self.gpu_names())}")
        return _builtin_gpu(known[wanted])

    def model(self, model: str | ModelSpec | Mapping[str, Any]) -> ModelSpec:
        """Return a model by name or alias (any case), or from the content of a ``config.json``.

        Raises:
            UnknownModel: with the nearest names.
        """
        if isinstance(model, ModelSpec):
            return model
        if isinstance(model, Mapping):
            return from_hf_config(model, str(model.get("_name_or_path") or model.get("model_type") or "config"))
        wanted = str(model).strip().lower()
        if wanted in self._models:
            return self._models[wanted]
        known = _data("models.yaml", "models")[1]
        if wanted not in known:
            hint = _nearest(wanted, [*known, *self._models], self.model_names())
            raise UnknownModel(f"unknown model {_shown(model)}{hint}")
        return _builtin_model(known[wanted])


def resolve_gpu(name: str | GpuSpec) -> GpuSpec:
    """Return a GPU of the built-in catalogue; see ``Catalog.gpu``."""
    return Catalog().gpu(name)


def resolve_model(model: str | ModelSpec | Mapping[str, Any]) -> ModelSpec:
    """Return a model of the built-in catalogue or of a configuration; see ``Catalog.model``."""
    return Catalog().model(model)


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(wanted: str, known: Iterable[str], listed: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(wanted[:80], list(known), n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    names = list(listed)
    more = f", … ({len(names)} in all)" if len(names) > _LISTED else ""
    return f"; known: {', '.join(names[:_LISTED])}{more}"
