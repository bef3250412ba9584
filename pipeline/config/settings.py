"""Settings: one TOML file, then ``TOKENTIDE_SECTION__KEY`` from the environment; unknown keys are errors.

Nothing is read at import; ``load`` is called by the command line only.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.config.alerts import AlertsSettings
from pipeline.config.bridge import BridgeSettings
from pipeline.config.checks import check_forecast_grid, check_topics
from pipeline.config.deprecated import current_values
from pipeline.config.fleet import FleetSettings
from pipeline.config.money import MoneySettings
from pipeline.config.publish import PublishSettings
from pipeline.config.sections import (
    AdviseSettings,
    ClockSettings,
    ForecastSettings,
    KafkaSettings,
    PoolSettings,
    ReaderSettings,
    SizingSettings,
    StoreSettings,
    StreamSettings,
    WindowSettings,
)
from pipeline.config.sinks import SinkSettings
from pipeline.config.sources import SourceSettings
from pipeline.errors import ConfigError, InputError
from pipeline.events.codecs.registry import MAPPING
from pipeline.windows.aliases import PoolAliases
from pipeline.windows.sharding import shard_of
from pipeline.windows.types import PoolKey

__all__ = [
    "AdviseSettings",
    "AlertsSettings",
    "ClockSettings",
    "FleetSettings",
    "ForecastSettings",
    "KafkaSettings",
    "PoolSettings",
    "PublishSettings",
    "ReaderSettings",
    "Settings",
    "SinkSettings",
    "StoreSettings",
    "StreamSettings",
    "WindowSettings",
    "load",
    "load_with_values",
    "to_environment",
]

ENV_PREFIX = "TOKENTIDE_"


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    stream: StreamSettings = StreamSettings()
    windows: WindowSettings = WindowSettings()
    store: StoreSettings = StoreSettings()
    forecast: ForecastSettings = ForecastSettings()
    advise: AdviseSettings = AdviseSettings()
    alerts: AlertsSettings = AlertsSettings()
    fleet: FleetSettings = FleetSettings()
    publish: PublishSettings = PublishSettings()
    clock: ClockSettings = ClockSettings()
    reader: ReaderSettings = ReaderSettings()
    sinks: tuple[SinkSettings, ...] = ()
    sizing: SizingSettings = SizingSettings()
    bridge: BridgeSettings = BridgeSettings()
    money: MoneySettings = MoneySettings()
    pools: tuple[PoolSettings, ...] = ()
    #: Of all shards, in the settings of one; empty: ``pools`` are all.
    _pool_names: tuple[PoolKey, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (which ``load`` passes as init values)."""
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _old_keys(cls, values: Any) -> Any:
        return current_values(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _sections_fit(self) -> Settings:
        _check_sections(self)
        return self

    @model_validator(mode="after")
    def _pools_once(self) -> Settings:
        seen: set[tuple[str, str]] = set()
        for pool in self.pools:
            key = (pool.model, pool.pool)
            if key in seen:
                raise ValueError(f"pool {key} is configured twice")
            seen.add(key)
        self.aliases()
        return self

    def pool_names(self) -> tuple[PoolKey, ...]:
        """Every configured pool, those of other shards included."""
        return self._pool_names or tuple(PoolKey(pool.model, pool.pool) for pool in self.pools)

    def aliases(self) -> PoolAliases:
        """The other names of the configured pools."""
        return PoolAliases({PoolKey(pool.model, pool.pool): pool.aliases for pool in self.pools})

    def sources(self) -> tuple[SourceSettings, ...]:
        """The topics that events come from: ``stream.sources``, or ``kafka.requests_topic`` with ``stream.codec``."""
        stream = self.stream
        if stream.sources:
            return stream.sources
        mapping = stream.mapping if stream.codec == MAPPING else {}
        return (SourceSettings(topic=self.kafka.requests_topic, codec=stream.codec, mapping=mapping),)

    def source_topics(self) -> tuple[str, ...]:
        """The names of the topics that events come from."""
        return tuple(source.topic for source in self.sources())

    def for_shard(self, shard: int) -> Settings:
        """The settings of one controller of ``kafka.shards``: an ordinary one with its own deltas, group, file and
        pools.

        Raises:
            ConfigError: there is no such shard.
        """
        shards = self.kafka.shards
        if not 0 <= shard < shards:
            raise ConfigError(f"there is no shard {shard} of {shards}; shards are numbered from 0")
        if shards == 1:
            return self
        name = f"{shard}-of-{shards}"
        kafka = {
            "deltas_topic": self.kafka.deltas_topics()[shard],
            "group_prefix": f"{self.kafka.group_prefix}-{name}",
            "shards": 1,
        }
        path = self.store.path
        own = self.model_copy(
            update={
                "kafka": self.kafka.model_copy(update=kafka),
                "store": self.store.model_copy(update={"path": path.with_name(f"{path.stem}.{name}{path.suffix}")}),
                "pools": tuple(pool for pool in self.pools if shard_of(pool.model, pool.pool, shards) == shard),
            }
        )
        own._pool_names = self.pool_names()
        return own

    def config_hash(self) -> str:
        """Twelve hex digits that change when anything that shapes advice changes.

        Aliases do not: they decide what new windows hold, not what is learned from windows.
        """
        shaping = self.model_dump_json(
            include={"windows", "forecast", "advise", "pools"}, exclude={"pools": {"__all__": {"aliases"}}}
        )
        return hashlib.sha256(shaping.encode()).hexdigest()[:12]


def load(path: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from a TOML file and the environment; ``overrides`` (sections as dicts) win over both.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or wrong; the text names each one.
    """
    return load_with_values(path, **overrides)[0]


def load_with_values(path: Path | None = None, **overrides: Any) -> tuple[Settings, dict[str, Any]]:
    """As ``load``; also what the file itself sets, as it names it (nothing without a file).

    Which fields of ``Settings`` were set does not tell: a section that the file names counts as set whole, and one that
    repeats the defaults as not set.

    Raises:
        ConfigError: as ``load``.
    """
    values: dict[str, Any] = {}
    if path is not None:
        from pipeline.config.user_files import read_text

        try:
            values = tomllib.loads(read_text(path))
        except InputError as error:
            raise ConfigError(str(error)) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        except RecursionError as error:
            raise ConfigError(f"{path} is nested too deeply") from error
    unknown = _unknown_environment()
    if unknown:
        raise ConfigError(f"unknown settings in the environment: {', '.join(unknown)}")
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _refused(error) from error
    settings = settings.model_copy(update={name: _override(settings, name, value) for name, value in overrides.items()})
    try:
        _check_sections(settings)
    except ValueError as error:
        raise ConfigError(f"settings: {error}") from error
    return settings, values


def to_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that give a child process these very settings (secrets in clear: for a child only)."""

    def plain(value: Any) -> Any:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    values = settings.model_dump(mode="python")
    return {f"{ENV_PREFIX}{name.upper()}": json.dumps(value, default=plain) for name, value in values.items()}


def _override(settings: Settings, section: str, values: dict[str, Any]) -> Any:
    """One section with some keys replaced; validated alone, so that the environment is not read a second time."""
    current = getattr(settings, section)
    try:
        return type(current).model_validate(current.model_dump() | values)
    except ValidationError as error:
        raise _refused(error, section) from error


def _refused(error: ValidationError, *within: str) -> ConfigError:
    """All that pydantic found, in one line; ``within`` is where the validated values belong."""
    found = (
        (".".join(map(str, (*within, *e["loc"]))) or "settings", e["msg"].removeprefix("Value error, "))
        for e in error.errors()
    )
    return ConfigError("; ".join(f"{where}: {what}" for where, what in found))


def _check_sections(settings: Settings) -> None:
    """What one section alone cannot tell; a ValueError says what does not fit."""
    settings.sources()
    forecast, windows = settings.forecast, settings.windows
    if settings.fleet.stock is not None and settings.kafka.shards > 1:
        raise ValueError(
            "fleet.stock needs kafka.shards 1: each shard would plan with the whole stock for its own pools"
        )
    if forecast.tenant_series and "tenant" not in windows.dimensions:
        raise ValueError("forecast.tenant_series needs 'tenant' among windows.dimensions")
    if len(settings.pools) > windows.max_pools * settings.kafka.shards:
        raise ValueError(
            f"windows.max_pools {windows.max_pools:,} must not be less than the {len(settings.pools):,} pools that "
            "have settings: some of them would be counted under __other__"
        )
    own = {name: getattr(settings.kafka, name) for name in KafkaSettings.model_fields if name.endswith("_topic")}
    check_topics(own | {f"forecast topic {topic}": topic for topic in forecast.exogenous_topics()})
    if settings.bridge.targets and settings.bridge.scrape_seconds > windows.allowed_lateness_seconds / 2:
        raise ValueError(
            f"bridge.scrape_seconds {settings.bridge.scrape_seconds:g} must not exceed half of "
            f"windows.allowed_lateness_seconds, {windows.allowed_lateness_seconds:g}: windows would close before they "
            "are counted"
        )
    check_forecast_grid(forecast.horizons_seconds, forecast.season_seconds, windows.grain_seconds)


def _unknown_environment() -> list[str]:
    """TOKENTIDE_… variables whose section does not exist; pydantic-settings alone would ignore them silently."""
    known = set(Settings.model_fields)
    names = (name for name in os.environ if name.startswith(ENV_PREFIX))
    return sorted(n for n in names if n[len(ENV_PREFIX) :].split("__")[0].lower() not in known)
