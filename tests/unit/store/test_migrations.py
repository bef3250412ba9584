"""Opening files: new, old, newer, foreign, broken."""

import hashlib
import json
from dataclasses import replace

import duckdb
import pytest

from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError, StoreTooNew
from pipeline.forecast.types import Forecast, SeriesKey, Signal
from pipeline.store.migrations import MIGRATIONS, Migration, connect
from pipeline.store.store import Store
from pipeline.testing import PipelineTestDriver, request_event
from tests.old_stores import NOT_COPIED, columns, make_old_store

NEXT = Migration(MIGRATIONS[-1].version + 1, "next", ("ALTER TABLE steps ADD COLUMN note VARCHAR",))


def test_an_older_file_is_copied_then_migrated(tmp_path):
    path = tmp_path / "s.duckdb"
    Store.open(path).close()
    connection = connect(path, "1GB", (*MIGRATIONS, NEXT))
    assert connection.execute("SELECT max(version) FROM schema_migrations").fetchone() == (NEXT.version,)
    connection.execute("SELECT note FROM steps")
    connection.close()
    copy = tmp_path / f"s.duckdb.v{MIGRATIONS[-1].version}.bak"
    Store.open(copy).close()  # the old version still opens its copy
    with pytest.raises(StoreTooNew, match="upgrade"):
        Store.open(path)


def test_a_failing_migration_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "s.duckdb"
    Store.open(path).close()
    broken = Migration(NEXT.version, "broken", (*NEXT.statements, "ALTER TABLE nowhere ADD COLUMN x INTEGER"))
    with pytest.raises(StoreError, match="cannot prepare"):
        connect(path, "1GB", (*MIGRATIONS, broken))
    Store.open(path).close()


def test_versions_ascend():
    versions = [m.version for m in MIGRATIONS]
    assert versions == list(range(1, len(versions) + 1))


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(StoreError, match="not a Tokentide store"):
        Store.open(path)


def test_garbage_is_refused(tmp_path):
    path = tmp_path / "garbage.duckdb"
    path.write_bytes(b"garbage" * 5_000)
    with pytest.raises(StoreError, match="cannot open"):
        Store.open(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="cannot open"):
        Store.open(tmp_path / "nowhere" / "s.duckdb")


@pytest.mark.parametrize("name", ["events.csv", "events.json"])
def test_a_table_of_another_format_is_no_store(tmp_path, name):
    """DuckDB itself would open a database in memory: the history would be lost with the process."""
    path = tmp_path / name
    path.write_text("a\n1\n")
    with pytest.raises(StoreError, match="not a DuckDB file"):
        Store.open(path)
    assert path.read_text() == "a\n1\n"


#: What every released migration comes to, white space apart. A change of schema is a new file, never an edited one.
RELEASED = {
    1: "77e8f411f2ae365c",
    2: "c60f1e78b0aa9c68",
    3: "2c6fe879468ab57b",
    4: "78a40a9b473e8c30",
    5: "2fc78cf220e2fa04",
}


def test_released_migrations_are_never_edited():
    text = {m.version: "".join("".join(m.statements).split()) for m in MIGRATIONS}
    assert {v: hashlib.sha256(text[v].encode()).hexdigest()[:16] for v in RELEASED} == RELEASED


@pytest.fixture(scope="module")
def new_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("new") / "new.duckdb"
    with Store.open(path) as store:
        fill_with_history(store)
        return path, history_of(store)


@pytest.mark.slow
@pytest.mark.parametrize("version", [m.version for m in MIGRATIONS[:-1]])
def test_a_store_of_every_older_version_opens_and_equals_a_new_one(tmp_path, new_store, version):
    """The same windows, steps and late events, written by today's code and kept in the schema of an older version."""
    new, expected = new_store
    old = tmp_path / "old.duckdb"
    made_later = make_old_store(new, old, version)
    assert made_later or version > 3
    with Store.open(old) as store:
        assert history_of(store) == expected
    with duckdb.connect() as both:
        both.execute(f"ATTACH '{new}' AS new (READ_ONLY); ATTACH '{old}' AS old (READ_ONLY)")
        assert columns(both, "old") == columns(both, "new")
        for table in {t for t, *_ in columns(both, "new")} - NOT_COPIED:
            rows = [both.execute(f"SELECT * FROM {name}.{table} ORDER BY ALL").fetchall() for name in ("old", "new")]
            assert rows[0] == rows[1], table
            assert rows[1] or table in EMPTY, table


@pytest.mark.slow
def test_latencies_of_windows_from_before_are_of_all_statuses(tmp_path, new_store):
    make_old_store(new_store[0], tmp_path / "old.duckdb", 5)
    with Store.open(tmp_path / "old.duckdb") as store:
        older = store.cursor().execute("SELECT max(window_start) + 10 FROM windows").fetchone()
        assert store.cursor().execute("SELECT all_before FROM latency_statuses").fetchall() == [older]
    with Store.open(new_store[0]) as store:
        assert store.cursor().execute("SELECT all_before FROM latency_statuses").fetchall() == [(0,)]


#: Tables that ``fill_with_history`` has nothing for.
EMPTY = {
    "fleet_split",
    "retired_dead_letters",
    "retired_totals",
    "closed_parts",
    "event_notes",
    "calendar_changes",
    "exogenous_rows",
    "readings",
    "dead_letters",
    "alerts",
    "recommendations",
}
START = 1_700_000_400


def fill_with_history(store):
    driver = PipelineTestDriver(store, now=START + 4_000)
    events = [request_event(f"e{i}", START + i * 31.0) for i in range(130)]
    driver.produce(0, [json.dumps(event).encode() for event in events])
    driver.finish()
    for end in range(START + 60, START + 3_901, 60):
        windows = tuple(replace(w, completeness=0.9) for w in store.window_sums(end - 60, end))
        series = SeriesKey("m", "default", Signal.REQUESTS)
        forecast = Forecast(series, float(end), 300, tuple(map(float, range(8))))
        store.record_step(StepOutput(end, windows, (forecast,)))
    driver.produce(0, [json.dumps(request_event("late", START + 61.0)).encode()])
    driver.finish()


def history_of(store):
    (model, pool), *_ = store.pools()
    return [store.history(model, pool, START - 3_600, START + 7_200, grain) for grain in (10, 60, 300, 3_600)]


def test_duckdb_leaves_a_core_to_the_interpreter(tmp_path):
    wanted = max(1, duckdb.connect().execute("SELECT current_setting('threads')").fetchone()[0] - 1)
    connection = connect(tmp_path / "s.duckdb", "1GB")
    assert connection.execute("SELECT current_setting('threads')").fetchone() == (wanted,)
    assert connection.cursor().execute("SELECT current_setting('threads')").fetchone() == (wanted,)
    connection.close()
