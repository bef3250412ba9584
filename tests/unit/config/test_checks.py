"""What is refused beyond types: each check alone, and one bad setting after the other through ``load``."""

import itertools

import duckdb
import pytest

from pipeline.config.checks import (
    check_bootstrap,
    check_forecast_grid,
    check_horizons,
    check_memory_limit,
    check_topics,
)
from pipeline.config.settings import load
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    import os

    for name in [n for n in os.environ if n.startswith("TOKENTIDE_")]:
        monkeypatch.delenv(name)


POOL = '[[pools]]\nmodel = "m"\nprofile = "llama-3.1-8b"\naccelerator = "L40S"\n'

BAD = [
    ("[forecast]\nhorizons_seconds = []", "forecast: horizons_seconds is empty"),
    ("[forecast]\nhorizons_seconds = [60, 60]", "forecast: horizons_seconds .* without repeats"),
    ("[forecast]\nhorizons_seconds = [300, 60]", r"as \[60, 300\]"),
    ("[forecast]\nhorizons_seconds = [61, 90]", r"forecast.horizons_seconds \[61, 90\] .* \[120\] would do"),
    ("[forecast]\nseason_seconds = 12345", "forecast.season_seconds 12345 .* 12360 would do"),
    ("[forecast]\nseason_seconds = 1800", "forecast: season_seconds 1800 is shorter .* 3600"),
    ("[forecast]\nhorizons_seconds = [60]\nseason_seconds = 120", "forecast.season_seconds 120 is 2 windows"),
    ("[forecast]\nseason_seconds = 1999999980", "forecast.season_seconds .* windows"),
    ("[forecast]\nseason_seconds = 3000000000", "forecast.season_seconds"),
    ("[clock]\norigin = 1e12\nwall_origin = 0.0", "clock.origin"),
    ("[stream]\nheartbeat_seconds = 1e9", "stream.heartbeat_seconds"),
    ("[windows]\ngrain_seconds = 120", r"forecast.horizons_seconds \[60, 300, 900\]"),
    ("[advise]\nfalse_alerts_per_day = 1e-320", "advise.false_alerts_per_day"),
    ('[kafka]\nbootstrap = ""', "kafka.bootstrap: no broker is named"),
    ('[kafka]\nbootstrap = "kafka:9092,:9092"', "kafka.bootstrap: ':9092'"),
    ('[kafka]\nrequests_topic = "bad topic name é"', "kafka: requests_topic 'bad topic"),
    ('[kafka]\nalerts_topic = ".."', "kafka: alerts_topic"),
    (f'[kafka]\nshards = 2\ndeltas_topic = "{"d" * 245}"', "deltas_topic of shard 0"),
    ('[kafka]\nrequests_topic = "t"\ndeltas_topic = "t"', "requests_topic and deltas_topic are both 't'"),
    (
        '[kafka]\nshards = 2\nwindows_topic = "inference.window-deltas.v1.1-of-2"',
        "windows_topic and deltas_topic of sh",
    ),
    ("[kafka]\nshards = 1025", "kafka.shards"),
    ("[kafka]\nsession_timeout_seconds = 1e7", "kafka.session_timeout_seconds"),
    ('[store]\nmemory_limit = "lots"', "store.memory_limit: .*'lots'"),
    ('[store]\npath = ""', "store.path"),
    ("[clock]\norigin = 5.0", "clock: origin needs wall_origin"),
    (POOL + "min_replicas = 5\nmax_replicas = 2", "pools.0: min_replicas 5 is above max_replicas 2"),
    (POOL + f"observed_kv_tokens = 1{'0' * 400}", "pools.0.observed_kv_tokens"),
]


@pytest.mark.parametrize(("text", "told"), BAD, ids=[told for _, told in BAD])
def test_what_cannot_work_is_refused_by_name_in_one_line(tmp_path, text, told):
    path = tmp_path / "t.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=told) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert "Value error" not in str(refused.value)


