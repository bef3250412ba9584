"""All policies by the names that ``--policies`` takes, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Container

from pipeline.errors import InputError
from pipeline.evaluate.policies import (
    dynamo_load,
    dynamo_throughput,
    hpa,
    keda,
    kpa,
    llmd_slo,
    oracle,
    preload,
    reactive,
    static,
    tokentide,
    warm_pool,
    wva,
)
from pipeline.evaluate.policies.base import PolicySpec

__all__ = ["POLICIES", "chosen_policies"]

_SPECS = (
    tokentide.SPEC,
    oracle.SPEC,
    static.PEAK,
    static.MEAN,
    reactive.SPEC,
    preload.SPEC,
    warm_pool.SPEC,
    hpa.CONCURRENCY,
    hpa.KV_USE,
    keda.RUNNING,
    keda.QUEUE,
    kpa.SPEC,
    wva.SPEC,
    llmd_slo.SPEC,
    dynamo_throughput.CONSTANT,
    dynamo_throughput.KALMAN,
    dynamo_load.SPEC,
)

POLICIES = {spec.name: spec for spec in _SPECS}


def chosen_policies(text: str | None, given: Container[str] = ()) -> tuple[PolicySpec, ...]:
    """Return the policies of a comma-separated list, each once; None: all that need nothing that is not ``given``.

    Raises:
        InputError: a name is not known, there is none, or a policy needs what is not given.
    """
    if text is None:
        return tuple(spec for spec in _SPECS if spec.needs is None or spec.needs in given)
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in POLICIES:
            raise InputError(f"there is no policy {name[:40]!r}; there are: {', '.join(POLICIES)}")
    if not names:
        raise InputError(f"no policy is named; there are: {', '.join(POLICIES)}")
    for name in names:
        needs = POLICIES[name].needs
        if needs is not None and needs not in given:
            raise InputError(f"the policy {name} needs {needs}")
    return tuple(POLICIES[name] for name in names)
