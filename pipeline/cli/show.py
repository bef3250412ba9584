"""``tokentide forecast`` and ``tokentide recommend``: ask a running instance what it says and why."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pipeline.cli.common import (
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    call,
    clean_errors,
    emit,
    say,
    settings_from,
)
from pipeline.cli.durations import parse_duration
from pipeline.cli.named_pool import ModelArgument, PoolArgument, named_pool
from pipeline.cli.tables import short_number
from pipeline.errors import InputError
from pipeline.forecast.outlook import Grain
from sizing.planning.demand_needs import OBSERVED_REQUESTS, whole

__all__ = ["forecast", "recommend"]

forecast = typer.Typer(no_args_is_help=True, help="What demand is expected, and how good past forecasts were.")
recommend = typer.Typer(no_args_is_help=True, help="What capacity is recommended, and why.")

DEFAULT_URL = "http://127.0.0.1:8321"


def _path(base: str, model: str, pool: str) -> str:
    return f"/v1/{base}/{quote(model, safe='')}/{quote(pool, safe='')}"


def _moment(epoch: float | None) -> str:
    return "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else short_number(value)


@forecast.command("show")
@clean_errors
def forecast_show(
    model: ModelArgument,
    pool: PoolArgument = None,
    signal: Annotated[str, typer.Option(help="Which signal.")] = "requests_per_second",
    grain: Annotated[Grain, typer.Option(help="Up to an hour, 14 days, or a quarter ahead.")] = Grain.MINUTE,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's requests; * for all without a series.")] = None,
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the newest forecast of a pool. Example: tokentide forecast show llama-3.1-8b-instruct/chat --grain day"""
    data = call(url, _path("forecasts", *named_pool(url, model, pool)), signal=signal, grain=grain.value, tenant=tenant)
    rows = [
        (
            _moment(f["target_at"]),
            f["horizon_seconds"],
            *(_number(f["quantiles"][q]) for q in ("q05", "q50", "q90", "q99")),
        )
        for f in data["forecasts"]
    ]
    emit(output, data, ("for (UTC)", "horizon s", "p5", "p50", "p90", "p99"), rows)


@forecast.command("score")
@clean_errors
def forecast_score(
    store: Annotated[Path | None, typer.Argument(help="Store file; without it the one in the settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only this pool.")] = None,
    signal: Annotated[str | None, typer.Option(help="Only this signal.")] = None,
    last: Annotated[str | None, typer.Option(help="Only forecasts of the last, such as 24h.")] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Score recorded forecasts by what came. Example: tokentide forecast score tokentide.duckdb --last 24h"""
    from pipeline.replay.recorded import last_issued, score_recorded

    path = store if store is not None else settings_from(config).store.path
    newest = last_issued(path) if last is not None else None
    since = None if last is None or newest is None else newest - parse_duration(last)
    scores = score_recorded(path, model=model, pool=pool, signal=signal, since=since)
    if not scores:
        raise InputError(f"{path} holds no such forecasts")
    rows = [
        (
            *(s.model, s.pool, s.signal, s.horizon_seconds, s.score.scored),
            *(_percent(value) for value in (s.score.wape, s.score.last_value_wape, s.score.bias)),
            *(_percent(s.score.pinball.get(level)) for level in ("0.5", "0.9", "0.95", "0.99")),
            *(_percent(value) for value in (s.score.coverage.get("0.95"), s.score.coverage_95_top_decile)),
        )
        for s in scores
    ]
    columns = ("model", "pool", "signal", "horizon s", "scored", "WAPE %", "last value's", "bias %")
    losses = ("pinball .5 %", ".9", ".95", ".99", "q95 covers %", "top decile")
    emit(output, [asdict(score) for score in scores], (*columns, *losses), rows)


@recommend.command("show")
@clean_errors
def recommend_show(url: UrlOption = DEFAULT_URL, output: OutputOption = Output.TABLE) -> None:
    """Print what is recommended for every pool. Example: tokentide recommend show"""
    data = call(url, "/v1/recommendations")
    rows = [_row(r) for r in data["recommendations"]]
    emit(output, data, ("model", "pool", "desired", "interval", "current", "state", "reason", "expires (UTC)"), rows)


@recommend.command("score")
@clean_errors
def recommend_score(url: UrlOption = DEFAULT_URL, output: OutputOption = Output.TABLE) -> None:
    """Print how good past advice was, once its time had come. Example: tokentide recommend score"""
    data = call(url, "/v1/scorecards")
    names = ("too_low_ratio", "too_high_ratio", "interval_coverage_ratio")
    hours = ("under_replica_hours", "over_replica_hours", "unserved_requests")
    rows = [
        (
            *(str(card[name]) for name in ("model", "pool", "span", "scored")),
            *(_percent(card[name]) for name in names),
            *(_number(card[name]) for name in hours),
            _percent(card["followed_ratio"]),
            _percent(card["lead_time_met_ratio"]),
        )
        for card in data["scorecards"]
    ]
    columns = ("model", "pool", "span", "scored", "too low %", "too high %", "in interval %")
    emit(output, data, (*columns, "replica-h under", "over", "requests unserved", "followed %", "in time %"), rows)


@recommend.command("explain")
@clean_errors
def recommend_explain(
    model: ModelArgument,
    pool: PoolArgument = None,
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print why a recommendation is what it is. Example: tokentide recommend explain llama-3.1-8b-instruct/chat"""
    data = call(url, _path("recommendations", *named_pool(url, model, pool)))
    if output is Output.TABLE:
        say(data["message"])
    scalars = {k: v for k, v in data.items() if not isinstance(v, dict | list) and k != "message"}
    rows = [(k, _moment(v) if k.endswith("_at") else v) for k, v in scalars.items()]
    evidence = data.get("evidence", {})
    decided_by = _decided_by(evidence)
    if decided_by is not None:
        rows += [("decided_by", decided_by)]
    for change in data.get("counterfactuals", ()):
        rows.append(("what_if", change["text"] + (f" ({change['caveat']})" if change["caveat"] else "")))
    rows += [(k, _number(v)) for k, v in sorted(evidence.items())]
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
                    say(f"{_moment(r['issued_at'])}  {r['model']}/{r['pool']}  {r['desired']}  {r['message']}")
        time.sleep(interval_seconds)


def _decided_by(evidence: dict[str, float | None]) -> str | None:
    """Name what needs the most replicas: a currency of the forecast, or the observed requests if they need more."""
    prefix = "replicas_needed_by_"
    needs = {name.removeprefix(prefix): v for name, v in evidence.items() if name.startswith(prefix) and v is not None}
    return max(needs, key=lambda name: (whole(needs[name]), name != OBSERVED_REQUESTS, needs[name]), default=None)


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
