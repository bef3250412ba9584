"""GPUs and models by name, every figure with its source and date.

The two data files are read once per process; everything else here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from sizing.catalog.data import section
from sizing.catalog.gpus import GpuSpec, Link, Price, gpu_from_mapping
from sizing.catalog.models import ModelSpec, from_hf_config
from sizing.catalog.precision import without_precision
from sizing.catalog.quantization import Quantization, assumed_quantization
from sizing.errors import UnknownGpu, UnknownModel

__all__ = ["Catalog", "GpuSpec", "Link", "ModelSpec", "Price", "from_hf_config", "resolve_gpu", "resolve_model"]


#: How nvidia-smi and NVIDIA's device plugin name a slice of a board, and boards that several containers share.
_PART_OF_GPU = re.compile(r"(?:^|[^a-z])mig(?:[^a-z]|$)|[- ]\d+g\.\d+gb|-shared$")
#: An error names this many entries at most.
_LISTED = 12


@cache
def _data(file: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the entries of one data file and the canonical name of every alias, with and without owner."""
    entries = section(file, name)
    names = {alias.lower(): key for key, fields in entries.items() for alias in (key, *fields.get("aliases", ()))}
    # Copies by other owners carry the title of the original.
    names = {alias.rpartition("/")[2]: key for alias, key in names.items()} | names
    if name == "models":
        names = {without_precision(alias)[0]: key for alias, key in names.items()} | names
    return entries, names


def _dashed_gpu(name: str) -> str:
    """Return a GPU's name in lower case without maker and brand, its words joined by dashes."""
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return re.sub(r"^(?:(?:nvidia|amd|intel|google|aws|geforce|tesla|quadro|instinct)-)+", "", text)


def _plain_gpu(name: str) -> str:
    """Return a GPU's name without separators either: "NVIDIA GeForce RTX 4090" and "rtx_4090" are one."""
    return _dashed_gpu(name).replace("-", "")


@cache
def _gpu_names() -> dict[str, str]:
    return {_plain_gpu(alias): key for alias, key in _data("gpus.yaml", "gpus")[1].items()}


def _same_class(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that carry the same model number: another number is another GPU, however alike it is spelled."""
    wanted = _model_number(name)
    return [other for other in names if wanted is not None and _model_number(other) == wanted]


def _model_number(name: str) -> str | None:
    words = _dashed_gpu(name).split("-")
    for before, word in zip(["", *words], words, strict=False):
        if any(character.isdigit() for character in word):
            return ("pro" if before == "pro" else "") + word.removeprefix("rtx")
    return None


@cache
def _builtin_gpu(name: str) -> GpuSpec:
    return gpu_from_mapping(name, _data("gpus.yaml", "gpus")[0][name])


@cache
def _builtin_model(name: str) -> ModelSpec:
    entry = _data("models.yaml", "models")[0][name]
    model = from_hf_config(entry["config"], name, entry["source"])
    return replace(model, quantizations=tuple(_recipe(fields) for fields in entry.get("quantizations", ())))


def _recipe(fields: Mapping[str, Any]) -> Quantization:
    """Return how an owner's quantised checkpoint of a model is built (``quantizations`` in models.yaml)."""
    kept = tuple(sorted(fields.get("kept", {}).items()))
    return Quantization(
        fields["precision"],
        fields["scales"],
        fields.get("group_size"),
        kept,
        fields.get("kv_precision"),
        method=fields["source"],
    )


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
        labels = section("gpus.yaml", "labels")
        if wanted in labels:
            return _builtin_gpu(labels[wanted])
        if _PART_OF_GPU.search(wanted):
            raise UnknownGpu(f"{_shown(name)} is a part of a GPU (MIG or time-slicing); only whole ones are sized")
        known = _gpu_names()
        plain = _plain_gpu(wanted)
        if plain in known:
            return _builtin_gpu(known[plain])
        for other, fields in section("gpus.yaml", "not_sized").items():
            if plain in {_plain_gpu(alias) for alias in (other, *fields["aliases"])}:
                raise UnknownGpu(
                    f"{fields['maker']} {other} is known by name, but not sized: no measured figures of it were read"
                )
        listed = self.gpu_names()
        raise UnknownGpu(f"unknown GPU {_shown(name)}{_nearest(wanted, _same_class(wanted, listed), listed)}")

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

    def checkpoint(self, model: str | ModelSpec | Mapping[str, Any]) -> ModelSpec:
        """Return the model of a checkpoint, by the name of the model that it is named after.

        Quantised checkpoints and copies by other owners ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic") have the
        architecture of that model; ``quantization`` is then that of the precision at the end of the name.

        Raises:
            UnknownModel: with the nearest names.
        """
        if not isinstance(model, str):
            return self.model(model)
        name = model.strip()
        base, precision = without_precision(name)
        try:
            found = self.model(name)
        except UnknownModel:
            for candidate in (base, name.rpartition("/")[2], base.rpartition("/")[2]):
                with suppress(UnknownModel):
                    found = self.model(candidate)
                    break
            else:
                raise
        if precision is None:
            return found
        return replace(found, quantization=_of_precision(found, precision, name))


def _of_precision(model: ModelSpec, precision: str, name: str) -> Quantization | None:
    named = model.quantization_in(precision)
    if named is not None and "dynamic" not in name.lower():
        return named
    found = assumed_quantization(precision, experts=model.experts > 0, model_type=model.model_type, like=name)
    return None if found is None else replace(found, method=f"the checkpoint's name, {name[:80]}")


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
