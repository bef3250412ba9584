"""Files that are no tables: one line says what they are, where the fault is and what to do."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.replay.sources import read_demand

TABLE = "timestamp,n\n" + "".join(f"2026-01-01T{h:02}:00:00Z,{h + 100}\n" for h in range(24))


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_demand(path, step_seconds=3600, value_column="n")
    assert str(refused.value).startswith(path.name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.csv", gzip.compress(TABLE.encode()), "compressed with gzip: let its name end in .csv.gz"),
        ("d.csv.bz2", bz2.compress(TABLE.encode()), "compressed with bzip2"),
        ("d.csv.gz", TABLE.encode(), "is no .gz file though its name says so"),
        ("d.parquet", TABLE.encode(), "is no .parquet file though its name says so"),
        ("d.xlsx", b"PK\x03\x04" + bytes(99), "Excel workbook"),
        ("d.csv", b"PK\x03\x04" + bytes(99), "save the sheet as CSV"),
        ("d.csv", TABLE.encode("utf-32"), "UTF-32"),
        ("d.csv", b"\xfe\xff" + TABLE.encode("utf-16-be"), "UTF-16 text of the big-endian kind"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    assert says in refusal(tmp_path / name, content)


@pytest.mark.parametrize(
    ("text", "line", "fields"),
    [
        (TABLE + "(24 rows)\n", 26, 1),
        (TABLE.replace(":00:00Z,105", ":00:00Z,1,05"), 7, 3),
        (TABLE[:-9], 25, 1),
        ("sep=,\n" + TABLE + "end\n", 27, 1),
    ],
)
def test_the_line_that_is_uneven_is_named(tmp_path: Path, text: str, line: int, fields: int) -> None:
    said = refusal(tmp_path / "d.csv", text.encode())
    assert f"line {line} has more or fewer fields than the header: {fields}, not 2" in said


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("1.2 K", "row 6); write plain numbers without units"),
        ("0.71 req/s", "without units"),
        ("21.4%", "without units"),
        ("2 140", "without marks between thousands"),
        ("2'140", "without marks between thousands"),
        ("null", "leave a cell without a value empty"),
        ("N/A", "leave a cell without a value empty"),
    ],
)
def test_a_cell_that_is_no_number_is_said_how_to_write(tmp_path: Path, cell: str, says: str) -> None:
    assert says in refusal(tmp_path / "d.csv", TABLE.replace(",105", f",{cell}").encode())


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("202601{:02}000000", "dates written as digits (YYYYMMDDhhmmss)"),
        ("202601{:02}0000", "dates written as digits (YYYYMMDDhhmm)"),
        ("202601{:02}", "dates written as digits (YYYYMMDD)"),
        ("{:02}-Jan-2026", "ISO 8601"),
    ],
)
def test_dates_in_other_forms_are_said_how_to_write(tmp_path: Path, form: str, says: str) -> None:
    rows = "".join(f"{form.format(day)},5\n" for day in range(1, 29))
    assert says in refusal(tmp_path / "d.csv", f"timestamp,n\n{rows}".encode())


def test_seconds_and_milliseconds_in_one_column_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{(1_767_225_600 + 300 * i) * (1000 if i > 80 else 1)},5\n" for i in range(100))
    assert "seconds in some rows and milliseconds in others" in refusal(
        tmp_path / "d.csv", f"timestamp,n\n{rows}".encode()
    )


def test_true_and_false_are_no_numbers(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-01T{h:02}:00:00Z,{h > 9}\n" for h in range(24))
    assert "holds true and false" in refusal(tmp_path / "d.csv", f"timestamp,n\n{rows}".encode())


def test_a_name_in_other_letters_is_offered(tmp_path: Path) -> None:
    assert "did you mean 'Timestamp'?" in refusal(tmp_path / "d.csv", TABLE.replace("time", "Time").encode())


@pytest.mark.slow
def test_types_are_told_from_all_rows(tmp_path: Path) -> None:
    """The first 25,000 rows are whole numbers, as of a quiet service; then there are fractions, and then a word."""
    path = tmp_path / "d.csv"
    rows = [f"{60 * i},{0 if i < 25_000 else 2.5}" for i in range(26_000)]
    path.write_text("\n".join(["timestamp,rps", *rows]) + "\n")
    (series,) = read_demand(path, step_seconds=60, value_column="rps")
    assert series.values.sum() == 2500.0
    rows[25_500] = "1530000,many"
    assert "such as 'many' (row 25501)" in refusal(path, "\n".join(["timestamp,n", *rows]).encode())
