"""The shared stock: terms of pools, what a change costs when not told, and what is refused with file and line."""

import pytest

from pipeline.config.settings import FleetSettings, KafkaSettings, PoolSettings, Settings
from pipeline.config.stock_file import PoolTerms, shared_stock
from pipeline.errors import InputError
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog

FILE = """\
budget_dollars_per_hour = 60

[[stock]]
name = "reserved"
gpu = "h100-sxm"
capacity_type = "reserved"
count = 8
dollars_per_gpu_hour = 2.5
price_source = "contract"
price_as_of = 2026-11-01

[[stock]]
name = "l40s"
gpu = "L40S"
count = 8

[[pools]]
model = "m"
pool = "chat"
priority = 2
gpus = ["l40s"]
"""
POOLS = tuple(
    PoolSettings(
        model="m", pool=pool, profile="llama-3.1-8b", accelerator=gpu, tensor_parallel=2, lead_time_seconds=360.0
    )
    for pool, gpu in (("chat", "H100-SXM"), ("batch", "L40S"))
)


def stock(path):
    return shared_stock(Settings(pools=POOLS, fleet=FleetSettings(stock=str(path))), Catalog())


def test_the_stock_of_the_pools(tmp_path):
    path = tmp_path / "stock.toml"
    path.write_text(FILE)
    shared = stock(path)
    assert [(line.name, line.gpu, line.count) for line in shared.stock] == [
        ("reserved", "h100-sxm", 8),
        ("l40s", "l40s", 8),
    ]
    assert shared.pools == {PoolKey("m", "chat"): PoolTerms(2, ("l40s",)), PoolKey("m", "batch"): PoolTerms()}
    assert shared.change_dollars == pytest.approx(2 * 0.1 * 2.5)  # two GPUs for six minutes at the dearest price
    assert shared.hold_hours == 1.0
    assert shared_stock(Settings(pools=POOLS), Catalog()) is None
    # It shapes no advice: snapshots stay good.
    assert Settings(pools=POOLS).config_hash() == Settings(pools=POOLS, fleet=FleetSettings(stock="x")).config_hash()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("= 60", "= 10", 1, "below the cost of the reserved stock"),
        ('"h100-sxm"', '"h999"', 3, "unknown GPU"),
        ("count = 8\ndoll", "count = -1\ndoll", 7, "greater than or equal to 0"),
        ('name = "l40s"', 'name = "reserved"', 13, "there twice"),
        ('pool = "chat"', 'pool = "other"', 17, "not one of the"),
        ("priority", "prioritty", 20, "Extra inputs"),
        ("2.5", "inf", 8, "finite"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path, old, new, line, words):
    path = tmp_path / "stock.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InputError, match=f"stock.toml, line {line}: .*{words}"):
        stock(path)


def test_shards_would_each_use_the_whole_stock():
    with pytest.raises(ValueError, match=r"fleet.stock needs kafka.shards 1"):
        Settings(fleet=FleetSettings(stock="stock.toml"), kafka=KafkaSettings(shards=2))
