"""``tokentide config``: check, show and describe settings without connecting to anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import EXIT_FAILED, ConfigOption, Output, OutputOption, clean_errors, emit, fail, notice
from pipeline.errors import ConfigError, InputError
from pipeline.settings import ENV_PREFIX, Settings, load
from sizing.catalog import Catalog
from sizing.errors import SizingError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Check, show and describe settings.")

_TEMPLATE = """\
# Settings of Tokentide. Every key can also come from the environment: TOKENTIDE_KAFKA__BOOTSTRAP=host:9092

[kafka]
bootstrap = "127.0.0.1:9092"

[store]
path = "tokentide.duckdb"

# [windows]
# dimensions = ["tenant"]  # break demand down by these fields of the events
# [forecast]
# tenant_series = 4        # and forecast the heaviest tenants apart

[publish]
host = "127.0.0.1"
port = 8321

# One block for each pool that is to be sized.
[[pools]]
model = "llama-3.1-8b-instruct"    # as the events name it
pool = "chat"
profile = "llama-3.1-8b"           # `tokentide size --list` names the catalogue
accelerator = "H100-SXM"
ttft_seconds = 1.0                 # at the 95th percentile
tpot_seconds = 0.05
lead_time_seconds = 120            # from asking for a replica to it serving
min_replicas = 1
max_replicas = 16
"""


@app.command()
@clean_errors
def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("tokentide.toml")) -> None:
    """Write a commented settings file to start from. Example: tokentide config init tokentide.toml"""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATE)
    except FileExistsError:
        fail(f"{path} exists already; it was left alone", EXIT_FAILED)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", EXIT_FAILED)
    notice(f"wrote {path}")


@app.command()
@clean_errors
def validate(
    file: Annotated[Path | None, typer.Argument(help="TOML file to check.")] = None, config: ConfigOption = None
) -> None:
    """Check a settings file, catalogue names included. Example: tokentide config validate tokentide.toml"""
    path = config if file is None else file
    if path is None or None not in (file, config):
        raise InputError("which file? Name one, as tokentide config validate tokentide.toml or with -c")
    settings = load(path)
    check_pools(settings)
    print(f"{path}: ok ({len(settings.pools)} pools)")


@app.command()
@clean_errors
def show(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Print the settings in force and where each comes from. Example: tokentide config show -c tokentide.toml"""
    settings = load(config)
    given = _flat(settings.model_dump(mode="json", exclude_unset=True))
    rows = []
    for key, value in _flat(settings.model_dump(mode="json")).items():
        name = ENV_PREFIX + key.upper().replace(".", "__")
        origin = "environment" if name in os.environ else "file" if key in given and config else "default"
        rows.append((key, value, origin))
    emit(
        output, [dict(zip(("key", "value", "origin"), r, strict=True)) for r in rows], ("key", "value", "origin"), rows
    )


@app.command()
@clean_errors
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors. Example: tokentide config schema > schema.json"""
    print(json.dumps(Settings.model_json_schema(), indent=2))


def check_pools(settings: Settings, catalog: Catalog | None = None) -> None:
    """Make sure that every pool can be planned for: its model, accelerator, precisions, parallelism, SLO and limits.

    Raises:
        ConfigError: one of them cannot be; the text says what would do, or is close.
    """
    from pipeline.profiles import catalog_for
    from sizing.plan import Planner, check_policy

    try:
        catalog = catalog or catalog_for(settings)
    except (InputError, SizingError) as error:
        raise ConfigError(f"pools: {error}") from error
    for index, pool in enumerate(settings.pools):
        try:
            Planner(pool.deployment(), pool.slo(), catalog=catalog)
            check_policy(pool.policy())
        except SizingError as error:
            raise ConfigError(f"pools.{index} ({pool.model}/{pool.pool}): {error}") from error


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
