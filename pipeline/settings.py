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

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.errors import ConfigError
from pipeline.settings_checks import check_forecast_grid
from pipeline.settings_sections import (
    AdviseSettings,
    ClockSettings,
    ForecastSettings,
    KafkaSettings,
    PoolSettings,
    PublishSettings,
    ReaderSettings,
    StoreSettings,
    StreamSettings,
    WindowSettings,
)
from pipeline.windows.sharding import shard_of

__all__ = [
    "AdviseSettings",
    "ClockSettings",
    "ForecastSettings",
    "KafkaSettings",
    "PoolSettings",
    "PublishSettings",
    "ReaderSettings",
    "Settings",
    "StoreSettings",
    "StreamSettings",
    "WindowSettings",
    "load",
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
    publish: PublishSettings = PublishSettings()
    clock: ClockSettings = ClockSettings()
    reader: ReaderSettings = ReaderSettings()
    pools: tuple[PoolSettings, ...] = ()

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
        return self

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
        return self.model_copy(
            update={
                "kafka": self.kafka.model_copy(update=kafka),
                "store": self.store.model_copy(update={"path": path.with_name(f"{path.stem}.{name}{path.suffix}")}),
                "pools": tuple(pool for pool in self.pools if shard_of(pool.model, pool.pool, shards) == shard),
            }
        )

    def config_hash(self) -> str:
        """Twelve hex digits that change when anything that shapes advice changes."""
        shaping = self.model_dump_json(include={"windows", "forecast", "advise", "pools"})
        return hashlib.sha256(shaping.encode()).hexdigest()[:12]


def load(path: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from a TOML file and the environment; ``overrides`` (sections as dicts) win over both.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or wrong; the text names each one.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
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
    return settings


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
    forecast, windows = settings.forecast, settings.windows
    if forecast.tenant_series and "tenant" not in windows.dimensions:
        raise ValueError("forecast.tenant_series needs 'tenant' among windows.dimensions")
    check_forecast_grid(forecast.horizons_seconds, forecast.season_seconds, windows.grain_seconds)


def _unknown_environment() -> list[str]:
    """TOKENTIDE_… variables whose section does not exist; pydantic-settings alone would ignore them silently."""
    known = set(Settings.model_fields)
    names = (name for name in os.environ if name.startswith(ENV_PREFIX))
    return sorted(n for n in names if n[len(ENV_PREFIX) :].split("__")[0].lower() not in known)
