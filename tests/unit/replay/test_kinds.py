"""What rows mean: counts, gauges, counters and events, guessed and said; and what is odd about them."""

from __future__ import annotations

import gzip
import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.replay.formats import CsvFormat, DateOrder, Decimal, SeriesKind
from pipeline.replay.grid import DemandSeries
from pipeline.replay.sources import read_demand

FIELD = Path(__file__).resolve().parents[4] / "shared" / "field" / "sizing" / "series"
HOUR = 3600


def demand(hour: int) -> int:
    return round(1000 + 800 * math.sin(2 * math.pi * hour / 24) + 37 * (hour * 7919 % 11))


COUNTS = [demand(hour) for hour in range(96)]


def written(folder: Path, header: str, rows: Any, name: str = "d.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def read(path: Path, step: int = HOUR, column: Any = "n", **options: Any) -> tuple[DemandSeries, list[str]]:
    said: list[str] = []
    options = {"time_column": "t", "kind": SeriesKind.AUTO, "notice": said.append, **options}
    (series,) = read_demand(path, step_seconds=step, value_column=column, **options)
    return series, said


def test_a_running_total_is_differenced_and_said(tmp_path: Path) -> None:
    total, rows = 0, []
    for hour, count in enumerate(COUNTS):
        if hour == 50:
            total = 0  # the process was restarted
        rows.append((hour * HOUR, total))
        total += count
    series, said = read(written(tmp_path, "t,n", rows))
    assert said == ["d.csv: n is read as counter (its values only rise (resets: 1)); --kind says otherwise"]
    known = series.values.copy()
    known[49] = COUNTS[49]  # what was counted between the last sample and the restart is lost
    assert known.tolist() == pytest.approx([float(count) for count in COUNTS[:95]])
    assert series.values[49] == 0.0
    counts, _ = read(written(tmp_path, "t,n", rows), kind=SeriesKind.COUNTS)
    assert counts.values[10] == rows[10][1]


def test_a_counter_with_a_jittered_scrape_and_a_hole(tmp_path: Path) -> None:
    """One request a second, scraped about every minute; ten minutes of scrapes are missing."""
    draw = random.Random(1)
    times = [60 * i + draw.uniform(-20, 20) for i in range(1, 601)]
    rows = [(f"{t:.3f}", f"{t:.3f}") for t in times if not 9000 < t < 9600]
    series, _ = read(written(tmp_path, "t,x_total", rows), step=300, column="x_total")
    gaps = np.isnan(series.values)
    assert np.allclose(series.values[~gaps], 300.0, rtol=1e-6)
    hole = np.flatnonzero(gaps) * 300 + series.start
    assert (
        set(hole) == {8700.0, 9000.0, 9300.0, 9600.0}
        or set(hole) == {9000.0, 9300.0, 9600.0}
        or set(hole)
        == {
            8700.0,
            9000.0,
            9300.0,
        }
    )


def test_a_gauge_is_averaged_over_jittered_samples(tmp_path: Path) -> None:
    draw = random.Random(2)
    t, rows = 0.0, []
    while t < 6 * HOUR:
        rows.append((f"{t:.3f}", f"{5 + math.floor(t / 600):.3f}"))
        t += draw.uniform(37, 83)
    series, said = read(written(tmp_path, "t,rps", rows), step=300, column="rps")
    assert said == ["d.csv: rps is read as gauge (its name says so); --kind says otherwise"]
    assert len(series.values) == 72
    assert not np.isnan(series.values).any()
    assert series.values.tolist() == pytest.approx([5.0 + w // 2 for w in range(72)])


def test_fractions_at_uneven_times_are_a_gauge_whatever_their_name(tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = [(f"{60 * i + draw.uniform(0, 30):.3f}", f"{draw.uniform(3, 9):.4f}") for i in range(200)]
    _, said = read(written(tmp_path, "t,n", rows), step=300)
    assert "read as gauge (its values are fractions at uneven times)" in said[0]


def test_a_window_between_two_samples_takes_the_one_before(tmp_path: Path) -> None:
    """Sampled every 60 s with jitter, some minutes have no sample of their own; a real hole stays one."""
    times = [0.0, 59.0, 121.0, 179.0, 245.0, 600.0, 660.0, 721.0]
    series, _ = read(
        written(tmp_path, "t,n", [(t, i + 1) for i, t in enumerate(times)]), step=60, kind=SeriesKind.GAUGE
    )
    assert series.values[:5].tolist() == [1.5, 2.0, 3.5, 4.0, 5.0]
    assert np.isnan(series.values[5:10]).all()
    assert series.values[10] == 6.0


def test_samples_of_one_instant_add_up_before_they_are_averaged(tmp_path: Path) -> None:
    rows = [(t, v) for t in range(0, 600, 60) for v in (2.0, 3.0)]
    series, _ = read(written(tmp_path, "t,n", rows), step=300, kind=SeriesKind.GAUGE)
    assert series.values.tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("n", COUNTS),
        ("requests_total", COUNTS),  # the name of a counter alone makes none
        ("n", [7] * 60),
        ("n", list(range(8))),  # too few rises to prove anything
        ("n", [0] * 50 + [3, 0, 0, 5] * 10),
    ],
)
def test_what_is_read_as_counts(tmp_path: Path, column: str, values: list[int]) -> None:
    path = written(tmp_path, f"t,{column}", [(i * HOUR, v) for i, v in enumerate(values)])
    series, said = read(path, column=column)
    assert "is read as counts" in said[0]
    assert series.values.tolist() == values


def test_dropped_windows_of_samples_read_as_counts_are_said(tmp_path: Path) -> None:
    draw = random.Random(4)
    rows = [(f"{60 * i + draw.uniform(0, 90):.3f}", draw.randrange(3, 9)) for i in range(2000)]
    _, said = read(written(tmp_path, "t,n", rows), step=300, kind=SeriesKind.COUNTS)
    assert "windows hold fewer than 90 % of the rows" in said[-1]
    assert "--kind gauge" in said[-1]


def test_evenly_spaced_numbers_without_a_value_column_are_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path, "t,pool,n", [(i * HOUR, "a", v) for i, v in enumerate(COUNTS)])
    series, said = read(path, column=None)
    assert set(series.values.tolist()) == {1.0}
    assert "they look like counts per 3600 s" in said[0]
    assert "(n)" in said[0]
    assert read(path, column=None, kind=SeriesKind.EVENTS)[1] == []
    events = written(tmp_path, "t,tokens", [(f"{i**1.3:.2f}", i % 50) for i in range(300)], "e.csv")
    assert read(events, column=None)[1] == []


def test_exact_duplicates_are_warned_of_and_can_be_dropped(tmp_path: Path) -> None:
    rows = [(i * HOUR, v) for i, v in enumerate(COUNTS)]
    path = written(tmp_path, "t,n", [*rows, rows[5], rows[40]])
    series, said = read(path)
    assert said[0].startswith("d.csv: 2 of 98 rows are exact duplicates of others and count again")
    assert series.values[5] == 2 * COUNTS[5]
    assert read(path, drop_duplicates=True)[0].values.tolist() == COUNTS


@pytest.mark.parametrize(("zone", "change"), [("", True), ("+00:00", False)])
def test_an_hour_that_comes_twice(tmp_path: Path, zone: str, change: bool) -> None:
    times = [f"2026-10-{24 + h // 24:02}T{h % 24:02}:00:00{zone}" for h in range(72)]
    rows = [(t, v) for t, v in zip([*times[:26], times[25], *times[26:]], COUNTS, strict=False)]
    said = read(written(tmp_path, "t,n", rows))[1]
    assert said[0].startswith("d.csv: 1 instant has more than one row of one series, such as 2026-10-25")
    assert ("daylight saving time" in said[0]) == change


def test_a_table_of_many_series_adds_up_without_a_word(tmp_path: Path) -> None:
    rows = [(i * HOUR, pool, v) for i, v in enumerate(COUNTS) for pool in "ab"]
    series, said = read(written(tmp_path, "t,pool,n", rows))
    assert len(said) == 1
    assert series.values[3] == 2 * COUNTS[3]


def test_a_wide_table_gives_a_series_per_column(tmp_path: Path) -> None:
    path = written(tmp_path, "t,pool,a,b", [(i * HOUR, "xy"[i % 2], v, 2 * v) for i, v in enumerate(COUNTS)])
    both = read_demand(path, step_seconds=2 * HOUR, time_column="t", value_column=["b", "a"])
    assert [s.name for s in both] == ["a", "b"]
    assert both[1].values.tolist() == (2 * both[0].values).tolist()
    grouped = read_demand(path, step_seconds=2 * HOUR, time_column="t", value_column=["a", "b"], group_column="pool")
    assert [s.name for s in grouped] == ["x/a", "x/b", "y/a", "y/b"]


GERMAN = [("01.02.2026 00:00", "1.234,5"), ("01.02.2026 01:00", "7"), ("1.2.26 2:00", "0,25")]


def test_dates_and_fractions_as_other_countries_write_them(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("\ufeffZeit;n\n" + "\n".join(";".join(row) for row in GERMAN) + "\n", encoding="utf-8")
    german = CsvFormat(decimal=Decimal.COMMA, dates=DateOrder.DAY_FIRST)
    (series,) = read_demand(path, step_seconds=HOUR, time_column="Zeit", value_column="n", csv=german)
    assert series.start == 1_769_904_000.0
    assert series.values.tolist() == [1234.5, 7.0, 0.25]
    american = written(tmp_path, "t,n", [("02/01/2026 12:00 AM", 3), ("02/01/2026 1:00 AM", 4)], "u.csv")
    (series,) = read_demand(
        american,
        step_seconds=HOUR,
        time_column="t",
        value_column="n",
        csv=CsvFormat(dates=DateOrder.MONTH_FIRST),
    )
    assert (series.start, series.values.tolist()) == (1_769_904_000.0, [3.0, 4.0])


@pytest.mark.parametrize(
    ("rows", "csv", "says"),
    [
        ([("01.02.2026 00:00", 3)], CsvFormat(), "--dates day-first or --dates month-first"),
        ([("13/02/2026", 3), ("14/02/2026", 4)], CsvFormat(), "--dates day-first or --dates month-first"),
        ([("01/02/2026", 3), ("02/02/2026", 4)], CsvFormat(), "--dates day-first or --dates month-first"),
        ([("01.02.2026", '"6,14"')], CsvFormat(dates=DateOrder.DAY_FIRST), "--decimal comma"),
        ([("01.02.2026", "6.14")], CsvFormat(dates=DateOrder.DAY_FIRST, decimal=Decimal.COMMA), "not a number"),
        ([("32.02.2026", "6")], CsvFormat(dates=DateOrder.DAY_FIRST), "a time that cannot be read"),
    ],
)
def test_ambiguous_formats_are_refused_with_the_option(tmp_path: Path, rows: Any, csv: CsvFormat, says: str) -> None:
    path = written(tmp_path, "t,n", rows)
    with pytest.raises(InputError) as refused:
        read_demand(path, step_seconds=86_400, time_column="t", value_column="n", csv=csv)
    assert says in str(refused.value)


def test_encodings_are_read_or_named(tmp_path: Path) -> None:
    text = "t,größe\n0,3\n60,4\n"
    path = tmp_path / "e.csv"
    path.write_bytes(text.encode("utf-16"))
    series, said = read(path, step=60, column="größe")
    assert series.values.tolist() == [3.0, 4.0]
    assert said[0] == "e.csv: is UTF-16 text, read as such"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="--encoding latin-1"):
        read(path, step=60, column="größe")
    assert read(path, step=60, column="größe", csv=CsvFormat(encoding="latin-1"))[0].values.tolist() == [3.0, 4.0]
    with pytest.raises(InputError, match="unknown encoding 'ebcdic'; known: utf-8"):
        CsvFormat(encoding="ebcdic")


def test_a_kind_without_its_column_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "t,n", [(0, 1)])
    with pytest.raises(InputError, match="counter need a value column"):
        read(path, column=None, kind=SeriesKind.COUNTER)


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> dict[str, Any]:
    result = [{"metric": labels, "values": [list(v) for v in values]} for labels, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def test_a_saved_prometheus_answer(tmp_path: Path) -> None:
    path = tmp_path / "range.json"
    path.write_text(json.dumps(matrix(({"pool": "a"}, [(0, "1.5"), (60, "NaN"), (120, "2.5")]))))
    (series,) = read_demand(path, step_seconds=60, value_column="value", kind=SeriesKind.AUTO)
    assert np.array_equal(series.values, [1.5, np.nan, 2.5], equal_nan=True) or series.values.tolist() == [
        1.5,
        1.5,
        2.5,
    ]
    counter = {"__name__": "vllm:request_success_total", "pool": "a"}
    values = [(60.0 * i, str(10 * i)) for i in range(30)]
    path.write_text(json.dumps(matrix((counter, values), ({**counter, "pool": "b"}, values))))
    said: list[str] = []
    found = read_demand(
        path, step_seconds=60, value_column="value", group_column="pool", kind=SeriesKind.AUTO, notice=said.append
    )
    assert [(s.name, set(s.values.tolist())) for s in found] == [("a", {10.0}), ("b", {10.0})]
    assert "read as counter" in said[0]
    # Each series has resets of its own, also where several make up one group.
    values = [(60.0 * i, str(10 * i if i < 15 else 10 * (i - 15))) for i in range(30)]
    path.write_text(
        json.dumps(matrix((counter, values), ({**counter, "pool": "b"}, [(t, str(t / 6)) for t, _ in values])))
    )
    (whole,) = read_demand(path, step_seconds=60, value_column="value", kind=SeriesKind.COUNTER)
    assert whole.values.tolist() == [20.0] * 14 + [10.0] + [20.0] * 14


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "not the answer of a Prometheus query_range"),
        ("{}", "it has no 'data'"),
        ('{"status": "error", "error": "parse error"}', "answered with an error: parse error"),
        ('{"data": {"resultType": "vector", "result": []}}', "use query_range with a start"),
        ('{"data": {"resultType": "matrix", "result": 3}}', "not a list of series"),
        ('{"data": {"resultType": "matrix", "result": []}}', "found no samples"),
        ('{"data": {"resultType": "matrix", "result": [{"metric": {}}]}}', "histogram"),
        ('{"data": {"resultType": "matrix", "result": [{"values": [[1]]}]}}', "is not a sample"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_json_that_is_no_range_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError) as refused:
        read_demand(path, step_seconds=60, value_column="value")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


