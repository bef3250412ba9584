from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.engine.types import StepOutput
from tests.publish_feed import POOLS, Feed
from tests.publish_server import Server

PREFIX = "replicas_needed_by_"


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        ({"requests": 10.2, "decode_tokens": 15.7, "kv_tokens": 3.0, "observed_requests": 15.9}, "decode_tokens"),
        ({"requests": 10.2, "decode_tokens": 15.7, "observed_requests": 16.1}, "observed_requests"),
        ({"requests": 10.2, "decode_tokens": 10.1}, "requests"),
        ({}, None),
    ],
)
def test_an_explanation_names_the_demand_that_decides(needs: dict[str, float], named: str | None) -> None:
    feed = Feed()
    feed.step(2)
    (advice, *_) = (pool.recommendation for pool in feed.live.snapshot().pools if pool.recommendation)
    evidence = {name: value for name, value in advice.evidence.items() if not name.startswith(PREFIX)}
    evidence |= {PREFIX + name: value for name, value in needs.items()}
    feed.live.update(StepOutput(feed.as_of, recommendations=(replace(advice, evidence=evidence),)))
    with Server(feed) as server:
        asked = ["recommend", "explain", advice.model, advice.pool, "--url", server.url]
        table = CliRunner().invoke(app, asked)
        data = json.loads(CliRunner().invoke(app, [*asked, "-o", "json"]).stdout)
    assert table.exit_code == 0, table.output
    said = [line.split()[-1] for line in table.stdout.splitlines() if "decided_by" in line]
    assert said == ([] if named is None else [named])
    assert {name for name in data["evidence"] if name.startswith(PREFIX)} == {PREFIX + name for name in needs}
    assert "FP8 KV cache: nothing (quality is not judged)" in table.stdout
    assert [one["setting"] for one in data["counterfactuals"]] == ["kv_precision", "max_num_seqs"]


def test_past_advice_is_told_by_pool_and_span() -> None:
    feed = Feed()
    feed.step(2)
    with Server(feed) as server:
        asked = ["recommend", "score", "--url", server.url]
        table = CliRunner().invoke(app, asked)
        data = json.loads(CliRunner().invoke(app, [*asked, "-o", "json"]).stdout)
    assert table.exit_code == 0, table.output
    assert {card["span"] for card in data["scorecards"]} == {"1d", "7d", "30d"}
    assert data["scorecards"][0]["interval_coverage_ratio"] == 0.91
    assert "91.00" in table.stdout


def test_money_is_told_per_span_and_an_old_price_is_named() -> None:
    feed = Feed()
    feed.step(2)
    with Server(feed) as server:
        asked = ["money", "--url", server.url]
        table = CliRunner().invoke(app, asked)
        data = json.loads(CliRunner().invoke(app, [*asked, "-o", "json"]).stdout)
    assert table.exit_code == 0, table.output
    assert "the price of the API of 2023-07-01 is 136 days old, more than 90" in table.stderr
    month = data["pools"][0]["spans"][-1]
    assert month["ran"]["cost"]["dollars"] == 2.0 * 2.0  # replica-hours at one GPU of $2
    # The API: 3.66M uncached at 0.50, 1.2M cached at 0.05, 1.296M output at 1.50.
    assert month["ran"]["api"]["dollars"] == pytest.approx(1.83 + 0.06 + 1.944)
    assert month["ran"]["api"]["break_even_utilisation"] == pytest.approx(0.25 * 4 / 3.834)
    assert month["savings_dollars"] == {"against_static_peak": 2.0, "against_ran": 0.0}
    assert data["pools"][0]["price"]["stale"] is False
    assert data["pools"][0]["api"]["stale"] is True


SLASHES = "meta-llama/Llama-3.3-70B-Instruct"


@pytest.mark.parametrize("command", [["recommend", "explain"], ["forecast", "show"]])
@pytest.mark.parametrize(
    ("named", "pool"),
    [
        (["llama-3.1-8b-instruct/batch"], ("llama-3.1-8b-instruct", "batch")),
        (["llama-3.1-8b-instruct", "batch"], ("llama-3.1-8b-instruct", "batch")),
        ([f"{SLASHES}/chat"], (SLASHES, "chat")),
        ([SLASHES, "chat"], (SLASHES, "chat")),
    ],
)
def test_a_pool_is_named_in_one_argument_or_two(command: list[str], named: list[str], pool: tuple[str, str]) -> None:
    feed = Feed()
    feed.step(2)
    with Server(feed) as server:
        told = CliRunner().invoke(app, [*command, *named, "--url", server.url, "-o", "json"])
    assert told.exit_code == 0, told.output
    data = json.loads(told.stdout)
    assert (data["model"], data["pool"]) == pool


def test_a_name_that_fits_two_pools_is_refused_and_one_that_fits_none_is_named() -> None:
    settings = [POOLS[2].model_copy(update={"pool": "default"}),
                POOLS[2].model_copy(update={"model": "meta-llama", "pool": "Llama-3.3-70B-Instruct"})]  # fmt: skip
    feed = Feed((settings[0],))
    feed.step(2)
    with Server(feed) as server:
        ask = ["recommend", "explain", "--url", server.url]
        alone = CliRunner().invoke(app, [*ask, SLASHES, "-o", "json"])
        unknown = CliRunner().invoke(app, [*ask, "nobody/chat"])
    assert json.loads(alone.stdout)["pool"] == "default", "the model's own slash"
    assert unknown.exit_code == 2
    assert "no pool 'chat' of model 'nobody'" in unknown.stderr
    feed = Feed(tuple(settings))
    feed.step(2)
    with Server(feed) as server:
        both = CliRunner().invoke(app, ["recommend", "explain", SLASHES, "--url", server.url])
    assert both.exit_code == 2
    assert "two arguments" in both.stderr
