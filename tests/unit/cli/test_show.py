from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from publish_feed import Feed, Server

from pipeline.advise.model import StepOutput
from pipeline.cli.main import app

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
