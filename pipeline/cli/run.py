"""``tokentide run``: the pipeline on a real Kafka."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.common import ConfigOption, clean_errors, settings_from
from pipeline.cli.config import check_pools

__all__ = ["run"]


class Stage(StrEnum):
    """Which part of the pipeline a process runs."""

    ALL = "all"
    AGGREGATE = "aggregate"
    CONTROL = "control"


@clean_errors
def run(
    config: ConfigOption = None,
    stage: Annotated[Stage, typer.Option(help="Both roles in one process tree, or one of them.")] = Stage.ALL,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API and the board.", min=0, max=65535)] = None,
) -> None:
    """Run the pipeline until SIGTERM or Ctrl-C. Example: tokentide run -c tokentide.toml --stage control"""
    from pipeline.stream.run import run_all, run_stage

    settings = settings_from(config, kafka={"bootstrap": bootstrap}, publish={"port": port})
    check_pools(settings)
    code = run_all(settings) if stage is Stage.ALL else run_stage(settings, stage.value)
    raise typer.Exit(code)
