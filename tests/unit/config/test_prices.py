"""Prices of pools: the catalogue's, the user's over it, and what is refused with file and line."""

import pytest

from pipeline.config.prices import pool_prices
from pipeline.config.settings import MoneySettings, PoolSettings, Settings
from pipeline.errors import InputError
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog

FILE = """\
[[gpus]]
gpu = "h100-sxm"
dollars_per_gpu_hour = 2.5
price_source = "contract"
price_as_of = 2026-11-01

[[pools]]
model = "m"
pool = "chat"
api = "small"

[[apis]]
name = "small"
dollars_per_million_input_tokens = 0.1
dollars_per_million_output_tokens = 0.2
price_source = "list"
price_as_of = "2026-11"
"""
POOLS = tuple(
    PoolSettings(model="m", pool=pool, profile="llama-3.1-8b", accelerator=gpu)
    for pool, gpu in (("chat", "H100-SXM"), ("batch", "A100-SXM-80GB"))
)


def prices(path=None):
    return pool_prices(
        Settings(pools=POOLS, money=MoneySettings(prices=None if path is None else str(path))), Catalog()
    )


def test_the_users_prices_win_over_the_catalogue(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    catalogue, own = prices(), prices(path)
    chat, batch = PoolKey("m", "chat"), PoolKey("m", "batch")
    assert own[batch] == catalogue[batch]
    assert catalogue[chat].api is None
    assert (own[chat].gpu.dollars_per_gpu_hour, own[chat].gpu.source) == (2.5, "contract")
    assert (own[chat].api_name, own[chat].api.as_of) == ("small", "2026-11")
    # They change no advice: snapshots stay good.
    assert Settings(pools=POOLS).config_hash() == Settings(pools=POOLS, money=MoneySettings(prices="x")).config_hash()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"h100-sxm"', '"h999"', 2, "unknown GPU"),
        ("2.5", "-2.5", 3, "greater than 0"),
        ("2.5", "nan", 3, "finite"),
        ('price_source = "contract"\n', "", 2, "needs price_source and price_as_of"),
        ('pool = "chat"', 'pool = "chatt"', 7, "m/chatt is not one of the [[pools]]"),
        ('api = "small"', 'api = "large"', 10, "api 'large' is not one of the [[apis]]"),
        ("0.1", '"cheap"', 14, "valid number"),
        ('"2026-11"', '"lately"', 17, "price_as_of"),
        ("[[apis]]", "[[apis", 12, ""),
        (
            'price_source = "list"',
            'batch_dollars_per_million_input_tokens = 1.0\nprice_source = "list"',
            12,
            "need each other",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(tmp_path, old, new, line, words):
    path = tmp_path / "prices.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InputError, match=rf"prices.toml, line {line}: ") as refused:
        prices(path)
    assert words in str(refused.value)
