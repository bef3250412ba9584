"""``tokentide bridge``: demand from what servers already tell, before there are events."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any

import typer

from pipeline.cli.common import (
    EXIT_FINDINGS,
    ConfigOption,
    Output,
    OutputOption,
    clean_errors,
    emit,
    settings_from,
)
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Demand from what servers already tell, before there are events.")


@app.callback()
def _bridge() -> None:
    """Keep ``prometheus`` a command of its own while it is the only one."""


@app.command()
@clean_errors
def prometheus(
    config: ConfigOption = None,
    check: Annotated[
        bool, typer.Option(help="Scrape every target once, say what it tells, and write nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count requests by the metrics of vLLM, SGLang and TGI. Example: tokentide bridge prometheus -c tokentide.toml

    Reads the targets of [bridge] until SIGTERM or Ctrl-C and writes window deltas beside those of events. Pools that
    have events ignore it. With --check, exit code 3 when a target cannot be read.
    """
    settings = settings_from(config)
    if not settings.bridge.targets:
        raise ConfigError("bridge.targets names no server: add [[bridge.targets]] with url, model and pool")
    if check:
        _check(settings, output)
        return
    from pipeline.bridge.bridge import run_bridge
    from pipeline.kafka.topics import ensure_topics
    from pipeline.stream.process.supervisor import clock_from, configure_logging

    configure_logging()
    sources = settings.source_topics()
    ensure_topics(settings.kafka, only=[*sources, *settings.kafka.deltas_topics()], sources=sources)

    async def run() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await run_bridge(settings, clock_from(settings), stopping)

    asyncio.run(run())


def _check(settings: Settings, output: Output) -> None:
    from pipeline.bridge.scrape import scrape_all
    from pipeline.clock import WallClock

    scrapes = asyncio.run(scrape_all(settings.bridge.targets, WallClock(), settings.bridge.timeout_seconds))
    aliases = settings.aliases()
    data: list[dict[str, Any]] = []
    for scrape in scrapes:
        model, pool = aliases.pool_of(scrape.target.model, scrape.target.pool)
        told = sorted({quantity for quantity, _, _ in scrape.reading.values}) if scrape.reading is not None else []
        found = {"target": scrape.target.key, "model": model, "pool": pool}
        data.append({**found, "ok": scrape.reading is not None, "told": told, "detail": scrape.problem})
    rows = [
        (d["target"], f"{d['model']}/{d['pool']}", "ok" if d["ok"] else "PROBLEM", d["detail"] or ", ".join(d["told"]))
        for d in data
    ]
    emit(output, data, ("target", "pool", "", "detail"), rows)
    if not all(d["ok"] for d in data):
        raise typer.Exit(EXIT_FINDINGS)