REAL: list[tuple[str, int, dict[str, Any], int, str]] = [
    ("counter.csv", HOUR, {"value_column": "vllm:request_success_total"}, 719, "read as counter"),
    ("irregular_rates.csv", 300, {"value_column": "rps"}, 2304, "read as gauge"),
    ("prom_range.json", HOUR, {"value_column": "value"}, 720, "read as gauge"),
    ("utf16.csv", HOUR, {"value_column": "requests"}, 720, "UTF-16"),
    ("dst_naive_fall.csv", HOUR, {"value_column": "requests"}, 719, "daylight saving time"),
    (
        "german.csv",
        HOUR,
        {
            "time_column": "Zeit",
            "value_column": "Anfragen pro Sekunde",
            "csv": CsvFormat(decimal=Decimal.COMMA, dates=DateOrder.DAY_FIRST),
        },
        720,
        "read as gauge",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "options", "windows", "says"), REAL, ids=[row[0] for row in REAL])
def test_series_as_people_have_them(name: str, step: int, options: dict[str, Any], windows: int, says: str) -> None:
    if not (FIELD / name).exists():
        pytest.skip(f"{name} is not beside this checkout")
    said: list[str] = []
    (series,) = read_demand(FIELD / name, step_seconds=step, kind=SeriesKind.AUTO, notice=said.append, **options)
    assert len(series.values) == windows
    assert not np.isnan(series.values).any()
    assert any(says in text for text in said)


