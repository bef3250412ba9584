"""Export: whole, partitioned, of one instant, readable by others, and never worse than what was exported before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import duckdb
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.settings import StoreSettings
from pipeline.engine.types import StepOutput
from pipeline.errors import InputError, StoreError, StoreLocked, StoreTooNew
from pipeline.events.validation import EventLimits
from pipeline.store.export import TABLES, export_file
from pipeline.store.store import Store
from pipeline.testing import request_event
from pipeline.windows.partition_folder import PartitionAggregator
from tests.unit.store.support import advice

DAY = 86_400
NOW = 1_767_225_600  # midnight
LIMITS = EventLimits(max_age_seconds=1e9)


def delta(times, first=0, **fields):
    values = [
        json.dumps(request_event(f"e{first + i}", float(at), pool=f"p{i % 2}", **fields)).encode()
        for i, at in enumerate(times)
    ]
    aggregator = PartitionAggregator("requests", 0, "p", LIMITS, 0)
    end = first + len(values)
    return aggregator.fold(values, range(first, end), [-1] * len(values), first, end, NOW + 1e6)[0]


def step(store, end):
    windows = tuple(replace(w, completeness=0.5) for w in store.window_sums(end - 60, end))
    store.record_step(StepOutput(as_of=end, windows=windows))


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "s.duckdb"
    settings = StoreSettings(path=path)
    with Store.open(path, settings) as store:
        store.apply([(0, 0, delta([NOW - 5 - i for i in range(100)] + [NOW + i for i in range(50)]))])
        step(store, NOW)
        step(store, NOW + 60)
    return settings


def read(folder, table, what="*"):
    query = f"SELECT {what} FROM read_parquet('{folder}/{table}/*/*.parquet', hive_partitioning = true)"
    return duckdb.connect().execute(query).fetchall()


@pytest.mark.slow
def test_every_table_is_there_and_days_are_folders(stored, tmp_path):
    files = export_file(stored.path, tmp_path / "o'ut", stored)
    assert {file.table for file in files if file.rows} == {"windows", "histograms", "closed_windows", "ledger"}
    days = sorted(str(f.path.relative_to(tmp_path / "o'ut")) for f in files if f.table == "windows")
    assert days == ["windows/date=2025-12-31/s.parquet", "windows/date=2026-01-01/s.parquet"]
    assert not list((tmp_path / "o'ut").rglob("*.partial"))


@pytest.mark.slow
def test_the_sums_are_those_of_the_store_to_the_last_digit(stored, tmp_path):
    export_file(stored.path, tmp_path, stored)
    sums = "sum(requests), sum(input_tokens), sum(input_tokens_squared), sum(kv_token_milliseconds)"
    with Store.open(stored.path) as store:
        wanted = store.cursor().execute(f"SELECT {sums} FROM windows").fetchone()
        closed = store.cursor().execute("SELECT sum(requests), min(completeness) FROM closed_windows").fetchone()
        mass = store.cursor().execute("SELECT sum(n) FROM histograms").fetchone()
    assert [tuple(map(int, row)) for row in read(tmp_path, "windows", sums)] == [tuple(map(int, wanted))]
    assert read(tmp_path, "closed_windows", "sum(requests), min(completeness)") == [closed]
    assert read(tmp_path, "histograms", "sum(n)") == [mass]
    names = {name for (name,) in read(tmp_path, "histograms", "DISTINCT metric")}
    assert names == {"input_tokens", "output_tokens", "e2e_seconds"}
    assert {str(d) for (d,) in read(tmp_path, "windows", "DISTINCT date")} == {"2025-12-31", "2026-01-01"}


@pytest.mark.slow
def test_another_engine_reads_it_with_exact_types(stored, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    export_file(stored.path, tmp_path, stored)
    table = dataset.dataset(tmp_path / "windows", partitioning="hive").to_table()
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["requests"], types["kv_token_milliseconds"]) == ("int64", "decimal128(38, 0)")
    assert sum(table["requests"].to_pylist()) == 150
    assert "double" not in {t for name, t in types.items() if name != "date"}


@pytest.mark.slow
def test_sums_beyond_64_bits_stay_exact(tmp_path):
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        huge = {"input_tokens": 10_000_000, "output_tokens": 10_000_000, "e2e_seconds": 86_000.0}
        for i in range(4):
            store.apply([(0, i, delta([NOW] * 3_000, first=i * 3_000, **huge))])
    export_file(path, tmp_path, StoreSettings(), ["windows"])
    assert (
        sum(int(n) for (n,) in read(tmp_path, "windows", "kv_token_milliseconds")) == 12_000 * 15_000_000 * 86_000_000
    )


@pytest.mark.slow
def test_a_day_that_retention_has_cut_does_not_replace_the_whole_one(stored, tmp_path):
    settings = stored.model_copy(update={"retention_base_seconds": DAY})
    out = tmp_path / "out"
    export_file(stored.path, out, settings, ["windows"])
    before = read(out, "windows", "count(*), sum(requests)")
    with Store.open(stored.path, settings) as store:
        store.apply([(0, 1, delta([NOW + DAY + i for i in range(50)], first=150))])
        store.retain(NOW + DAY - 30.0)  # takes a part of the first day
        assert store.cursor().execute("SELECT min(window_start) FROM windows").fetchone() == (NOW - 30,)
    again = export_file(stored.path, out, settings, ["windows"])
    assert [file.date for file in again] == ["2026-01-02"]
    ((rows, requests),) = read(out, "windows", "count(*), sum(requests)")
    assert (rows, requests) > before[0]
    assert requests == 200


@pytest.mark.slow
def test_late_events_reach_a_day_that_was_exported(stored, tmp_path):
    export_file(stored.path, tmp_path, stored, ["windows"])
    with Store.open(stored.path) as store:
        store.apply([(0, 1, delta([NOW - 5], first=150))])
    export_file(stored.path, tmp_path, stored, ["windows"])
    assert read(tmp_path, "windows", "sum(requests)") == [(151,)]


@pytest.mark.slow
def test_what_was_said_after_noon_is_in_the_file_of_its_day(tmp_path):
    """Also where nothing was said before noon: times of advice have fractions of a day."""
    evening = NOW + 20 * 3_600
    with Store.open(tmp_path / "s.duckdb") as store:
        store.record_step(StepOutput(evening, recommendations=(advice(issued_at=float(evening)),)))
        files = store.export_parquet(tmp_path / "out", ["recommendations"])
    assert [(file.date, file.rows) for file in files] == [("2026-01-01", 1)]


def test_two_stores_share_a_folder(stored, tmp_path):
    other = stored.path.with_name("other.duckdb")
    shutil.copy(stored.path, other)
    export_file(stored.path, tmp_path / "out", stored, ["windows"])
    export_file(other, tmp_path / "out", stored, ["windows"])
    assert read(tmp_path / "out", "windows", "sum(requests)") == [(300,)]


@pytest.mark.slow
def test_the_owner_exports_while_it_writes(stored, tmp_path):
    with Store.open(stored.path, stored) as store:
        store.apply([(0, 1, delta([NOW + 70], first=150))])
        store.cursor().execute("SELECT 1")
        files = store.export_parquet(tmp_path, ["windows", "ledger"])
        assert {f.table for f in files} == {"windows", "ledger"}
        store.apply([(0, 2, delta([NOW + 80], first=151))])
        assert store.totals()["requests"] == 152
    assert read(tmp_path, "windows", "sum(requests)") == [(151,)]


@pytest.mark.slow
def test_after_a_kill_the_write_ahead_log_is_exported_too(stored, tmp_path):
    with Store.open(stored.path, stored) as store:
        store.apply([(0, 1, delta([NOW + 70], first=150))])
        copy = tmp_path / "killed.duckdb"
        shutil.copy(stored.path, copy)
        shutil.copy(f"{stored.path}.wal", f"{copy}.wal")
    export_file(copy, tmp_path / "out", stored, ["windows"])
    assert read(tmp_path / "out", "windows", "sum(requests)") == [(151,)]


@pytest.mark.slow
def test_what_cannot_be_exported_is_told(stored, tmp_path):
    with pytest.raises(InputError, match="no table nonsense; there are windows"):
        export_file(stored.path, tmp_path, stored, ["nonsense"])
    with pytest.raises(InputError, match="no store"):
        export_file(tmp_path / "absent.duckdb", tmp_path, stored)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot export"):
        export_file(stored.path, tmp_path / "file", stored)
    text = tmp_path / "text.duckdb"
    text.write_text("no database" * 1_000)
    with pytest.raises(InputError, match="cannot open"):
        export_file(text, tmp_path, stored)
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
    with pytest.raises(InputError, match="not a Tokentide store"):
        export_file(foreign, tmp_path, stored)
    with duckdb.connect(str(stored.path)) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (99, 'future')")
    with pytest.raises(StoreTooNew, match="99"):
        export_file(stored.path, tmp_path, stored)


@pytest.mark.slow
def test_a_store_in_use_is_left_alone(stored, tmp_path):
    script = (
        f"import duckdb, sys; c = duckdb.connect({str(stored.path)!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked):
            export_file(stored.path, tmp_path, stored)
        result = CliRunner().invoke(app, ["export", str(tmp_path / "out"), "--store", str(stored.path)])
        assert result.exit_code == 1
        assert "store.export_folder" in result.stderr
        owner.communicate("")


@pytest.mark.slow
def test_the_command(stored, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["export", str(out), "--store", str(stored.path), "--table", "windows", "-o", "json"]
    )
    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout)
    assert [(f["table"], f["date"]) for f in files] == [("windows", "2025-12-31"), ("windows", "2026-01-01")]
    assert read(out, "windows", "sum(requests)") == [(150,)]
    assert set(TABLES) >= {"windows", "closed_windows", "forecasts", "recommendations"}
