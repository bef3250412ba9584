"""``tokentide demand``: what the requests of a trace are like, and what could serve them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice, say
from pipeline.cli.files import write_text
from pipeline.cli.sizing_options import CatalogOption
from pipeline.errors import InputError

__all__ = ["app"]

_MOST_DIMENSIONS = 8

app = typer.Typer(no_args_is_help=True, help="What the requests of a trace are like, and what could serve them.")


@app.callback()
def _group() -> None:
    """Keep ``shape`` a command of its own while it is the only one."""


@app.command()
@clean_errors
def shape(
    trace: Annotated[Path, typer.Argument(help="CSV or Parquet with a row for each request (docs/demand-shape.md).")],
    choices: Annotated[
        Path | None, typer.Option(help="TOML with a large and a small deployment: what routing between them saves.")
    ] = None,
    dimension: Annotated[
        list[str] | None, typer.Option(help="Column to tell apart, such as region or language; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read so many requests and no more.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Date that prices are judged by, such as 2026-11-30; else today.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML page with charts.")] = None,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Describe the requests of a trace, and what a smaller model, quiet hours or regions would save or cost.

    Example: tokentide demand shape requests.parquet --choices choices.toml --dimension region
    """
    from pipeline.cli.demand_output import Routing, shape_html, shape_json, shape_text, shape_warnings
    from pipeline.cli.fleet import reference_date
    from pipeline.config.choices_file import read_choices_file
    from pipeline.evaluate.request_columns import read_request_columns
    from sizing.demand_shape import INPUT_BOUNDS, MOST_VALUES, OUTPUT_BOUNDS, demand_shape
    from sizing.planning.length_routing import off_peak_savings, route_savings, split_cost

    day = reference_date(as_of)
    names = list(dict.fromkeys(dimension or ()))
    if len(names) > _MOST_DIMENSIONS:
        raise InputError(f"at most {_MOST_DIMENSIONS} dimensions, not {len(names)}")
    chosen = None if choices is None else read_choices_file(choices, catalog_file)
    columns = read_request_columns(trace, names, limit)
    told = demand_shape(columns)
    routing = None
    if chosen is not None:
        by_input: list[tuple[int, int | None]] = [(bound, None) for bound in INPUT_BOUNDS]
        by_both: list[tuple[int, int | None]] = [
            (INPUT_BOUNDS[i], OUTPUT_BOUNDS[j]) for i in (2, 4, 6) for j in (2, 3, 4)
        ]
        few = (
            [name for name in names if len(set(columns.dimensions[name])) <= MOST_VALUES] if columns.dimensions else []
        )
        splits = [split_cost(columns, name, chosen.large, chosen.catalog) for name in few]
        routing = Routing(
            chosen.large,
            chosen.small,
            route_savings(columns, chosen.large, chosen.small, by_input + by_both, chosen.catalog),
            off_peak_savings(columns, chosen.large, chosen.small, chosen.catalog),
            tuple(split for split in splits if split is not None),
        )
    data = shape_json(trace.name, told, routing, day)
    for warning in shape_warnings(data):
        notice(warning)
    if report is not None:
        write_text(report, shape_html(data))
        notice(f"wrote {report}")
    if output is Output.JSON:
        emit(output, data)
    else:
        say(shape_text(data))
