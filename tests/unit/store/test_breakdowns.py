"""Breakdowns in the store: read at closing as a rollup would tell them, kept with the step, bounded, retired."""

import random
from pathlib import Path

import duckdb
import pytest

from pipeline.config.settings import StoreSettings, WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.events.codecs import native
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits
from pipeline.store.key_table import OTHER
from pipeline.store.store import Store
from pipeline.windows.breakdown import MAX_NAMED
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.rollup import rollup
from pipeline.windows.types import MEASURES, REST, Part

NOW = 1_767_225_600
DIMENSIONS = ("tenant", "region")


def delta(events, first=0, dimensions=DIMENSIONS):
    aggregator = PartitionAggregator("requests", 0, "p", EventLimits(max_age_seconds=1e9), 0, dimensions)
    values = [native.encode(event) for event in events]
    offsets = range(first, first + len(values))
    return aggregator.fold(values, offsets, [-1] * len(values), first, first + len(values), NOW + 1e6)[0]


def request(number, at=NOW, **fields):
    values = {"model": "m", "input_tokens": 10, "output_tokens": 5, "cached_input_tokens": 2, "status": "ok"}
    return RequestEvent(event_id=str(number), arrived_at=float(at), e2e_seconds=2.0, **{**values, **fields})


def mixed(count, seed=3):
    source = random.Random(seed)
    for number in range(count):
        yield request(
            number,
            NOW + source.random() * 120,
            pool="ab"[number % 2],
            tenant=source.choice([None, "", REST, "%2a;", f"t{min(source.randrange(40), source.randrange(40))}"]),
            region=source.choice([None, "eu", "us", "a|b=c", "eü\n"]),
            input_tokens=source.randrange(1_000),
            output_tokens=source.randrange(200),
            cached_input_tokens=None,
        )


@pytest.fixture
def windows():
    return WindowSettings(dimensions=DIMENSIONS)


@pytest.fixture
def store(windows):
    with Store.open(Path(":memory:"), windows=windows) as opened:
        yield opened


def test_what_the_store_tells_is_what_a_rollup_tells(store):
    events = list(mixed(2_000))
    whole = delta(events)
    store.apply([(0, 0, delta(events[:700])), (0, 1, delta(events[700:701], 700)), (0, 2, delta(events[701:], 701))])
    expected = rollup([(whole.keys, whole.rows)], 60, DIMENSIONS)
    assert store.window_sums(NOW, NOW + 60) + store.window_sums(NOW + 60, NOW + 120) == expected
    assert len(expected) == 4
    assert all(len(told.parts) > 4 for window in expected for told in window.breakdown)


def test_it_is_kept_with_the_step_and_given_back_in_order(store):
    store.apply([(0, 0, delta(list(mixed(900))))])
    steps = [StepOutput(at, tuple(store.window_sums(at - 60, at))) for at in (NOW + 60, NOW + 120)]
    silent = StepOutput(NOW + 180, tuple(store.window_sums(NOW + 120, NOW + 180)))
    store.record_steps([*steps, silent])
    assert [step.windows for step in store.closed_since(0)] == [steps[0].windows, steps[1].windows, ()]
    assert [step.windows for step in store.closed_since(NOW + 60)] == [steps[1].windows, ()]
    store.record_step(StepOutput(NOW + 240, steps[1].windows))
    assert store.last_output().windows == steps[1].windows


def test_sums_beyond_64_bits_are_kept(store):
    one, other = (delta([request(i, tenant="acme")], i) for i in range(2))
    for part in (one, other):
        part.rows.measures[MEASURES.index("input_tokens")][0] = 2**63 - 1
    store.apply([(0, 0, one), (0, 1, other)])
    step = StepOutput(NOW + 60, tuple(store.window_sums(NOW, NOW + 60)))
    (tenants, _) = step.windows[0].breakdown
    assert tenants.parts == (Part("acme", 2, 2**64 - 2, 4, 10),)
    store.record_step(step)
    assert store.last_output().windows == step.windows


def test_it_is_exported_with_its_window(store, tmp_path):
    store.apply([(0, 0, delta(list(mixed(300))))])
    windows = store.window_sums(NOW, NOW + 60)
    store.record_step(StepOutput(NOW + 60, tuple(windows)))
    (file,) = store.export_parquet(tmp_path, ("closed_parts",))
    rows = duckdb.execute(
        f"SELECT model, pool, window_start, value, requests, output_tokens FROM '{file.path}' "
        "WHERE dimension = 'tenant'"
    ).fetchall()
    assert all(type(value) is int for row in rows for value in row[4:])
    assert rows == [
        (w.model, w.pool, NOW, part.value, part.requests, part.output_tokens)
        for w in windows
        for part in w.breakdown[0].parts
    ]


