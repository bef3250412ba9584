"""Whether what a report names as tested is the deployment that it is imported for."""

from __future__ import annotations

import re

from sizing.calibration.loadtests.types import Subject
from sizing.catalog import Catalog
from sizing.catalog.engines import engine
from sizing.catalog.precision import weight_precision, without_precision
from sizing.errors import SizingError
from sizing.types import Deployment

__all__ = ["differences"]


def differences(subject: Subject, deployment: Deployment, catalog: Catalog) -> tuple[str, ...]:
    """Return one sentence for each name in a report that contradicts the deployment; nothing where it names none.

    A served name that is in no catalogue (an alias of the operator's) contradicts nothing that can be known, unless the
    deployment's model is in its catalogue and shares no word with it.
    """
    found = []
    if subject.model is not None and not _same_model(subject.model, deployment.model, catalog):
        found.append(f"the report names the model {subject.model}, --model is {deployment.model}")
    if subject.engine is not None and _engine(subject.engine) != _engine(deployment.engine):
        found.append(f"the report names the serving engine {subject.engine}, --serving-engine is {deployment.engine}")
    if subject.gpu is not None and not _same_gpu(subject.gpu, deployment.gpu, catalog):
        found.append(f"the report names the GPU {subject.gpu}, --gpu is {deployment.gpu}")
    if subject.tensor_parallel is not None and subject.tensor_parallel != deployment.tensor_parallel:
        found.append(
            f"the report names tensor parallelism {subject.tensor_parallel}, --tp is {deployment.tensor_parallel}"
        )
    if subject.precision is not None and not _same_precision(subject.precision, deployment.precision):
        found.append(f"the report names the precision {subject.precision}, --precision is {deployment.precision}")
    return tuple(found)


def _canonical(name: str, catalog: Catalog) -> str | None:
    base = without_precision(name)[0]
    for candidate in (name, base, name.rpartition("/")[2], base.rpartition("/")[2]):
        try:
            return catalog.model(candidate).name
        except SizingError:
            continue
    return None


def _same_model(reported: str, given: str, catalog: Catalog) -> bool:
    if given.lower().endswith(".json"):  # a configuration by its path has no name to compare
        return True
    named, wanted = _canonical(reported, catalog), _canonical(given, catalog)
    if named is not None and wanted is not None:
        return named == wanted
    sizes, versions, words = zip(*(_parts(name) for name in (reported, given)), strict=True)
    if any(a and b and not a & b for a, b in (sizes, versions)):
        return False
    # A served name without owner or size is an alias, which may stand for anything.
    return bool(words[0] & words[1]) or not (sizes[0] or "/" in reported)


def _parts(name: str) -> tuple[set[str], set[str], set[str]]:
    """Return the sizes ("8b"), version numbers ("3.1") and words of a model's name, without its owner."""
    own = name.lower().rpartition("/")[2]
    sizes = set(re.findall(r"(?<![\w.])(?:a?\d+x)?a?\d+(?:\.\d+)?[bm](?![a-z])", own))
    rest = re.sub(r"(?<![\w.])(?:a?\d+x)?a?\d+(?:\.\d+)?[bm](?![a-z])", " ", own)
    words = set(re.findall(r"[a-z]{2,}", rest)) - {"instruct", "chat", "it", "base", "hf", "fp", "bf", "int", "dynamic"}
    return sizes, set(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?:fp|bf|int|w|a)\d+", " ", rest))), words


def _same_gpu(reported: str, given: str, catalog: Catalog) -> bool:
    try:
        return catalog.gpu(reported).name == catalog.gpu(given).name
    except SizingError:
        words = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in (reported, given)]
        return words[0] in words[1] or words[1] in words[0]


def _same_precision(reported: str, given: str) -> bool:
    try:
        named, wanted = weight_precision(reported), weight_precision(given)
    except SizingError:
        return True
    return named == wanted or {named, wanted} == {"nvfp4", "mxfp4"}


def _engine(name: str) -> str:
    known = engine(name)
    return known.name if known is not None else name.strip().lower()
