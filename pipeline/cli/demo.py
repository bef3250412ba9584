"""``tokentide demo``: everything embedded, nothing to install or configure."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.common import clean_errors, notice

__all__ = ["demo"]


@clean_errors
def demo(
    port: Annotated[int, typer.Option(help="Port of the board.", min=1, max=65535)] = 8321,
    speed: Annotated[
        float,
        typer.Option(help="Simulated seconds per second, at most: less when the machine is slower.", min=1, max=600),
    ] = 60.0,
    history_days: Annotated[
        float, typer.Option(help="Simulated days of history to learn first.", min=0.1, max=30)
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed of the simulated fleet.")] = 7,
    seconds: Annotated[
        float | None, typer.Option(help="Stop so many seconds after events began to flow.", min=1)
    ] = None,
) -> None:
    """Run the whole product with a simulated fleet until Ctrl-C. Example: tokentide demo --port 9000"""
    from pipeline.demo.run import DemoOptions, run_demo

    raise typer.Exit(run_demo(DemoOptions(port, speed, history_days, seed, seconds), notice))