def stamp(hour: int, form: str = "%Y-%m-%d %H:%M") -> str:
    return (datetime(2026, 3, 2, tzinfo=UTC) + timedelta(hours=hour)).strftime(form)


@pytest.mark.parametrize(("line", "mark"), [("sep=;", ";"), ("sep=,", ","), ('"sep=|"', "|"), ("sep=\t", "\t")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_spreadsheets_line_about_its_separator_is_no_header(
    tmp_path: Path, line: str, mark: str, encoding: str
) -> None:
    rows = [line, f"t{mark}n", *(f"{stamp(hour)}{mark}{value}" for hour, value in enumerate(COUNTS))]
    path = tmp_path / "d.csv"
    path.write_text("\r\n".join(rows) + "\r\n", encoding=encoding, newline="")
    assert read(path)[0].values.tolist() == COUNTS
    packed = tmp_path / "d.csv.gz"
    if encoding == "utf-8-sig":
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert read(packed)[0].values.tolist() == COUNTS


@pytest.mark.parametrize("space", [" ", "\u202f", "\u00a0"])
def test_times_as_browsers_write_them(tmp_path: Path, space: str) -> None:
    rows = [
        f"{stamp(hour, '%m/%d/%Y, %I:%M:%S')}{space}{'AM' if hour % 24 < 12 else 'PM'};{value}"
        for hour, value in enumerate(COUNTS)
    ]
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["t;n", *rows]) + "\n", encoding="utf-8")
    assert read(path, csv=CsvFormat(dates=DateOrder.MONTH_FIRST))[0].values.tolist() == COUNTS


