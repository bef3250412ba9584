"""``tokentide config``: check, show and describe settings without connecting to anything."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import (
    EXIT_FAILED,
    ConfigOption,
    Output,
    OutputOption,
    clean_errors,
    counted,
    emit,
    fail,
    notice,
)
from pipeline.config.deprecated import current_values
from pipeline.config.settings import ENV_PREFIX, Settings, load, load_with_values
from pipeline.errors import ConfigError, InputError
from sizing.catalog import Catalog
from sizing.errors import SizingError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Check, show and describe settings.")

_TEMPLATE = """\
# Settings of Tokentide. Every key can also come from the environment: TOKENTIDE_KAFKA__BOOTSTRAP=host:9092

[kafka]
bootstrap = "127.0.0.1:9092"
# [kafka.security]           # docs/kafka.md
# protocol = "SASL_SSL"
# mechanism = "SCRAM-SHA-512"
# username = "tokentide"
# password_file = "/run/secrets/kafka-password"

[store]
path = "tokentide.duckdb"

# [windows]
# dimensions = ["tenant"]  # break demand down by these fields of the events
# [forecast]
# tenant_series = 4        # and forecast the heaviest tenants apart
# experts = ["default", "external"]        # weigh forecasts of your own (docs/external-inputs.md)
# external = { topic = "inference.external-forecasts.v1" }

[publish]
host = "127.0.0.1"
port = 8321

# [[bridge.targets]]         # servers with metrics but no events yet: `tokentide bridge prometheus` (docs/bridge.md)
# url = "http://vllm-0:8000/metrics"
# model = "llama-3.1-8b-instruct"
# pool = "chat"

# [alerts.rules.unknown_models]      # `tokentide alerts list` names the rules and their thresholds
# thresholds.share = 0.2

# [money]
# prices = "prices.toml"   # what your GPUs and APIs cost (docs/money.md)

# [sizing]
# catalog = "mine.yaml"    # GPUs and models of your own (docs/sizing.md)

# One block for each pool that is to be sized.
[[pools]]
model = "llama-3.1-8b-instruct"    # as the events name it
pool = "chat"
# aliases = ["sql-lora*"]          # LoRA adapters and other names of the model, counted in this pool (docs/events.md)
profile = "llama-3.1-8b"           # `tokentide size --list` names the catalogue
accelerator = "H100-SXM"
# engine = "vllm"                  # and its release, which decides how much memory the KV cache gets
# engine_version = "0.18.0"
ttft_seconds = 1.0                 # at the 95th percentile
tpot_seconds = 0.05
lead_time_seconds = 120            # from asking for a replica to it serving, until start-ups were seen
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
    from pipeline.alerts.rule_registry import alert_rules
    from pipeline.clock import WallClock
    from pipeline.engine.decisions.registry import decision_rules
    from pipeline.fleet.kafka_reports import ReplicaBook
    from pipeline.fleet.registry import configured_fleet
    from pipeline.forecast.experts.registry import check_expert_names
    from pipeline.publish.http.server import check_publish
    from pipeline.sinks.registry import configured_sinks
    from pipeline.stream.exogenous.topics import exogenous_book

    settings = load(path)
    check_pools(settings)
    configured_sinks(settings, WallClock())
    configured_fleet(settings, WallClock(), ReplicaBook())
    alert_rules(settings.alerts.rules)
    check_expert_names(settings.forecast.experts)
    for pool in settings.pools:
        decision_rules(pool.decision_rules)
    exogenous_book(settings)
    check_publish(settings.publish)
    if settings.publish.open_to_all():
        notice(
            f"{path}: publish.host {settings.publish.host} lets other machines read everything without a token; set "
            "publish.tokens_file or publish.bearer_token, or publish.host to 127.0.0.1"
        )
    print(f"{path}: ok ({counted(len(settings.pools), 'pool')})")
    for line in folded_names(settings):
        print(line)


@app.command()
@clean_errors
def migrate(
    file: Annotated[Path, typer.Argument(help="TOML file to bring up to date.")],
    dry_run: Annotated[bool, typer.Option(help="Only say what would change.")] = False,
) -> None:
    """Rewrite a settings file with the keys of this version; comments stay. Example: tokentide config migrate t.toml"""
    from pipeline.config.deprecated import migrate_toml

    try:
        before = file.read_text(encoding="utf-8")
        after, changed = migrate_toml(before)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise InputError(f"{file} is not valid TOML: {error}") from error
    for text in changed:
        notice(f"{file}: {text}")
    if not changed:
        notice(f"{file}: nothing to change")
    elif not dry_run:
        backup = file.with_name(f"{file.name}.bak")
        try:
            with backup.open("x", encoding="utf-8") as out:
                out.write(before)
            written = file.with_name(f"{file.name}.new")
            written.write_text(after, encoding="utf-8")
            written.replace(file)
        except OSError as error:
            raise InputError(f"cannot write {error.filename or file}: {error.strerror or error}") from error
        notice(f"{file}: rewritten; as it was: {backup}")


@app.command()
@clean_errors
def show(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Print the settings in force and where each comes from. Example: tokentide config show -c tokentide.toml"""
    settings, values = load_with_values(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of old names: loading has told them
        given = _flat(current_values(values))
    rows = []
    for key, value in _flat(settings.model_dump(mode="json")).items():
        name = ENV_PREFIX + key.upper().replace(".", "__")
        origin = "environment" if name in os.environ else "file" if key in given else "default"
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
    from pipeline.config.catalog import catalog_for
    from pipeline.config.prices import pool_prices
    from pipeline.config.stock_file import shared_stock
    from sizing.planning.plan import Planner, check_policy

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
    try:
        pool_prices(settings, catalog)
    except (InputError, SizingError) as error:
        raise ConfigError(f"money.prices: {error}") from error
    try:
        shared_stock(settings, catalog)
    except (InputError, SizingError) as error:
        raise ConfigError(f"fleet.stock: {error}") from error


def folded_names(settings: Settings) -> list[str]:
    """What is counted in which pool besides its own name, one line per pool that has aliases."""
    return [
        f"{pool.model}/{pool.pool} also counts {', '.join(pool.aliases)}" for pool in settings.pools if pool.aliases
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
