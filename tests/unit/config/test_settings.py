import json
import pickle

import pytest

from pipeline.config.settings import Settings, load, to_environment
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    import os

    for name in [n for n in os.environ if n.startswith("TOKENTIDE_")]:
        monkeypatch.delenv(name)


def write(tmp_path, text):
    path = tmp_path / "tokentide.toml"
    path.write_text(text)
    return path


def test_file_environment_and_overrides_win_in_that_order(tmp_path, monkeypatch):
    path = write(tmp_path, '[kafka]\nbootstrap = "file:1"\npartitions = 3\n[publish]\nport = 1\n')
    monkeypatch.setenv("TOKENTIDE_KAFKA__BOOTSTRAP", "env:1")
    monkeypatch.setenv("TOKENTIDE_PUBLISH__PORT", "2")
    settings = load(path, publish={"port": 3})
    assert settings.kafka.bootstrap == "env:1"
    assert settings.kafka.partitions == 3
    assert settings.publish.port == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[kafka]\npartitons = 3\n", "kafka.partitons"),
        ("[nonsense]\na = 1\n", "nonsense"),
        ("[kafka]\npartitions = 0\n", "kafka.partitions"),
        ("[windows]\ngrain_seconds = 15\n", "multiple of 10"),
        ('[windows]\ndimensions = ["user"]\n', "user"),
        ('[windows]\ndimensions = ["tenant", "region", "tenant"]\n', "name a field twice"),
        ("[forecast]\ntenant_series = 4\n", "tenant_series needs 'tenant'"),
        ("[kafka\n", "not valid TOML"),
        ('[[pools]]\nmodel = "m"\n', "profile"),
        (2 * '[[pools]]\nmodel = "m"\nprofile = "p"\naccelerator = "a"\n', "twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, names):
    with pytest.raises(ConfigError, match=names):
        load(write(tmp_path, text))


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "t.toml"
    path.write_bytes(b"\xef\xbb\xbf[kafka]\r\npartitions = 7\r\n")
    assert load(path).kafka.partitions == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[kafka]\n".encode("utf-16"), "is UTF-16 text"),
        ("# Größe\n".encode("latin-1"), "is not UTF-8 text"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (bytes(100), "not valid TOML"),
    ],
)
def test_a_file_that_is_no_utf_8_text_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "t.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_unknown_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("TOKENTIDE_KAFAK__BOOTSTRAP", "x")
    with pytest.raises(ConfigError, match="TOKENTIDE_KAFAK__BOOTSTRAP"):
        load()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml")


def test_the_hash_follows_what_shapes_advice_only():
    base = load().config_hash()
    assert load(publish={"port": 1}).config_hash() == base
    assert load(windows={"grain_seconds": 30}).config_hash() != base


def test_a_child_process_gets_the_same_settings(monkeypatch):
    pool = {"model": "m/x", "profile": "llama-3.1-8b", "accelerator": "L40S", "initial_replicas": 2}
    monkeypatch.setenv("TOKENTIDE_POOLS", json.dumps([pool]))
    settings = load(
        publish={"bearer_token": "s3cret"}, store={"path": "x/y.duckdb"}, clock={"origin": 5.0, "wall_origin": 6.0}
    )
    monkeypatch.delenv("TOKENTIDE_POOLS")
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    again = load()
    assert again == settings
    assert again.publish.bearer_token.get_secret_value() == "s3cret"


def test_a_shard_is_an_ordinary_controller_with_its_own_pools():
    pools = [{"model": "m", "pool": f"p{i}", "profile": "llama-3.1-8b", "accelerator": "L40S"} for i in range(20)]
    whole = Settings(pools=pools, kafka={"shards": 3}, store={"path": "data/s.duckdb"})
    shards = [whole.for_shard(i) for i in range(3)]
    assert [s.kafka.deltas_topic for s in shards] == whole.kafka.deltas_topics()
    assert len({s.kafka.group_prefix for s in shards}) == 3
    assert [str(s.store.path) for s in shards] == [f"data/s.{i}-of-3.duckdb" for i in range(3)]
    assert sorted(p.pool for s in shards for p in s.pools) == sorted(p.pool for p in whole.pools)
    assert all(s.kafka.shards == 1 and s.kafka.requests_topic == whole.kafka.requests_topic for s in shards)
    assert all(pickle.loads(pickle.dumps(s)).pool_names() == whole.pool_names() for s in shards)
    with pytest.raises(ConfigError, match="no shard 3 of 3"):
        whole.for_shard(3)


def test_one_shard_is_the_whole():
    settings = load()
    assert settings.for_shard(0) is settings
    assert settings.kafka.deltas_topics() == [settings.kafka.deltas_topic]


def test_what_is_kept_may_be_kept_for_ever() -> None:
    century = 100 * 365 * 86_400
    assert load(store={"retention_base_seconds": century}).store.retention_base_seconds == century
    with pytest.raises(ConfigError, match=r"store\.retention_base_seconds"):
        load(store={"retention_base_seconds": 10**12})


TARGET = {"url": "http://vllm-0:8000/metrics", "model": "m"}


def test_targets_of_a_bridge_are_servers_that_count_once():
    settings = Settings(bridge={"targets": [TARGET, TARGET | {"url": "https://[::1]:1/metrics"}]})
    assert settings.bridge.targets[0].pool == "default"
    for wrong, words in (
        ([TARGET, TARGET], "named twice"),
        ([TARGET, TARGET | {"model_name": "x"}], "named twice"),
        ([TARGET | {"url": "vllm-0:8000"}], "is not an address of metrics"),
        ([TARGET | {"url": "http://u:p@vllm-0/metrics"}], "must not hold credentials"),
        ([TARGET | {"url": "http://[/"}], "is not an address of metrics"),
        ([TARGET | {"model": ""}], "at least 1 character"),
    ):
        with pytest.raises(ValueError, match=words):
            Settings(bridge={"targets": wrong})
    with pytest.raises(ValueError, match=r"scrape_seconds 40 must not exceed half of .*, 60: windows would close"):
        Settings(bridge={"targets": [TARGET], "scrape_seconds": 40})
    assert Settings(bridge={"scrape_seconds": 40}).bridge.scrape_seconds == 40  # nothing is scraped


def test_every_pool_that_has_settings_has_a_place_of_its_own(tmp_path):
    pools = "".join(
        f'[[pools]]\nmodel = "m"\npool = "{at}"\nprofile = "llama-3.1-8b"\naccelerator = "L40S"\n' for at in range(3)
    )
    for enough in ("max_pools = 3\n", "max_pools = 2\n[kafka]\nshards = 2\n"):
        assert len(load(write(tmp_path, f"[windows]\n{enough}{pools}")).pools) == 3
    with pytest.raises(ConfigError, match=r"max_pools 2 must not be less than the 3 pools .* counted under __other__"):
        load(write(tmp_path, f"[windows]\nmax_pools = 2\n{pools}"))
