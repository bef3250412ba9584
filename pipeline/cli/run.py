"""``tokentide run``: the pipeline on a real Kafka."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.common import ConfigOption, clean_errors, settings_from
from pipeline.cli.config import check_pools
from pipeline.errors import InputError

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
    shard: Annotated[
        str | None, typer.Option(help="I/M: this controller is number I (from 0) of M.", metavar="I/M")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Split the pools over so many controllers (kafka.shards).", min=1, max=1024)
    ] = None,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API and the board.", min=0, max=65535)] = None,
) -> None:
    """Run the pipeline until SIGTERM or Ctrl-C. Example: tokentide run -c tokentide.toml --stage control"""
    from pipeline.stream.exogenous.topics import exogenous_book
    from pipeline.stream.process.supervisor import run_all, run_stage

    number = None
    if shard is not None:
        if stage is not Stage.CONTROL:
            raise InputError("--shard is for --stage control; an aggregator writes for every shard (--shards M)")
        number, told = _shard(shard)
        if shards not in (None, told):
            raise InputError(f"--shard {shard} and --shards {shards} contradict each other")
        shards = told
    settings = settings_from(config, kafka={"bootstrap": bootstrap, "shards": shards}, publish={"port": port})
    check_pools(settings)
    exogenous_book(settings)  # files that cannot be read are named before anything starts
    if stage is Stage.ALL:
        raise typer.Exit(run_all(settings))
    if number is not None:
        settings = settings.for_shard(number)
    raise typer.Exit(run_stage(settings, stage.value))


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, re.ASCII)
    number, shards = (int(part) for part in match.groups()) if match else (0, 0)
    if not number < shards <= 1024:
        raise InputError(f"--shard {text!r} is not I/M with I from 0 to M - 1, such as 0/4")
    return number, shards
