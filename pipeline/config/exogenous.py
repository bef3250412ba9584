"""Where rows from outside come from: external forecasts, and signals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config.checks import check_topics

__all__ = ["ExogenousSettings", "ExternalSettings", "SignalSettings"]


class _Source(BaseModel):
    """A topic or a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str | None = Field(default=None, description="Kafka topic of rows as JSON, read from its beginning")
    file: Path | None = Field(default=None, description=".csv or .jsonl file of rows, read once at the start")

    @model_validator(mode="after")
    def _one_source(self) -> _Source:
        if (self.topic is None) == (self.file is None):
            raise ValueError("one of topic and file must be set")
        if self.topic is not None:
            check_topics({"topic": self.topic})
        return self


class ExternalSettings(_Source):
    """Forecasts of another program, for the expert ``external``."""


class SignalSettings(_Source):
    """A named numeric series that the regression and tree experts may use."""

    name: str = Field(min_length=1, max_length=64, description="name of the signal in the rows")


class ExogenousSettings(BaseModel):
    """The part of ``[forecast]`` that says what comes from outside."""

    external: ExternalSettings | None = Field(
        default=None, description="source of the forecasts of the expert external"
    )
    signals: tuple[SignalSettings, ...] = Field(
        default=(), max_length=8, description="series that the regression and tree experts may use"
    )

    def check_exogenous(self, experts: Sequence[str]) -> None:
        """Make sure that what is read is used.

        Raises:
            ValueError: the expert external has no source, a source has no expert, or a signal is named twice.
        """
        if self.external is not None and "external" not in experts:
            raise ValueError('forecast.external needs the expert: experts = ["default", "external"]')
        if self.external is None and "external" in experts:
            raise ValueError("the expert external needs forecast.external, with a topic or a file")
        names = [signal.name for signal in self.signals]
        if len(set(names)) < len(names):
            raise ValueError(f"signals {names} name a signal twice")

    def exogenous_topics(self) -> tuple[str, ...]:
        """The topics that external forecasts and signals come from, each once."""
        return tuple(dict.fromkeys(source.topic for source in self._sources() if source.topic is not None))

    def exogenous_files(self) -> tuple[Path, ...]:
        """The files that external forecasts and signals come from, each once."""
        return tuple(dict.fromkeys(source.file for source in self._sources() if source.file is not None))

    def _sources(self) -> tuple[_Source, ...]:
        return (*(() if self.external is None else (self.external,)), *self.signals)
