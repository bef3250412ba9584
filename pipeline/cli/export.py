"""``tokentide export``: history as partitioned Parquet."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, emit, notice, settings_from
from pipeline.errors import StoreLocked

__all__ = ["export"]


@clean_errors
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; it is made where missing.")],
    store: Annotated[
        list[Path] | None, typer.Option(help="Store file, once or more; without it those of the settings.")
    ] = None,
    table: Annotated[list[str] | None, typer.Option(help="Table to export, once or more; without it all.")] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the history of stopped controllers as Parquet. Example: tokentide export history -c tokentide.toml

    FOLDER/TABLE/date=YYYY-MM-DD/STORE.parquet, one folder per UTC day. A running controller owns its file and exports
    by itself when store.export_folder is set.
    """
    from pipeline.store.export import export_file

    settings = settings_from(config)
    paths = store or [settings.for_shard(shard).store.path for shard in range(settings.kafka.shards)]
    files = []
    for path in paths:
        try:
            files += export_file(path, folder, settings.store, table or ())
        except StoreLocked as error:
            raise StoreLocked(
                f"{error}; a running controller exports by itself: set store.export_folder, or stop it first"
            ) from error
    notice(f"{len(files)} files with {sum(file.rows for file in files):,} rows in {folder}")
    rows = [(file.table, file.date, file.rows, file.path) for file in files]
    emit(output, [asdict(file) for file in files], ("table", "date", "rows", "file"), rows)
