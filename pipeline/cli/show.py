"""``tokentide forecast`` and ``tokentide recommend``: ask a running instance what it says and why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pipeline.cli.common import Output, OutputOption, UrlOption, call, clean_errors, emit
from pipeline.errors import InputError

__all__ = ["forecast", "recommend"]

forecast = typer.Typer(no_args_is_help=True, help="What demand is expected, and how good past forecasts were.")
recommend = typer.Typer(no_args_is_help=True, help="What capacity is recommended, and why.")

DEFAULT_URL = "http://127.0.0.1:8321"
ModelArgument = Annotated[str, typer.Argument(help="Model as the events name it.")]
PoolArgument = Annotated[str, typer.Argument(help="Pool of that model.")]


def _path(base: str, model: str, pool: str, rest: str = "") -> str:
    return f"/v1/{base}/{quote(model, safe='')}/{quote(pool, safe='')}{rest}"


def _moment(epoch: float | None) -> str:
    return "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@forecast.command("show")
@clean_errors
def forecast_show(
    model: ModelArgument,
    pool: PoolArgument = "default",
    signal: Annotated[str, typer.Option(help="Which signal.")] = "requests_per_second",
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the newest forecast of a pool. Example: tokentide forecast show llama-3.1-8b-instruct chat"""
    data = call(url, _path("forecasts", model, pool), signal=signal)
    rows = [
        (
            _moment(f["target_at"]),
            f["horizon_seconds"],
            *(_number(f["quantiles"][q]) for q in ("q05", "q50", "q90", "q99")),
        )
        for f in data["forecasts"]
    ]
    emit(output, data, ("for (UTC)", "horizon s", "p5", "p50", "p90", "p99"), rows)


@recommend.command("show")
@clean_errors
def recommend_show(url: UrlOption = DEFAULT_URL, output: OutputOption = Output.TABLE) -> None:
    """Print what is recommended for every pool. Example: tokentide recommend show"""
    data = call(url, "/v1/recommendations")
    rows = [_row(r) for r in data["recommendations"]]
    emit(output, data, ("model", "pool", "desired", "interval", "current", "state", "reason", "expires (UTC)"), rows)


@recommend.command("explain")
@clean_errors
def recommend_explain(
    model: ModelArgument,
    pool: PoolArgument = "default",
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print why a recommendation is what it is. Example: tokentide recommend explain llama-3.1-8b-instruct chat"""
    data = call(url, _path("recommendations", model, pool))
    if output is Output.TABLE:
        print(data["message"])
    scalars = {k: v for k, v in data.items() if not isinstance(v, dict | list) and k != "message"}
    rows = [(k, _moment(v) if k.endswith("_at") else v) for k, v in scalars.items()]
    rows += [(k, _number(v)) for k, v in sorted(data.get("evidence", {}).items())]
    emit(output, data, ("what", "value"), rows)


@recommend.command("watch")
@clean_errors
def recommend_watch(
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
    interval_seconds: Annotated[float, typer.Option(min=0.2, help="How often to look.")] = 5.0,
    changes: Annotated[int | None, typer.Option(min=1, help="Stop after so many changes.")] = None,
) -> None:
    """Print each recommendation when it changes, until Ctrl-C. Example: tokentide recommend watch -o json"""
    seen: dict[tuple[str, str], int] = {}
    told = 0
    while changes is None or told < changes:
        for r in call(url, "/v1/recommendations")["recommendations"]:
            key = (r["model"], r["pool"])
            if seen.get(key) != r["generation"]:
                seen[key] = r["generation"]
                told += 1
                if output is Output.JSON:
                    emit(output, r)
                else:
                    print(
                        f"{_moment(r['issued_at'])}  {r['model']}/{r['pool']}  {r['desired']}  {r['message']}",
                        flush=True,
                    )
        time.sleep(interval_seconds)


def _row(r: dict[str, Any]) -> tuple[Any, ...]:
    try:
        return (
            r["model"],
            r["pool"],
            r["desired"],
            f"{r['lower']}–{r['upper']}",
            r["current"],
            r["state"],
            r["reason"],
            _moment(r["expires_at"]),
        )
    except KeyError as error:
        raise InputError(f"the instance answered without {error}") from error
