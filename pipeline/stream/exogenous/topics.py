"""Topics of rows from outside, and the book that they fill."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from typing import Any

from pipeline.config.settings import Settings
from pipeline.engine.advisor import known_exogenous
from pipeline.errors import ConfigError, InputError
from pipeline.forecast.exogenous.rows import Refusal, RowRefused
from pipeline.stream.exogenous.book import MAX_ROWS, ExogenousBook
from pipeline.stream.exogenous.files import read_rows
from pipeline.stream.topic_reader import TopicReader

__all__ = ["ExogenousReader", "exogenous_book"]

_log = logging.getLogger(__name__)


def exogenous_book(settings: Settings) -> ExogenousBook | None:
    """Return the book of what the settings name, filled from their files; None: they name nothing.

    Raises:
        ConfigError: a file cannot be read, or rows of it cannot be used.
    """
    known = known_exogenous(settings)
    if known is None:
        return None
    forecast = settings.forecast
    names = [signal.name for signal in forecast.signals]
    book = ExogenousBook(known.due_at, external=forecast.external is not None, signals=names)
    for path in forecast.exogenous_files():
        try:
            rows = read_rows(path)
        except InputError as error:
            raise ConfigError(f"forecast: {error}") from error
        for row in rows:
            with suppress(RowRefused):  # counted: a file may hold more signals than are wanted
                book.put(row)
        if book.refused[Refusal.TOO_MANY]:
            raise ConfigError(f"forecast: {path}: more than {MAX_ROWS:,} rows in all files; leave out what is over")
    return book


class ExogenousReader(TopicReader):
    """Keeps an ``ExogenousBook`` up to date from its topics; a row that was read before is no news to the engine."""

    def __init__(self, settings: Settings, book: ExogenousBook) -> None:
        super().__init__(settings.kafka, settings.forecast.exogenous_topics(), "tokentide-exogenous")
        self._book = book
        self._logged: Counter[str] = Counter()

    def _begin(self) -> None:
        pass

    def _take(self, record: Any) -> None:
        # A producer that gives no time leaves -1.
        received_at = record.timestamp / 1000.0 if record.timestamp >= 0 else None
        try:
            self._book.take_record(record.value, received_at)
        except RowRefused as refused:
            self._logged[refused.reason] += 1
            times = self._logged[refused.reason]
            if times & (times - 1) == 0:  # the first, second, fourth, eighth …: a flood must not fill the log
                _log.warning("%s offset %d: %s (%d of this kind)", record.topic, record.offset, refused, times)

    def _caught_up(self) -> None:
        pass
