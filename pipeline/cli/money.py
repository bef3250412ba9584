"""``tokentide money``: what the pools of a running instance cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pipeline.cli.common import Output, OutputOption, UrlOption, call, clean_errors, emit, notice
from pipeline.cli.tables import short_number
from pipeline.errors import InputError
from sizing.price_age import age_words

__all__ = ["money"]

_COLUMNS = (
    *("model", "pool", "span", "replicas", "$/h", "used %", "trap", "$/1M in", "$/1M out", "$/1M", "$/request"),
    *("API $/h", "break-even %", "batch break-even %", "saved $ vs peak", "saved $ vs ran"),
)


@clean_errors
def money(url: UrlOption = "http://127.0.0.1:8321", output: OutputOption = Output.TABLE) -> None:
    """Print what each pool costs, per token and against an API, and what the advice saves (docs/money.md).

    Example: tokentide money
    """
    data = call(url, "/v1/money")
    try:
        for warning in _warnings(data):
            notice(warning)
        rows = [row for pool in data["pools"] for row in _rows(pool)]
    except KeyError as error:
        raise InputError(f"the instance answered without {error}") from error
    emit(output, data, _COLUMNS, rows)


def _warnings(data: dict[str, Any]) -> Iterator[str]:
    when = data["now"] if data["as_of"] is None else data["as_of"]
    day = datetime.fromtimestamp(when, tz=UTC).date().isoformat()
    for pool in data["pools"]:
        name = f"{pool['model']}/{pool['pool']}"
        if pool["price"] is None:
            yield f"{name}: no price of {pool['gpu']} is known; give one in money.prices"
        for what, price in (("the GPU", pool["price"]), ("the API", pool["api"])):
            if price is not None and price["stale"]:
                yield f"{name}: the price of {what} {age_words(price['as_of'], price['age_days'], day)}"


def _rows(pool: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for span in pool["spans"]:
        saved = span["savings_dollars"] or {}
        for basis in ("ran", "advised"):
            told = span[basis]
            if told is None or told["cost"] is None:
                continue
            cost, api, hours = told["cost"], told["api"] or {}, told["usage"]["hours"]
            asked = api.get("dollars")
            prices = ("input_tokens", "output_tokens", "tokens")
            yield (
                *(pool["model"], pool["pool"], span["span"], basis, _number(cost["dollars_per_hour"])),
                *(_percent(cost["utilisation"]), _number(cost["utilisation_trap_ratio"])),
                *(_number(cost[f"dollars_per_million_{name}"]) for name in prices),
                *(_number(cost["dollars_per_request"]), _number(asked / hours if asked is not None else None)),
                *(_percent(api.get(name)) for name in ("break_even_utilisation", "batch_break_even_utilisation")),
                *(_number(saved.get(name)) for name in ("against_static_peak", "against_ran")),
            )


def _number(value: float | None) -> str | None:
    return None if value is None else short_number(value)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.0f}"
