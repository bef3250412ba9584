"""The ``tokentide`` command: the only place that wires everything."""

from __future__ import annotations

import sys

import typer

import pipeline
from pipeline.cli import (
    alerts,
    bridge,
    calendar,
    calibrate_hardware,
    config,
    dashboards,
    demand,
    events,
    fleet,
    show,
    spikes,
)
from pipeline.cli.backtest import backtest
from pipeline.cli.common import Output, OutputOption, clean_errors, emit
from pipeline.cli.data import replay, simulate
from pipeline.cli.demo import demo
from pipeline.cli.doctor import doctor
from pipeline.cli.evaluate import evaluate
from pipeline.cli.export import export
from pipeline.cli.money import money
from pipeline.cli.run import run
from pipeline.cli.size import size
from pipeline.cli.whatif import whatif

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Forecasts LLM inference demand and says how much GPU capacity it needs, before it is needed.",
)
app.command()(demo)
app.command()(run)
app.command()(simulate)
app.command()(replay)
app.command()(backtest)
app.command()(evaluate)
app.command()(export)
app.add_typer(events.app, name="events")
app.add_typer(bridge.app, name="bridge")
app.add_typer(show.forecast, name="forecast")
app.add_typer(show.recommend, name="recommend")
app.add_typer(calendar.app, name="calendar")
app.add_typer(spikes.app, name="spikes")
app.add_typer(alerts.app, name="alerts")
app.add_typer(dashboards.app, name="dashboards")
app.command()(size)
app.command()(whatif)
app.add_typer(fleet.app, name="fleet")
app.command()(money)
app.add_typer(demand.app, name="demand")
app.add_typer(calibrate_hardware.app, name="calibrate")
app.add_typer(config.app, name="config")
app.command()(doctor)


@app.command()
@clean_errors
def version(output: OutputOption = Output.TABLE) -> None:
    """Print the versions in use. Example: tokentide version -o json"""
    from importlib.metadata import version as installed

    names = ("faust-streaming", "aiokafka", "kafka-python", "duckdb", "river", "numpy")
    data = {"tokentide": pipeline.__version__, "python": sys.version.split()[0]} | {n: installed(n) for n in names}
    emit(output, data, ("package", "version"), data.items())


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
