"""What the real engine says fits the published schemas, the metric catalogue and the evidence that the board reads."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.clock import ManualClock
from pipeline.config import resources
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.publish.exporter import CAPACITY_EVIDENCE, Exporter
from pipeline.publish.json import to_json
from pipeline.publish.metric_catalogue import METRICS
from pipeline.publish.state import LiveState
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow
from tests.publish_feed import POOLS

#: All of them look at the hours of a real engine.
pytestmark = pytest.mark.slow

MINUTES = 150
START = 1_700_000_000 // 60 * 60


def _windows(at: int, random_: random.Random) -> Iterator[ClosedWindow]:
    for number, pool in enumerate(POOLS):
        rate = (14.0, 6.0, 4.0)[number] * (3.0 if number == 0 and at > START + 130 * 60 else 1.0)
        requests = round(random_.gauss(rate * 60, (rate * 60) ** 0.5))
        yield closed_window(
            at - 60,
            requests,
            model=pool.model,
            pool=pool.pool,
            input_tokens=900,
            output_tokens=240,
            e2e_milliseconds=6_500,
            current_replicas=4,
            ready_replicas=4,
        )


@pytest.fixture(scope="module")
def outputs() -> list[StepOutput]:
    advisor = Advisor(Settings(pools=POOLS))
    random_ = random.Random(3)
    steps = [START + 60 * minute for minute in range(1, MINUTES + 1)]
    return [advisor.step(StepInput(at, tuple(_windows(at, random_)))) for at in steps]


def _check(objects: list[object], name: str) -> None:
    schema = json.loads(resources.find(f"schemas/{name}.v1.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    assert objects
    for item in objects:
        validator.validate(json.loads(to_json(item)))


def test_its_words_fit_the_schemas(outputs):
    _check([r for o in outputs for r in o.recommendations], "recommendation")
    _check([a for o in outputs for a in o.alerts], "alert")
    _check([f for o in outputs[::25] for f in o.forecasts], "forecast")


def test_the_evidence_that_capacity_is_drawn_from_is_there(outputs):
    fresh = [r for r in outputs[-1].recommendations if r.state == "fresh"]
    assert fresh
    assert all(r.evidence[CAPACITY_EVIDENCE] > 0 for r in fresh)


def test_the_advice_names_what_decides_and_its_evidence_holds_it(outputs):
    advice = [r for o in outputs for r in o.recommendations if r.state == "fresh"]
    units = {"requests": "req/s", "prefill_tokens": "uncached input tokens/s", "decode_tokens": "output tokens/s"}
    units["kv_tokens"] = "resident KV tokens"
    for r in advice:
        needs = {name: r.evidence[f"replicas_needed_by_{name}"] for name in units}
        assert math.ceil(max(needs.values()) - 1e-6) == r.evidence["replicas_needed"]
        if not r.message.startswith("observed"):
            unit = units[max(needs, key=needs.get)]
            assert re.search(rf" {re.escape(unit)} .*needs {r.evidence['replicas_needed']:.0f} replica", r.message)
    assert any("req/s needs" not in r.message for r in advice), "tokens decide somewhere"


def test_its_state_is_exposed(outputs):
    clock = ManualClock(START + MINUTES * 60 + 65.0)
    live = LiveState(clock, POOLS, "hash")
    for output in outputs:
        live.update(output)
    families = text_string_to_metric_families(Exporter(live).render().decode())
    samples = [sample for family in families for sample in family.samples]
    assert all(set(sample.labels) == set(METRICS[sample.name].labels) for sample in samples)
    names = {sample.name for sample in samples}
    assert names >= {
        "tokentide_recommended_replicas",
        "tokentide_capacity_requests_per_second",
        "tokentide_capacity_tokens_per_second",
        "tokentide_capacity_kv_tokens",
        "tokentide_forecast_requests_per_second",
        "tokentide_forecast_error_ratio",
    }
