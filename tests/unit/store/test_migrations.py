"""Opening files: new, old, newer, foreign, broken."""

import duckdb
import pytest

from pipeline.errors import StoreError, StoreTooNew
from pipeline.store.migrations import MIGRATIONS, Migration, connect
from pipeline.store.store import Store

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
