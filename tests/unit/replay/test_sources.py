from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.replay.sources import read_columns, read_demand

TRACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"


def csv(folder, text, name="demand.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_request_table_counts_rows_and_silence_is_zero(tmp_path):
    path = csv(tmp_path, "timestamp\n2026-01-01T00:00:01Z\n2026-01-01T00:00:59Z\n2026-01-01T00:03:00Z\n")
    (series,) = read_demand(path, step_seconds=60)
    assert series.name == "all"
    assert series.start == 1_767_225_600.0
    assert series.values.tolist() == [2.0, 0.0, 0.0, 1.0]
    assert series.rows == 3
    assert series.ends().tolist() == [series.start + 60 * i for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("nothing", ["", "NaN", "nan"])
def test_a_row_without_a_value_is_as_good_as_no_row(tmp_path, nothing):
    rows = "".join(f"{t},{v}\n" for t, v in [(0, 5), (60, nothing), (120, 9), (180, nothing)])
    (series,) = read_demand(csv(tmp_path, "t,n\n" + rows), step_seconds=60, time_column="t", value_column="n")
    assert np.array_equal(series.values, [5.0, np.nan, 9.0], equal_nan=True)
    with pytest.raises(InputError, match="no window of 120 s is covered"):
        read_demand(csv(tmp_path, "t,n\n" + rows), step_seconds=120, time_column="t", value_column="n")


def test_count_table_sums_and_a_missing_window_is_a_gap(tmp_path):
    path = csv(tmp_path, "t,requests\n0,5\n60,7\n180,9\n240,0\n")
    (series,) = read_demand(path, step_seconds=60, time_column="t", value_column="requests")
    assert np.array_equal(series.values, [5.0, 7.0, np.nan, 9.0, 0.0], equal_nan=True)


def test_zeros_can_be_gaps(tmp_path):
    path = csv(tmp_path, "t,requests\n0,5\n60,0\n120,9\n")
    (series,) = read_demand(path, step_seconds=60, time_column="t", value_column="requests", zeros_are_gaps=True)
    assert np.array_equal(series.values, [5.0, np.nan, 9.0], equal_nan=True)


def test_unsorted_rows_are_sorted_and_equal_instants_add_up(tmp_path):
    path = csv(tmp_path, "t,requests\n120,1\n0,2\n60,3\n0,4\n")
    (series,) = read_demand(path, step_seconds=60, time_column="t", value_column="requests")
    assert series.values.tolist() == [6.0, 3.0, 1.0]


def test_finer_counts_roll_up_and_half_covered_windows_are_gaps(tmp_path):
    rows = [(t, 1) for t in range(0, 360, 10) if not 120 <= t < 150]
    path = tmp_path / "d.parquet"
    pd.DataFrame(rows, columns=["t", "requests"]).to_parquet(path)
    (series,) = read_demand(path, step_seconds=60, time_column="t", value_column="requests")
    assert np.array_equal(series.values, [6, 6, np.nan, 6, 6, 6], equal_nan=True)


def test_uncovered_ends_are_cut_off(tmp_path):
    path = tmp_path / "d.parquet"
    pd.DataFrame({"t": range(50, 200, 10), "requests": 1}).to_parquet(path)
    (series,) = read_demand(path, step_seconds=60, time_column="t", value_column="requests")
    assert (series.start, series.values.tolist()) == (60.0, [6.0, 6.0])


def test_groups_become_series_and_share_the_span_of_a_request_table(tmp_path):
    path = csv(tmp_path, "t,pool\n0,b\n61,a\n130,b\n135,\n")
    found = read_demand(path, step_seconds=60, time_column="t", group_column="pool")
    assert {s.name: s.values.tolist() for s in found} == {"a": [0, 1, 0], "b": [1, 0, 1], "unknown": [0, 0, 1]}


def test_times_may_be_text_timestamps_dates_or_numbers(tmp_path):
    when = pd.to_datetime(["2026-01-01 00:00:00", "2026-01-01 00:01:00"])
    expected = 1_767_225_600.0
    tables = {
        "naive": pd.DataFrame({"timestamp": when}),
        "zoned": pd.DataFrame({"timestamp": when.tz_localize("UTC").tz_convert("Asia/Tokyo")}),
        "text": pd.DataFrame({"timestamp": ["2026-01-01T00:00:00Z", "2026-01-01T01:01:00+01:00"]}),
        "float": pd.DataFrame({"timestamp": [expected + 0.25, expected + 60.5]}),
    }
    for name, table in tables.items():
        path = tmp_path / f"{name}.parquet"
        table.to_parquet(path)
        (series,) = read_demand(path, step_seconds=60)
        assert (series.start, series.values.tolist()) == (expected, [1.0, 1.0]), name


def test_gzipped_csv_and_odd_column_names(tmp_path):
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b'"my ""time""",n\n0,1\n60,2\n'))
    (series,) = read_demand(path, step_seconds=60, time_column='my "time"', value_column="n")
    assert series.values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("t,n\n", {}, "is empty: it has no row below its header"),
        ("", {}, "d.csv is empty"),
        ("\n\n", {}, "d.csv is empty"),
        ("\ufeff", {}, "d.csv is empty"),
        ("t,n\n0,1\n", {"time_column": "when"}, "no column 'when'; it has: t, n"),
        ("t,n\n0,1\n", {"value_column": "requests"}, "no column 'requests'"),
        ("t,n\n0,1\n", {"group_column": "pool"}, "no column 'pool'"),
        ("t,n\nsoon,1\n0,2\n", {}, "a time that cannot be read in column 't', such as 'soon'"),
        (
            "t,n\nsoon,1\n1700000000,2\n1700000060,2\n",
            {},
            "1 row has a time that cannot be read in column 't', such as 'soon'",
        ),
        ("t,n\n,1\nsoon,1\n0,2\n60,2\n", {}, "2 rows have a time that cannot be read in column 't', such as 'soon'"),
        ("t,n\n2026-01-01,1\n2026-01-02,1\n1700000000,2\n", {}, "column 't', such as '1700000000'"),
        ("t,n\n0,1\n60,inf\n", {}, "1 row has a value that is not a number in column 'n', such as 'inf'"),
        ("t,n\n0,1\n60,many\n", {}, "1 row has a value that is not a number in column 'n', such as 'many'"),
        ("t,n\n0,1\n60,n/a\n", {}, "not a number in column 'n', such as 'n/a'"),
        ("t,n\n0,1\n60,-3\n", {}, "a negative value in column 'n', such as '-3"),
        ("t,n\n0,1\n60,1e308\n61,1e308\n", {}, "more than a number can hold"),
        ("t,n\n0,1\n60,1\n120,1\n1e15,1\n", {}, "a wrong time in the file"),
        ("t,n\n0,1\n60,1\n120,1\n1e300,1\n", {}, "cannot be read"),
        ("t,n\n0,1\n300,1\n600,2\n", {}, "rows lie 300 s apart, more than the step of 60 s"),
        ("t,n\n0,1\n1234567.5,1\n2469135,2\n", {}, "ask for --step 1234568s or wider"),
        (
            "t,n\n0,1\n3e9,1\n6e9,2\n",
            {},
            "rows lie 3000000000 s apart, more than the step of 60 s; is it the right column",
        ),
        ("t,n\n0,1\n", {"step_seconds": 0}, "step must be positive"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, text, arguments, message):
    path = csv(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_demand(path, **{"step_seconds": 60, "time_column": "t", "value_column": "n", **arguments})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "unit"), [(1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds")]
)
@pytest.mark.parametrize("value_column", ["n", None])
def test_times_in_a_finer_unit_are_told_by_their_size(tmp_path, factor, unit, value_column):
    rows = [f"{(1_700_000_000 + 300 * n) * factor},1\n" for n in range(5)]
    for text in ("".join(rows), "".join(["1700000000,1\n", *rows])):
        path = csv(tmp_path, f"t,n\n{text}")
        with pytest.raises(InputError, match=f"look like {unit} since 1970; .*: divide them by {factor}, or"):
            read_demand(path, step_seconds=300, time_column="t", value_column=value_column)


def test_numbers_that_are_stored_as_text_are_times(tmp_path):
    path = tmp_path / "d.parquet"
    pd.DataFrame({"timestamp": ["1767225600.25", "1767225660"]}).to_parquet(path)
    (series,) = read_demand(path, step_seconds=60)
    assert (series.start, series.values.tolist()) == (1_767_225_600.0, [1.0, 1.0])


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_demand(tmp_path / "none.parquet", step_seconds=60)
    with pytest.raises(InputError, match=r"expected a \.parquet"):
        read_demand(csv(tmp_path, "x", "x.xlsx"), step_seconds=60)
    for name, content in (("bad.parquet", b"PAR1 no"), ("empty.parquet", b""), ("bin.csv", b"\x00\xff" * 999)):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_demand(path, step_seconds=60)


def test_a_name_with_a_quote_reads_no_other_file(tmp_path):
    path = csv(tmp_path, "t\n0\n60\n", "o'clock.csv")
    assert read_demand(path, step_seconds=60, time_column="t")[0].rows == 2


def test_read_columns_keeps_the_order(tmp_path):
    path = csv(tmp_path, "a,b\n3,4\n1,2\n")
    found = read_columns(path, ["b", "a"])
    assert (found["a"].tolist(), found["b"].tolist()) == ([3.0, 1.0], [4.0, 2.0])


def test_a_published_trace_adds_up():
    path = TRACES / "azure_llm_2024" / "conv_10s_counts.parquet"
    if not path.is_file():
        pytest.skip("the Azure 2024 trace is not beside the checkout (../shared/data/traces)")
    (series,) = read_demand(path, step_seconds=300, value_column="requests")
    assert len(series.values) == 1_440
    assert series.values.sum() == 20_723_149
    assert (series.values.min(), series.values.max()) == (5_636, 24_299)
