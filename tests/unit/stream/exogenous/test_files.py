"""Files of rows from outside, and the book that they fill."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pipeline.config.settings import load
from pipeline.errors import ConfigError, InputError
from pipeline.forecast.exogenous.known import KnownExogenous
from pipeline.forecast.exogenous.rows import ExternalForecast, RowRefused, SignalValue
from pipeline.forecast.types import SeriesKey
from pipeline.stream.exogenous import topics
from pipeline.stream.exogenous.book import ExogenousBook
from pipeline.stream.exogenous.files import read_rows
from pipeline.stream.exogenous.topics import exogenous_book


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = written(
        tmp_path / "f.csv",
        "model,pool,issued_at,target_at,q05,0.5,q975\nm,,2026-01-01T00:00:00Z,1767225900,1,2,3\n\nm,,0,60,,4,\n",
    )
    lines = written(
        tmp_path / "f.jsonl",
        '{"model":"m","issued_at":1767225600,"target_at":1767225900,"quantiles":{"0.05":1,"0.5":2,"0.975":3}}\n'
        '{"model":"m","issued_at":"0","target_at":60,"quantiles":{"0.5":4}}\n',
    )
    rows = read_rows(table)
    assert rows == read_rows(lines)
    assert isinstance(rows[0], ExternalForecast)
    assert rows[0].series == ("m", "default", "requests_per_second")
    signals = read_rows(written(tmp_path / "s.csv", "signal,at,known_at,value\norders,120,60,-1.5\n"))
    assert signals == [SignalValue("orders", 120.0, 60.0, -1.5)]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("f.csv", "model,issued_at,target_at,q50\nm,0,60,nan\n", "line 2: .*finite"),
        ("f.csv", "model,issued_at,target_at,q50\nm,0\n", "2 cells under 4 columns"),
        ("f.csv", "model,issued_at,target_at,q50\nm,2026-01-01,60,1\n", "needs an offset"),
        ("f.csv", "signal,at,value\nx,yesterday,1\n", "neither epoch seconds nor ISO"),
        ("f.csv", "signal,at,value\nx,1,much\n", "value must be a number"),
        ("f.csv", "model,issued_at,target_at,q50\n" + "m,60,60,1\n" * 9, "and 4 more"),
        ("f.jsonl", "[1]\n", "must be a JSON object"),
        ("f.jsonl", "{\n", "not JSON"),
        ("f.txt", "", r"neither \.csv nor \.jsonl"),
    ],
)
def test_files_that_cannot_be_used_say_where(tmp_path: Path, name: str, text: str, what: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(InputError, match=what):
        read_rows(path)
    settings = load(forecast={"signals": [{"name": "x", "file": str(path)}]})
    with pytest.raises(ConfigError, match=what):
        exogenous_book(settings)


def test_settings_without_anything_from_outside_have_no_book() -> None:
    assert exogenous_book(load()) is None


def test_the_book_refuses_what_nobody_wants_and_counts_it() -> None:
    known = KnownExogenous(60, (60,), ["orders"])
    book = ExogenousBook(known.due_at, external=False, signals=["orders"], max_rows=2)
    for value in (None, b"x" * 20_000, b"\xff", b"[]", b'{"signal": "visits", "at": 1, "value": 1}',
                  b'{"model": "m", "issued_at": 1, "target_at": 90, "quantiles": {"0.5": 1}}'):  # fmt: skip
        with pytest.raises(RowRefused):
            book.take_record(value, 1.0)
    for _ in range(2):
        book.take_record(b'{"signal": "orders", "at": 60, "value": 1}', 1.0)
    with pytest.raises(RowRefused, match="more than 2 rows wait"):
        book.put(SignalValue("orders", 1.0, 1.0, 1.0))
    assert book.refused == {"malformed": 4, "unknown_signal": 1, "unknown_series": 1, "too_many": 1}
    assert book.accepted == 2
    assert book.take(known, 0) == ()
    assert len(book.take(known, 60)) == 2


def test_forecasts_of_pools_that_nobody_knows_are_refused_when_they_are_due() -> None:
    known = KnownExogenous(60, (60,))
    book = ExogenousBook(known.due_at, external=True, signals=[])
    for model in ("m", "other"):
        book.put(ExternalForecast(SeriesKey(model, "chat", "kv_tokens"), 0.0, 0.0, 120.0, (0.5,), (1.0,)))
    (row,) = book.take(known, 60, lambda pool: pool == ("m", "chat"))
    assert row.series.model == "m"
    assert book.outcomes()["unknown_series"] == 1


def test_files_of_too_many_rows_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "s.csv", "signal,at,value\n" + "x,1,1\n" * 4)
    settings = load(forecast={"signals": [{"name": "x", "file": str(path)}]})
    monkeypatch.setattr(topics, "ExogenousBook", partial(ExogenousBook, max_rows=3))
    with pytest.raises(ConfigError, match="leave out what is over"):
        exogenous_book(settings)