def test_without_dimensions_there_is_none(tmp_path):
    with Store.open(tmp_path / "s.duckdb") as store:
        store.apply([(0, 0, delta(list(mixed(200)), dimensions=()))])
        (window, _) = store.window_sums(NOW, NOW + 60)
        assert window.breakdown == ()
        store.record_step(StepOutput(NOW + 60, (window,)))
        assert next(store.closed_since(0)).windows == (window,)
        assert store.cursor().execute("SELECT count(*) FROM closed_parts").fetchone() == (0,)


@pytest.mark.slow
def test_a_tenant_per_request_stays_bounded_and_is_counted(store):
    hostile = [request(number, tenant=f"{number:x}-{number * 7919 % 4096:x}") for number in range(5_000)]
    store.apply([(0, 0, delta([*hostile, *(request(f"a{i}", tenant="acme") for i in range(50))]))])
    (window,) = store.window_sums(NOW, NOW + 60)
    tenants, regions = window.breakdown
    assert tenants.values == 5_001
    assert len(tenants.parts) <= MAX_NAMED + 1
    assert tenants.parts[0] == Part("acme", 50, 500, 100, 250)
    assert tenants.parts[-1].value == REST
    assert sum(part.requests for part in tenants.parts) == window.requests == 5_050
    assert regions.parts == (Part(REST, 5_050, 50_500, 10_100, 25_250),)


def test_values_beyond_the_limit_of_keys_are_in_the_rest():
    with Store.open(Path(":memory:"), windows=WindowSettings(dimensions=("tenant",), max_pools=1)) as store:
        store.apply([(0, 0, delta([request(i, tenant=f"t{i}") for i in range(250)], dimensions=("tenant",)))])
        (window,) = store.window_sums(NOW, NOW + 60)
        assert window.breakdown[0].values == 100
        assert sum(part.requests for part in window.breakdown[0].parts) == 250


def test_values_that_are_over_make_room_for_new_ones():
    settings = StoreSettings(retention_base_seconds=3_600)
    with Store.open(Path(":memory:"), settings, WindowSettings(dimensions=("tenant",), max_pools=1)) as store:
        store.apply([(0, 0, delta([request(i, tenant=f"t{i}") for i in range(250)], dimensions=("tenant",)))])
        late = NOW + 7_200
        store.apply([(0, 1, delta([request("k", late, tenant="kept")], 250, ("tenant",)))])
        assert keys(store) >= {f"tenant=t{i}" for i in range(100)} | {OTHER}
        store.retain(NOW + 7_200.0)
        assert keys(store) == {"tenant=t0", OTHER}, "one key keeps the pool known, and 'kept' had to be counted so"
        more = [request(f"n{i}", late, tenant=f"n{i}") for i in range(3)]
        store.apply([(0, 2, delta([*more, request("x", late, tenant="kept")], 251, ("tenant",)))])
        (window,) = store.window_sums(late, late + 60)
        assert {part.value: part.requests for part in window.breakdown[0].parts} == {
            "n0": 1, "n1": 1, "n2": 1, "kept": 1, REST: 1,
        }  # fmt: skip
        assert store.pools() == [("m", "default")]
        ids = [row[0] for row in store.cursor().execute("SELECT key_id FROM keys").fetchall()]
        assert len(ids) == len(set(ids))


def keys(store):
    return {dims for (dims,) in store.cursor().execute("SELECT dims FROM keys").fetchall()}


def test_retention_takes_parts_with_their_windows():
    settings = StoreSettings(retention_base_seconds=60, retention_closed_seconds=3_600)
    with Store.open(Path(":memory:"), settings, WindowSettings(dimensions=DIMENSIONS)) as store:
        store.apply([(0, 0, delta(list(mixed(300))))])
        store.record_step(StepOutput(NOW + 60, tuple(store.window_sums(NOW, NOW + 60))))
        store.record_step(StepOutput(NOW + 7_200, ()))
        store.retain(NOW + 3_600.0)
        assert store.cursor().execute("SELECT count(*) > 0 FROM closed_parts").fetchone() == (True,)
        store.retain(NOW + 3_700.0)
        assert store.cursor().execute("SELECT count(*) FROM closed_parts").fetchone() == (0,)