def floats():
    settings = load()
    for section, values in settings.model_dump().items():
        if isinstance(values, dict):
            fields = type(getattr(settings, section)).model_fields
            for name in values:
                if "float" in str(fields[name].annotation):
                    yield section, name
    from pipeline.config.settings import PoolSettings

    for name, field in PoolSettings.model_fields.items():
        if "float" in str(field.annotation):
            yield "pools", name


FLOATS = list(floats())


def test_there_are_floats_in_many_sections():
    assert {"kafka", "stream", "windows", "store", "advise", "reader", "clock", "pools"} <= {s for s, _ in FLOATS}


@pytest.mark.parametrize(("place", "text"), list(itertools.product(FLOATS, ("inf", "nan", "-inf"))))
def test_every_number_is_finite(tmp_path, place, text):
    section, name = place
    path = tmp_path / "t.toml"
    path.write_text((POOL if section == "pools" else f"[{section}]\n") + f"{name} = {text}\n")
    with pytest.raises(ConfigError, match=name):
        load(path)


def test_what_is_set_by_the_caller_is_checked_too():
    with pytest.raises(ConfigError, match=r"kafka\.bootstrap"):
        load(kafka={"bootstrap": " , "})
    with pytest.raises(ConfigError, match=r"forecast\.horizons_seconds"):
        load(windows={"grain_seconds": 120})
    with pytest.raises(ConfigError, match="tenant_series needs 'tenant'"):
        load(forecast={"tenant_series": 2})
    both = load(windows={"grain_seconds": 120}, forecast={"horizons_seconds": (240, 3600)})
    assert both.forecast.horizons_seconds == (240, 3600)


@pytest.mark.parametrize(
    "bootstrap",
    ["kafka:9092", "kafka", "10.0.0.1:1,b_c-d.example:65535", "a:1, b:2,", "[::1]:9092", "[fe80::1]", "::1"],
)
def test_addresses_of_brokers(bootstrap):
    check_bootstrap(bootstrap)


@pytest.mark.parametrize("bootstrap", ["", ",", "kafka:", "kafka:0", "kafka:65536", "kafka:x", "[x]:1", "a b:1", "é:1"])
def test_what_is_no_address(bootstrap):
    with pytest.raises(ValueError, match="host:port would do"):
        check_bootstrap(bootstrap)


def test_names_that_kafka_takes():
    check_topics({"a": "A-z_0.9", "b": "x" * 249, "c": "..."})
    for name in ("", ".", "..", "x" * 250, "a b", "a/b", "é", "a\n"):
        with pytest.raises(ValueError, match="is not a name for a topic"):
            check_topics({"a": name})


@pytest.mark.parametrize(
    "limit", ["2GB", "2 gb", "512MiB", "1.5GiB", ".5GB", "4MB", "80%", "4000 KB", "2T", "-1", "none"]
)
def test_memory_that_duckdb_takes(limit, tmp_path):
    check_memory_limit(limit)
    duckdb.connect(str(tmp_path / "s.duckdb"), config={"memory_limit": limit}).close()


@pytest.mark.parametrize("limit", ["lots", "", "2", "2GBx", "2PB", "1,000MB", "200%", "NaNGB", "99999999999TB"])
def test_memory_that_duckdb_does_not_take(limit, tmp_path):
    with pytest.raises(ValueError, match="would do"):
        check_memory_limit(limit)
    with pytest.raises(duckdb.Error):
        duckdb.connect(str(tmp_path / "s.duckdb"), config={"memory_limit": limit})


@pytest.mark.parametrize("limit", ["0GB", "0%", "3999999 bytes", "3.9MB", "-5GB"])
def test_too_little_memory(limit):
    with pytest.raises(ValueError, match="at least 4MB"):
        check_memory_limit(limit)


def test_horizons_and_season_at_their_limits():
    check_horizons((60,), 60)
    check_forecast_grid((60, 180), 180, 60)
    check_forecast_grid((60,), 2 * 366 * 86_400, 60)
    with pytest.raises(ValueError, match="windows"):
        check_forecast_grid((60,), 2 * 366 * 86_400 + 60, 60)
