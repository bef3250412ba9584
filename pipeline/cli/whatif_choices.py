"""What ``tokentide whatif`` compares with: lists of values on the command line, and an option for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import InputError
from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.compare import Option, configurations
from sizing.economics import ApiPrice
from sizing.planning.serving import Apart
from sizing.replica.speculative_step import Drafting

__all__ = ["Choices", "api_prices", "combined", "items", "numbers", "shares", "single"]


@dataclass(frozen=True, slots=True)
class Choices:
    """Lists of values as they stand on the command line; None: not given."""

    gpus: str | None = None
    precisions: str | None = None
    kv_precisions: str | None = None
    tps: str | None = None
    pps: str | None = None
    eps: str | None = None
    dps: str | None = None
    engines: str | None = None
    acceptances: str | None = None
    draft_tokens: int | None = None
    draft_cost: float | None = None
    apart: bool = False
    transfer_gigabytes_per_second: float | None = None


def items(text: str | None) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [] if text is None else [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str | None, *, zero: bool = False) -> list[float]:
    """Return the numbers of a list.

    Raises:
        InputError: one is no number, negative, 0 (but for ``zero``), or far too large.
    """
    values = []
    for part in items(text):
        try:
            value = float(part)
        except ValueError:
            raise InputError(f"{part[:40]!r} is not a number") from None
        if value < 0 or (value == 0 and not zero) or not value < 1e9:
            raise InputError(f"{part[:40]!r} must be {'at least 0' if zero else 'above 0'} and below 1e9")
        values.append(value)
    return values


def shares(name: str, text: str | None) -> list[float]:
    """Return the shares of a list.

    Raises:
        InputError: one is not from 0 to 1.
    """
    values = numbers(text, zero=True)
    for value in values:
        if value > 1:
            raise InputError(f"{name} must be from 0 to 1, not {value:g}")
    return values


def _sizes(name: str, text: str | None) -> list[int]:
    values = numbers(text)
    if any(value % 1 for value in values):
        raise InputError(f"{name} must be whole numbers, not {text!r}")
    return [int(value) for value in values]


def _gpus(text: str | None, catalog: Catalog) -> list[str]:
    if text is not None and text.strip().lower() == "all":
        return list(catalog.gpu_names())
    return [catalog.gpu(name).name for name in items(text)]


def single(base: Option, choices: Choices, catalog: Catalog) -> list[Option]:
    """Return the options that change one thing each.

    Raises:
        InputError: a value cannot be, or one that another needs is missing.
    """
    options: list[Option] = []
    if gpus := _gpus(choices.gpus, catalog):
        options += configurations(base, gpus=gpus)
    if precisions := items(choices.precisions):
        options += configurations(base, precisions=precisions)
    if kv_precisions := items(choices.kv_precisions):
        options += configurations(base, kv_precisions=kv_precisions)
    if tps := _sizes("--tps", choices.tps):
        options += configurations(base, tensor_parallel=tps)
    if pps := _sizes("--pps", choices.pps):
        options += configurations(base, pipeline_parallel=pps)
    if eps := _sizes("--eps", choices.eps):
        options += configurations(base, expert_parallel=eps)
    if dps := _sizes("--dps", choices.dps):
        options += configurations(base, data_parallel=dps)
    options += [_engine(base, name, catalog) for name in items(choices.engines)]
    return options + _served(base, choices)


def combined(base: Option, choices: Choices, catalog: Catalog) -> list[Option]:
    """Return every combination of GPUs, precisions and parallelism, the base's among them.

    Raises:
        InputError: a value cannot be, or is none of those that are combined.
    """
    if choices.engines or choices.acceptances or choices.apart:
        raise InputError("--engines, --acceptances and --apart cannot be combined: leave out --combine")
    deployment = base.deployment

    def sizes(name: str, now: int, text: str | None) -> Sequence[int]:
        return sorted({now, *_sizes(name, text)})

    return configurations(
        base,
        gpus=list(dict.fromkeys([deployment.gpu, *_gpus(choices.gpus, catalog)])),
        precisions=list(dict.fromkeys([deployment.precision, *items(choices.precisions)])),
        kv_precisions=list(dict.fromkeys([deployment.kv_precision, *items(choices.kv_precisions)])),
        tensor_parallel=sizes("--tps", deployment.tensor_parallel, choices.tps),
        pipeline_parallel=sizes("--pps", deployment.pipeline_parallel, choices.pps),
        expert_parallel=sizes("--eps", deployment.expert_parallel, choices.eps),
        data_parallel=sizes("--dps", deployment.data_parallel, choices.dps),
    )


def _engine(base: Option, name: str, catalog: Catalog) -> Option:
    """Return the base on another engine with that engine's own defaults; what was measured belongs to the present
    one.
    """
    unset = engine_defaults(name, catalog.gpu(base.deployment.gpu))
    deployment = replace(
        base.deployment,
        engine=name,
        engine_version=None,
        max_num_seqs=unset.max_num_seqs,
        max_batched_tokens=unset.max_batched_tokens,
        memory_utilisation=unset.memory_utilisation,
        observed_kv_tokens=None,
    )
    return replace(base, name=f"engine {name[:40]}", deployment=deployment, calibration=None)


def _served(base: Option, choices: Choices) -> list[Option]:
    """Return the other ways of serving on the present deployment."""
    options = []
    tokens, cost = choices.draft_tokens, choices.draft_cost
    acceptances = shares("--acceptances", choices.acceptances)
    if acceptances:
        if tokens is None or cost is None:
            raise InputError(
                "--acceptances needs --draft-tokens (per step) and --draft-cost (of one, over a plain step): "
                "they belong to your draft model and have no default"
            )
        options = [
            replace(base, name=f"{tokens} drafts, {value:g} accepted", serving=Drafting(tokens, value, cost))
            for value in acceptances
        ]
    elif tokens is not None or cost is not None:
        raise InputError("--draft-tokens and --draft-cost need --acceptances: measure it on your own text")
    rate = choices.transfer_gigabytes_per_second
    if rate is not None and not choices.apart:
        raise InputError("--transfer-gigabytes-per-second needs --apart")
    if choices.apart:
        network = None if rate is None else rate * 1e9
        options.append(replace(base, name="prefill and decode apart", serving=Apart(network)))
    return options


def api_prices(text: str | None) -> list[ApiPrice]:
    """Return the prices of ``0.5/1.5,0.1/0.4``: dollars per million input and output tokens.

    Raises:
        InputError: it is not such a list.
    """
    found = []
    for part in items(text):
        both = [price for side in part.split("/") for price in numbers(side, zero=True)]
        if len(both) != 2 or not any(both):
            raise InputError(
                f"an API price is dollars per 1M input and output tokens, such as 0.5/1.5, not {part[:40]!r}"
            )
        found.append(ApiPrice(both[0], both[1]))
    return found
