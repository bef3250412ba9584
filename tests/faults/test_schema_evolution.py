"""Newer and older emitters, and store files of earlier versions: all are read, and the result is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.migrations import MIGRATIONS
from pipeline.store.store import Store
from pipeline.testing import Oracle, PipelineTestDriver, request_event
from tests.old_stores import make_old_store

pytestmark = pytest.mark.faults


def events(oracle: Oracle, driver: PipelineTestDriver, first: int, count: int) -> list[bytes]:
    """Events of three kinds of emitters in turn."""
    values = []
    for i in range(first, first + count):
        at = driver.now - 600 + i
        event = request_event(f"e{i}", at, model=f"m{i % 2}", input_tokens=i)
        value = oracle.event(event)
        if i % 3 == 1:  # a newer emitter: fields and shapes that this version does not know
            newer: dict[str, Any] = event | {
                "speculative_tokens": 7,
                "routing": {"hops": [1, {"region": None}]},
                "Ünï": 1.5,
            }
            value = json.dumps(newer).encode()
        elif i % 3 == 2:  # an older one: required fields only, and no schema
            value = json.dumps({k: v for k, v in event.items() if k != "schema"}).encode()
        values.append(value)
    return values


def test_newer_and_older_events_count_like_those_of_today() -> None:
    with Store.open(Path(":memory:")) as store:
        driver, oracle = PipelineTestDriver(store), Oracle()
        driver.produce(0, events(oracle, driver, 0, 90))
        driver.finish()
        assert oracle.differences(store) == []


@pytest.mark.parametrize("version", [m.version for m in MIGRATIONS])
def test_a_store_file_of_every_earlier_version_opens_and_goes_on_exactly(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.duckdb"
    oracle = Oracle()
    with Store.open(tmp_path / "new.duckdb") as new:
        driver = PipelineTestDriver(new)
        driver.produce(0, events(oracle, driver, 0, 60))
        driver.finish()
    make_old_store(tmp_path / "new.duckdb", path, version)
    with Store.open(path) as store:
        driver.store = store
        driver.produce(0, events(oracle, driver, 60, 60))
        driver.finish()
        assert oracle.differences(store) == []
        (newest,) = store.cursor().execute("SELECT max(version) FROM schema_migrations").fetchone()
        assert newest == MIGRATIONS[-1].version
    copy = tmp_path / f"store.duckdb.v{version}.bak"
    assert copy.exists() == (version < MIGRATIONS[-1].version), "a copy is kept where something was changed"