def test_dots_between_thousands_are_told(tmp_path: Path) -> None:
    def rows(write: Any) -> Any:
        return [(stamp(hour), write(value)) for hour, value in enumerate(COUNTS)]

    _, said = read(written(tmp_path, "t,n", rows(lambda value: f"{value:,}".replace(",", "."))))
    assert any("dots stood between thousands" in text for text in said)
    for plain in (str, lambda value: value / 8, lambda value: f"{value / 1000:.3f}", lambda value: round(value / 3, 1)):
        _, said = read(written(tmp_path, "t,n", rows(plain)))
        assert not any("thousands" in text for text in said)


def test_commas_between_thousands_are_not_called_decimal_commas(tmp_path: Path) -> None:
    path = written(tmp_path, "t,n", [(stamp(hour), f'"{value:,}"') for hour, value in enumerate(COUNTS)])
    with pytest.raises(InputError, match="commas stand between thousands, write numbers without them"):
        read(path)


def test_days_of_a_spreadsheet_are_no_seconds(tmp_path: Path) -> None:
    path = written(tmp_path, "t,n", [(46000 + hour / 24, value) for hour, value in enumerate(COUNTS)])
    with pytest.raises(InputError, match="days since 1899-12-30"):
        read(path)
    relative = written(tmp_path, "t,n", [(40000 + hour * HOUR + 0.5, value) for hour, value in enumerate(COUNTS)])
    assert read(relative)[0].rows == len(COUNTS)


def test_a_running_total_over_an_hour_that_comes_twice(tmp_path: Path) -> None:
    total = np.cumsum(COUNTS)
    rows = [(stamp(hour if hour < 50 else hour - 1), value) for hour, value in enumerate(total.tolist())]
    series, said = read(written(tmp_path, "t,n", rows))
    assert any("read as counter" in text for text in said)
    assert np.nansum(series.values) == total[-1] - total[0]


def test_dates_that_leave_most_windows_empty_are_told(tmp_path: Path) -> None:
    rows = [(stamp(hour, "%d/%m/%Y %H:%M"), value) for hour, value in enumerate(COUNTS)]
    path = written(tmp_path, "t,n", rows)
    for order, told in ((DateOrder.DAY_FIRST, False), (DateOrder.MONTH_FIRST, True)):
        _, said = read(path, csv=CsvFormat(dates=order))
        assert any("are the times read as they are meant" in text for text in said) is told


def test_utf_16_without_its_mark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(("t,n\n" + "".join(f"{stamp(h)},{v}\n" for h, v in enumerate(COUNTS))).encode("utf-16-le"))
    with pytest.raises(InputError, match="--encoding utf-16"):
        read(path)


@pytest.mark.parametrize("part", ["data", "result"])
def test_parts_of_a_prometheus_answer_are_read(tmp_path: Path, part: str) -> None:
    result = [{"metric": {"pool": "a"}, "values": [[60 * i, "2.5"] for i in range(4)] + [[240, None]]}]
    path = tmp_path / "part.json"
    path.write_text(json.dumps({"data": {"resultType": "matrix", "result": result}, "result": result}[part]))
    series, said = read(path, step=60, column="value", time_column="timestamp", group_column="series")
    assert series.values.tolist() == [2.5] * 4
    assert said[0] == "part.json: 1 samples are NaN or infinite and have no value"


def test_two_series_of_the_same_labels_are_not_merged(tmp_path: Path) -> None:
    result = [{"metric": {}, "values": [[0, value], [60, value]]} for value in ("1", "2")]
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"data": {"resultType": "matrix", "result": result}}))
    with pytest.raises(InputError, match="the same labels and other values"):
        read(path, step=60, column="value", time_column="timestamp", group_column="series")


def test_the_answer_of_another_service_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cw.json"
    path.write_text(json.dumps({"Label": "RequestCount", "Datapoints": []}))
    with pytest.raises(InputError, match="looks like an answer of CloudWatch; write other data as CSV"):
        read(path, step=60, column="value", time_column="timestamp")
